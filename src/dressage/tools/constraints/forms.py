"""Checks of form: lengths, counts of marks, what each part looks like, order, repetition, case."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Literal, Self

from pydantic import Field, model_validator

from dressage.maths.counting import WORD
from dressage.maths.layouts import LAYOUTS
from dressage.maths.text import style_features, words
from dressage.tools.constraints.looking import Check, Help, Limited, Look, Part, clipped, named, parts

Mark = Literal[
    "commas",
    "questions",
    "exclamation_marks",
    "semicolons",
    "numbers",
    "capital_words",
    "list_items",
    "headers",
    "bold",
    "emoji",
    "tables",
    "code_blocks",
    "links",
    "placeholders",
]
NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?")


def _styled(feature: str) -> Callable[[str], int]:
    return lambda text: int(style_features(text)[feature])


def _of(pattern: str | re.Pattern[str]) -> Callable[[str], int]:
    compiled = re.compile(pattern, re.MULTILINE) if isinstance(pattern, str) else pattern
    return lambda text: sum(1 for _ in compiled.finditer(text))


MARKS: Mapping[Mark, Callable[[str], int]] = MappingProxyType(
    {
        "commas": _of(r"[,،，、]"),
        "questions": _of(r"[?？؟]+"),
        "exclamation_marks": _styled("exclamation_marks"),
        "semicolons": _of(r"[;；]"),
        "numbers": _of(NUMBER),
        "capital_words": lambda text: sum(1 for w in WORD.findall(text) if len(w) > 1 and w.isupper()),
        "list_items": lambda text: len(parts(text, "list_items")),
        "headers": _styled("headers"),
        "bold": _styled("bold"),
        "emoji": _styled("emoji"),
        "tables": _of(r"^[ \t]*\|?[ \t]*:?-{3,}:?[ \t]*(?:\|[ \t]*:?-{3,}:?[ \t]*)+\|?[ \t]*$"),
        "code_blocks": lambda text: (sum(1 for _ in re.finditer(r"^ {0,3}```", text, re.MULTILINE)) + 1) // 2,
        "links": _of(LAYOUTS["links"]),
        "placeholders": _of(LAYOUTS["placeholders"]),
    }
)
"""Mark → how often a text has it; capital words have two letters or more, a table is its line of dashes."""


class Length(Limited):
    """How long the text is."""

    check: Literal["length"]
    unit: Literal["words", "characters", "sentences", "paragraphs", "lines"] = "words"
    """What is counted. Words joined by hyphens are one; lines and paragraphs are those that are not blank."""

    def look(self, text: str, help: Help) -> Look:
        if self.unit == "characters":
            count, others = len(text), {"without blanks": len("".join(text.split()))}
        else:
            count = len(parts(text, self.unit))
            others = {"with each part of a hyphenated word": len(words(text)), "between blanks": len(text.split())}
            others = others if self.unit == "words" else {}
        passed = self.within(count)
        # Which way of counting was meant is not ours to say; where it matters, the judge must know that it does.
        differ = [f"{n} {how}, which {_would(passed)}" for how, n in others.items() if self.within(n) != passed]
        doubt = f" ({'; '.join(differ)})" if differ else ""
        unit = f"{count} characters" if self.unit == "characters" else named(count, self.unit)
        return Look(passed, f"{unit}, wanted {self.wanted()}{doubt}", count)


def _would(passed: bool) -> str:
    return "would not hold" if passed else "would hold"


class Count(Limited):
    """How often the text has a mark."""

    check: Literal["count"]
    what: Mark
    """What is counted; `commas` with most 0 means no commas. `capital_words` are in capitals throughout."""

    def look(self, text: str, help: Help) -> Look:
        count = MARKS[self.what](text)
        return Look(self.within(count), f"{self.what.replace('_', ' ')}: {count}, wanted {self.wanted()}", count)


class Each(Limited):
    """Every part of the text is so many words long."""

    check: Literal["each"]
    of: Literal["sentences", "paragraphs", "lines", "list_items"]
    """The parts that are looked at; a text without any does not pass."""

    def look(self, text: str, help: Help) -> Look:
        found = parts(text, self.of)
        lengths = [len(parts(part, "words")) for part in found]
        wrong = [(part, n) for part, n in zip(found, lengths, strict=True) if not self.within(n)]
        said = f"{named(len(found), self.of)}, each of {self.wanted()} words wanted"
        if wrong:
            said += f"; {len(wrong)} not so, the first has {wrong[0][1]}: {clipped(wrong[0][0])}"
        return Look(bool(found) and not wrong, said, [*lengths])


class Sorted(Check):
    """The parts of the text stand in order."""

    check: Literal["sorted"]
    of: Literal["lines", "list_items"] = "list_items"
    """The parts that are compared."""
    by: Literal["alphabet", "number"] = "alphabet"
    """By their letters without regard to case, or by the first number in each."""
    descending: bool = False
    """True: from the last to the first."""

    def look(self, text: str, help: Help) -> Look:
        found = parts(text, self.of)
        if len(found) < 2:
            return Look(None, f"{named(len(found), self.of)}: there is no order to look at")
        keys = [(0.0, " ".join(words(part))) for part in found]
        if self.by == "number":
            first = [NUMBER.search(part) for part in found]
            lacking = [part for part, number in zip(found, first, strict=True) if number is None]
            if lacking:
                return Look(None, f"there is no number in {clipped(lacking[0])}")
            keys = [(float(number[0].replace(",", "")), "") for number in first if number]
        for at, (a, b) in enumerate(pairwise(keys)):
            if b > a if self.descending else b < a:
                return Look(False, f"{clipped(found[at])} stands before {clipped(found[at + 1])}")
        return Look(True, f"{named(len(found), self.of)} in order")


class Distinct(Check):
    """No part of the text is there twice."""

    check: Literal["distinct"]
    of: Part = "list_items"
    """The parts that must differ, without regard to case."""

    def look(self, text: str, help: Help) -> Look:
        found = Counter(" ".join(part.casefold().split()) for part in parts(text, self.of))
        twice = [part for part, n in found.items() if n > 1]
        said = f"{clipped(twice[0])} is there {found[twice[0]]} times" if twice else "none is there twice"
        return Look(not twice, f"{named(found.total(), self.of)}: {said}", [*twice[:20]])


class Case(Check):
    """The letters of the text are all small, or all capital."""

    check: Literal["case"]
    style: Literal["lower", "upper"]
    """`lower`: no capital letter; `upper`: no small letter."""

    def look(self, text: str, help: Help) -> Look:
        wrong = [c for c in text if (c.isupper() if self.style == "lower" else c.islower())]
        letters = sum(c.isalpha() for c in text)
        said = f"{len(wrong)} of {letters} letters are not {self.style} case"
        return Look(not wrong and letters > 0, said, len(wrong))


class Format(Check):
    """The text has none of some layouts: plain prose has none of any."""

    check: Literal["plain"]
    without: tuple[Literal["headers", "lists", "emphasis", "tables", "code", "links", "placeholders", "emoji"], ...] = (
        Field(("headers", "lists", "emphasis", "tables", "code"), min_length=1)
    )
    """What must not be there; `placeholders` are left-over gaps such as [Your Name]."""

    @model_validator(mode="after")
    def _once(self) -> Self:
        if len(set(self.without)) < len(self.without):
            raise ValueError("`without` names a layout twice")
        return self

    def look(self, text: str, help: Help) -> Look:
        found = {layout: match[0] for layout in self.without if (match := LAYOUTS[layout].search(text))}
        said = "; ".join(f"{layout}: {clipped(mark)}" for layout, mark in found.items())
        return Look(not found, said or f"none of {', '.join(self.without)}", [*found])


FormCheck = Length | Count | Each | Sorted | Distinct | Case | Format
