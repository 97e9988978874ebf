"""Rules about the form of a reply: its length, ending, layout, readability, repetition, script."""

import string
import unicodedata
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dressage.judges._numbers import window
from dressage.maths import counting
from dressage.maths.layouts import LAYOUTS, Layout
from dressage.records import Frozen

Share = Annotated[float, Field(ge=0, le=1)]

CLOSING = "\"'”’»)]}*_`~ \t\n"
SENTENCE_MARKS = ".!?…。！？؟।"


class LengthWindow(Frozen):
    """The reply's length lies in a window, in words, sentences or characters."""

    rule: Literal["length_window"]
    unit: Literal["words", "sentences", "characters"] = "words"
    """What is counted."""
    least: int = Field(0, ge=0)
    """The shortest length that scores 1."""
    most: int | None = Field(None, ge=0)
    """The longest length that scores 1; null: no end."""
    slack: float = Field(0.0, ge=0)
    """How far outside the window the score falls linearly to 0; 0 makes the edges hard."""

    @model_validator(mode="after")
    def _open(self) -> Self:
        _in_order(self.least, self.most)
        return self

    def score(self, reply: str, prompt: str) -> float:
        if self.unit == "words":
            count = len(counting.words(reply))
        else:
            count = counting.sentences(reply) if self.unit == "sentences" else len(reply)
        return window(count, self.least, self.most, self.slack)


class EndsCleanly(Frozen):
    """The reply ends with sentence punctuation (closing quotes and a last emoji may follow)."""

    rule: Literal["ends_cleanly"]

    def score(self, reply: str, prompt: str) -> float:
        end = len(reply)
        while end and (reply[end - 1] in CLOSING or unicodedata.category(reply[end - 1]) in ("So", "Sk")):
            end -= 1
        return float(end > 0 and reply[end - 1] in SENTENCE_MARKS)


class Format(Frozen):
    """The reply is plain prose: none of the forbidden layouts appears in it."""

    rule: Literal["format"]
    without: tuple[Layout, ...] = ("headers", "lists", "emphasis", "tables", "code", "placeholders")
    """What must not appear; `placeholders` are left-over gaps such as [Your Name]."""

    def score(self, reply: str, prompt: str) -> float:
        return float(not any(LAYOUTS[layout].search(reply) for layout in self.without))


class Readability(Frozen):
    """The Flesch reading ease lies in a window (60–70 is plain English, higher is easier)."""

    rule: Literal["readability"]
    least: float = Field(50.0, ge=-500, le=210)
    """The hardest text that scores 1."""
    most: float | None = Field(None, ge=-500, le=210)
    """The easiest text that scores 1; null: no end."""
    slack: float = Field(20.0, ge=0)
    """How far outside the window the score falls linearly to 0."""

    @model_validator(mode="after")
    def _open(self) -> Self:
        _in_order(self.least, self.most)
        return self

    def score(self, reply: str, prompt: str) -> float:
        ease = counting.reading_ease(reply)
        return 0.0 if ease is None else window(ease, self.least, self.most, self.slack)


class Repetition(Frozen):
    """The reply does not repeat itself: its bigrams are distinct and no long stretch recurs."""

    rule: Literal["repetition"]
    distinct_2: Share = 0.85
    """The smallest share of distinct bigrams that scores 1."""
    slack: Share = 0.2
    """How far below that share the score falls linearly to 0."""
    longest: int = Field(8, ge=1)
    """More words than this said twice in the same order score 0."""

    def score(self, reply: str, prompt: str) -> float:
        found = counting.words(reply)
        if counting.repeats(found, self.longest + 1):
            return 0.0
        return window(counting.distinct(found, 2), self.distinct_2, None, self.slack)


class Language(Frozen):
    """The reply's letters are of one script."""

    rule: Literal["language"]
    script: Literal["ascii", "latin", "cyrillic", "greek", "arabic", "hebrew", "devanagari", "cjk", "hangul"] = "ascii"
    """The script wanted; `ascii` is latin without accents, `cjk` are Chinese characters."""
    share: Share = 0.95
    """The smallest share of letters in that script that scores 1."""
    slack: Share = 0.0
    """How far below that share the score falls linearly to 0."""

    def score(self, reply: str, prompt: str) -> float:
        letters = [c for c in reply if c.isalpha()]
        if not letters:
            return 0.0
        if self.script == "ascii":
            inside = sum(c in string.ascii_letters for c in letters)
        else:
            inside = sum(unicodedata.name(c, "").startswith(self.script.upper()) for c in letters)
        return window(inside / len(letters), self.share, None, self.slack)


def _in_order(least: float, most: float | None) -> None:
    if most is not None and least > most:
        raise ValueError(f"the window from {least:g} to {most:g} is empty: `least` must not exceed `most`")


FormRule = LengthWindow | EndsCleanly | Format | Readability | Repetition | Language
