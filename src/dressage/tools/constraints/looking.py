"""What a check finds, and the few things all checks share: parts of a text, and numbers between two limits."""

import re
from typing import Literal, NamedTuple, Self

from pydantic import Field, JsonValue, model_validator

from dressage.maths import counting
from dressage.tools._calling import Arguments, Deadline

Part = Literal["words", "sentences", "paragraphs", "lines", "list_items"]
BLANK_LINE = re.compile(r"\n[^\S\n]*\n")
ITEM = re.compile(r"^[ \t]*(?:[-*+•]|\(?\d{1,3}[.)])[ \t]+(?=\S)(.+)$", re.MULTILINE)
RULE_LINE = re.compile(r"[-*_ \t]+")


class Look(NamedTuple):
    """What a check found; `passed` is null where it cannot be decided, which is neither yes nor no."""

    passed: bool | None
    said: str
    found: JsonValue = None


class Help(NamedTuple):
    """What a check is handed beside the text."""

    deadline: Deadline
    sure: float
    """The smallest probability of a language that decides."""


class Check(Arguments):
    """The base of every check: `check` says which, `look` does it."""

    check: str

    def look(self, text: str, help: Help) -> Look:
        raise NotImplementedError


class Limited(Check):
    """A check of a number."""

    least: int | None = Field(None, ge=0)
    """At least so many."""
    most: int | None = Field(None, ge=0)
    """At most so many; the same as `least` for exactly so many."""

    @model_validator(mode="after")
    def _limits(self) -> Self:
        if self.least is None and self.most is None:
            raise ValueError("give `least`, `most` or both: as it stands every text passes")
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"no number is at least {self.least} and at most {self.most}")
        return self

    def within(self, number: int) -> bool:
        return (self.least is None or number >= self.least) and (self.most is None or number <= self.most)

    def wanted(self) -> str:
        """`exactly 3`, `3 to 5`, `at least 3`, `at most 5`."""
        if self.least == self.most:
            return f"exactly {self.least}"
        if self.least is None:
            return f"at most {self.most}"
        return f"at least {self.least}" if self.most is None else f"{self.least} to {self.most}"


def parts(text: str, of: Part) -> list[str]:
    """The words, sentences (see maths.counting), paragraphs (between blank lines), lines or list items of a text."""
    match of:
        case "words":
            return counting.words(text)
        case "sentences":
            return counting.sentence_texts(text)
        case "paragraphs":
            blocks = [block.strip() for block in BLANK_LINE.split(text)]
            return [block for block in blocks if block and not RULE_LINE.fullmatch(block)]
        case "lines":
            return [line.strip() for line in text.splitlines() if line.strip()]
        case "list_items":
            return [item.strip() for item in ITEM.findall(text) if not RULE_LINE.fullmatch(item)]


def named(number: int, of: Part) -> str:
    """`1 list item`, `3 words`."""
    word = of.replace("_", " ")
    return f"{number} {word if number != 1 else word[:-1]}"


def clipped(text: str, most: int = 60) -> str:
    """A text within a sentence of ours: one line, in quotes, cut."""
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= most else flat[:most] + "…")
