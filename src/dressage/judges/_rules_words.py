"""Rules about the words of a reply: phrases it holds or avoids, whom it addresses, how concrete it is."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from dressage.judges._numbers import window
from dressage.maths import counting
from dressage.records import Frozen

Share = Annotated[float, Field(ge=0, le=1)]


def _compiles(pattern: str) -> str:
    try:
        compiled(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
    return pattern


def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern of the YAML, without regard to case; `re` keeps what it has compiled."""
    return re.compile(pattern, re.IGNORECASE | re.MULTILINE)


def _says_something(phrase: str) -> str:
    if not counting.plain(phrase):
        raise ValueError("an empty phrase is found in every text; leave it out")
    return phrase


Phrase = Annotated[str, AfterValidator(_says_something)]
Pattern = Annotated[str, AfterValidator(_compiles)]

YOU = frozenset(["you", "your", "yours", "yourself", "yourselves", "you're", "you'll", "you've", "you'd"])

_CONCRETE = """
second seconds minute minutes hour hours today tonight tomorrow day days week weeks month months year years monday
tuesday wednesday thursday friday saturday sunday morning afternoon evening noon midnight first third next then
finally step steps call email write send open click select choose check enter download install restart update
reply visit ask bring sign order refund replace return cancel confirm contact schedule book
"""
CONCRETE = tuple(_CONCRETE.split())
"""Times, steps and imperative verbs of service and how-to replies; `words:` puts your own in their place."""


class MustContain(Frozen):
    """The reply holds given phrases (whole words, any case) or regular expressions."""

    rule: Literal["must_contain"]
    phrases: tuple[Phrase, ...] = ()
    """Phrases to find, as they are."""
    patterns: tuple[Pattern, ...] = ()
    """Regular expressions to find."""
    need: Literal["any", "all", "share"] = "any"
    """`any`: 1 if one is there; `all`: 1 if each is there; `share`: the share that is there."""

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        _needs_entries(self.phrases, self.patterns)
        return self

    def lexicon(self) -> tuple[str, ...]:
        return (*self.phrases, *self.patterns)

    def score(self, reply: str, prompt: str) -> float:
        found = _found(reply, self.phrases, self.patterns)
        return {"any": float(any(found)), "all": float(all(found)), "share": sum(found) / len(found)}[self.need]


class MustNotContain(Frozen):
    """The reply holds none of the given phrases (whole words, any case) or regular expressions."""

    rule: Literal["must_not_contain"]
    phrases: tuple[Phrase, ...] = ()
    """Phrases to avoid, as they are."""
    patterns: tuple[Pattern, ...] = ()
    """Regular expressions to avoid."""
    forgives: Literal["nothing", "share"] = "nothing"
    """`nothing`: 0 as soon as one is there; `share`: the share of entries that is not there."""

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        _needs_entries(self.phrases, self.patterns)
        return self

    def lexicon(self) -> tuple[str, ...]:
        return (*self.phrases, *self.patterns)

    def score(self, reply: str, prompt: str) -> float:
        found = _found(reply, self.phrases, self.patterns)
        return float(not any(found)) if self.forgives == "nothing" else 1 - sum(found) / len(found)


class Opening(Frozen):
    """The reply starts with one of the wanted phrases, or with none of the unwanted ones."""

    rule: Literal["opening"]
    wanted: tuple[Phrase, ...] = ()
    """Openers of which one must be there; empty: any opener will do."""
    unwanted: tuple[Phrase, ...] = ()
    """Openers that must not be there."""

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        _needs_entries(self.wanted, self.unwanted)
        return self

    def lexicon(self) -> tuple[str, ...]:
        return (*self.wanted, *self.unwanted)

    def score(self, reply: str, prompt: str) -> float:
        text = counting.plain(reply).lstrip("\"'*_#> ")
        starts = {p: bool(counting.phrase(p).match(text)) for p in self.lexicon()}
        greeted = not self.wanted or any(starts[p] for p in self.wanted)
        return float(greeted and not any(starts[p] for p in self.unwanted))


class Asks(Frozen):
    """The reply asks a fitting number of questions."""

    rule: Literal["question"]
    least: int = Field(0, ge=0)
    """It must ask at least this many."""
    most: int | None = Field(None, ge=0)
    """It may ask at most this many; null: any number."""

    @model_validator(mode="after")
    def _open(self) -> Self:
        if self.most is not None and self.least > self.most:
            raise ValueError(f"no reply asks at least {self.least} and at most {self.most} questions")
        if self.least == 0 and self.most is None:
            raise ValueError("set `least` or `most`: as it stands every reply passes")
        return self

    def score(self, reply: str, prompt: str) -> float:
        return window(len(re.findall(r"[?？؟]+", reply)), self.least, self.most)


class SecondPerson(Frozen):
    """The reply addresses its reader: the share of its words that are a form of `you` lies in a window."""

    rule: Literal["second_person"]
    least: Share = 0.03
    """The smallest share that scores 1."""
    most: Share = 0.2
    """The largest share that scores 1."""
    slack: Share = 0.03
    """How far outside the window the score falls linearly to 0."""

    def score(self, reply: str, prompt: str) -> float:
        found = counting.words(reply)
        return window(sum(w in YOU for w in found) / max(1, len(found)), self.least, self.most, self.slack)


class PromptOverlap(Frozen):
    """The reply takes up the prompt without echoing it: the share of the prompt's content words it uses."""

    rule: Literal["prompt_overlap"]
    least: Share = 0.1
    """The smallest share that scores 1."""
    most: Share = 0.8
    """The largest share that scores 1."""
    slack: Share = 0.1
    """How far outside the window the score falls linearly to 0."""

    def score(self, reply: str, prompt: str) -> float:
        asked = counting.content_words(prompt)
        if not asked:
            return 1.0  # nothing to take up, for every reply to this prompt alike
        shared = len(asked & counting.content_words(reply)) / len(asked)
        return window(shared, self.least, self.most, self.slack)


class Concreteness(Frozen):
    """The reply is concrete: enough of its words are numbers, times, steps or verbs of a list."""

    rule: Literal["concreteness"]
    words: tuple[Phrase, ...] = CONCRETE
    """Single words that count as concrete, beside whatever holds a digit."""
    least: Share = 0.06
    """The smallest share that scores 1; below it the score falls linearly to 0 at none."""

    def lexicon(self) -> tuple[str, ...]:
        return self.words

    def score(self, reply: str, prompt: str) -> float:
        found, listed = counting.words(reply), {w.casefold() for w in self.words}
        concrete = sum(w in listed or any(c.isdigit() for c in w) for w in found)
        return window(concrete / max(1, len(found)), self.least, None, self.least)


def _found(reply: str, phrases: tuple[str, ...], patterns: tuple[str, ...]) -> list[bool]:
    text = counting.plain(reply)
    literal = [bool(counting.phrase(p).search(text)) for p in phrases]
    return literal + [bool(compiled(p).search(reply)) for p in patterns]


def _needs_entries(*lists: tuple[str, ...]) -> None:
    if not any(lists):
        raise ValueError("the rule has an empty list: give it at least one entry")


LexicalRule = MustContain | MustNotContain | Opening | Concreteness
WordRule = LexicalRule | Asks | SecondPerson | PromptOverlap
