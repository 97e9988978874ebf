"""Checks of words: phrases that must or must not be there, how often, where, in which order; patterns."""

import unicodedata
from typing import Annotated, Literal

import regex
from pydantic import AfterValidator, Field

from dressage.maths.counting import STRAIGHT, phrase, plain
from dressage.tools._calling import ToolError
from dressage.tools.constraints.looking import Check, Help, Limited, Look, clipped, parts


def _says_something(text: str) -> str:
    if not plain(text):
        raise ValueError("an empty phrase is found in every text; leave it out")
    return text


Phrase = Annotated[str, Field(max_length=500), AfterValidator(_says_something)]
OPENING = "\"'“‘«*_#>`~ \t\n"
CLOSING = "\"'”’»*_`~ \t\n"


def exactly(text: str) -> str:
    """A text as exact phrases are looked for in it: letters as they are, straight quotes, single blanks."""
    return " ".join(unicodedata.normalize("NFC", text).translate(STRAIGHT).split())


class Phrases(Check):
    """Which of some phrases the text has."""

    check: Literal["phrases"]
    phrases: tuple[Phrase, ...] = Field(min_length=1, max_length=50)
    """Phrases that are looked for as whole words, without regard to case."""
    need: Literal["all", "any", "none"] = "all"
    """All of them must be there, at least one, or none."""

    def look(self, text: str, help: Help) -> Look:
        where = plain(text)
        there = [p for p in self.phrases if phrase(p).search(where)]
        missing = [p for p in self.phrases if p not in there]
        passed = {"all": not missing, "any": bool(there), "none": not there}[self.need]
        said = f"there: {_list(there)}; not there: {_list(missing)}; wanted {self.need}"
        return Look(passed, said, {"there": [*there], "missing": [*missing]})


class Occurs(Limited):
    """How often the text has a phrase or some letters."""

    check: Literal["occurs"]
    phrase: Phrase
    """What is counted, without regard to case."""
    inside_words: bool = False
    """True: also inside words, so `e` counts each letter e."""

    def look(self, text: str, help: Help) -> Look:
        where, wanted = plain(text), plain(self.phrase)
        count = where.count(wanted) if self.inside_words else len(phrase(self.phrase).findall(where))
        return Look(self.within(count), f"{clipped(self.phrase)}: {count} times, wanted {self.wanted()}", count)


class Starts(Check):
    """How the text, or one of its paragraphs, begins."""

    check: Literal["starts"]
    phrase: Phrase
    """What it must begin with, as whole words; marks and quotes before it do not count."""
    paragraph: int = Field(1, ge=1, le=1000)
    """The paragraph that must begin so; 1 is the beginning of the text."""
    exact: bool = False
    """True: capitals and small letters must be the same too."""

    def look(self, text: str, help: Help) -> Look:
        blocks = parts(text, "paragraphs")
        if len(blocks) < self.paragraph:
            return Look(False, f"there is no paragraph {self.paragraph}, only {len(blocks)}")
        block = blocks[self.paragraph - 1].lstrip(OPENING)
        passed = bool(phrase(self.phrase).match(plain(block)))
        if self.exact:
            passed = passed and exactly(block).startswith(exactly(self.phrase))
        return Look(passed, f"paragraph {self.paragraph} begins {clipped(block)}", block[:80])


class Ends(Check):
    """How the text ends."""

    check: Literal["ends"]
    phrase: Phrase
    """What it must end with; quotes and marks of emphasis after it do not count."""
    exact: bool = False
    """True: capitals and small letters must be the same too."""

    def look(self, text: str, help: Help) -> Look:
        end = text.rstrip(CLOSING)
        how = exactly if self.exact else plain
        passed = how(end).endswith(how(self.phrase.rstrip(CLOSING)))
        return Look(passed, f"it ends {clipped(end[-60:])}", end[-80:])


class InOrder(Check):
    """Phrases come one after the other."""

    check: Literal["in_order"]
    phrases: tuple[Phrase, ...] = Field(min_length=2, max_length=50)
    """Phrases in the order wanted, as whole words, without regard to case."""

    def look(self, text: str, help: Help) -> Look:
        where, at = plain(text), 0
        for wanted in self.phrases:
            found = phrase(wanted).search(where, at)
            if found is None:
                elsewhere = "before the one it should follow" if phrase(wanted).search(where) else "nowhere"
                return Look(False, f"{clipped(wanted)} comes {elsewhere}")
            at = found.end()
        return Look(True, "all are there in this order")


class Matches(Check):
    """The text, or a part of it, has a pattern."""

    check: Literal["matches"]
    pattern: str = Field(min_length=1, max_length=500)
    """A regular expression (Python's), such as `\\d{4}-\\d{2}-\\d{2}`; ^ and $ stand for the ends of lines."""
    whole: bool = False
    """True: the whole text must match, without blanks around it; false: some part of it."""
    times: int | None = Field(None, ge=0)
    """Exactly so many matches; null: at least one."""

    def look(self, text: str, help: Help) -> Look:
        pattern = compiled(self.pattern)
        try:
            if self.whole:
                found = [m[0] for m in [pattern.fullmatch(text.strip(), timeout=help.deadline.left() + 0.01)] if m]
            else:
                found = [m[0] for m in pattern.finditer(text, timeout=help.deadline.left() + 0.01)]
        except TimeoutError:
            raise ToolError(
                f"the pattern {clipped(self.pattern)} takes too long on this text", why="deadline"
            ) from None
        passed = len(found) == self.times if self.times is not None else bool(found)
        first = f", the first {clipped(found[0])}" if found else ""
        return Look(passed, f"{len(found)} matches{first}", len(found))


def compiled(pattern: str) -> "regex.Pattern[str]":
    """A pattern that was handed over.

    Raises:
        ToolError: it is no regular expression.
    """
    try:
        return regex.compile(pattern, regex.MULTILINE)
    except (regex.error, RecursionError, OverflowError) as error:
        raise ToolError(f"{clipped(pattern)} is no regular expression: {error}", why="arguments") from None


def _list(phrases: list[str]) -> str:
    return (
        ", ".join(map(clipped, phrases[:10])) + (f" and {len(phrases) - 10} more" if len(phrases) > 10 else "") or "-"
    )


WordCheck = Phrases | Occurs | Starts | Ends | InOrder | Matches
