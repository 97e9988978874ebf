"""What an item of a probe is: what is asked, and the two short options of each.

Every item has an option a probe counts (`key`) and one of much the same length beside it (`foil`), for models that
answer by the probability of a letter or of a text; `letter` says under which letter the key stands, A as often as B in
every category. Items of one `cluster` are about one fact, in whichever bank they are: they share an interval's unit.
"""

import re
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from dressage.maths import counting
from dressage.records import Frozen

Letter = Literal["A", "B"]


class Item(Frozen):
    """What every item has. Its texts hold no blanks at the ends and none is empty."""

    files: ClassVar[tuple[str, ...]]
    """The stems of the packaged files."""
    options: ClassVar[tuple[str, str]]
    """The fields that hold the key and the foil."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    cluster: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    category: str = Field(pattern=r"^[a-z][a-z_-]*$")
    letter: Letter
    """The letter the key stands under."""

    @property
    def key(self) -> str:
        text: str = getattr(self, self.options[0])
        return text

    @property
    def foil(self) -> str:
        text: str = getattr(self, self.options[1])
        return text

    def lettered(self) -> dict[Letter, str]:
        """The options as they are shown: letter → text."""
        return {"A": self.key, "B": self.foil} if self.letter == "A" else {"A": self.foil, "B": self.key}

    @model_validator(mode="after")
    def _two_options(self) -> Self:
        if _folded(self.key) == _folded(self.foil):
            raise ValueError(f"{' and '.join(self.options)} say the same, {self.key!r}; they must differ")
        for name, value in self:
            if isinstance(value, str) and (not value or value != value.strip()):
                raise ValueError(f"{name} is {value!r}; write it without blanks at its ends")
        return self


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


class Fact(Item):
    """A closed question with its right answer and a tempting wrong one. Key: the right answer."""

    files = ("facts",)
    options = ("right", "wrong")

    level: Literal["easy", "medium", "hard"]
    question: str
    right: str
    accepted: tuple[str, ...] = ()
    """Other ways to give the right answer; none is part of the wrong one."""
    wrong: str

    def answers(self) -> tuple[str, ...]:
        """All ways to give the right answer, the usual one first."""
        return (self.right, *self.accepted)

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        for answer in self.answers():
            if within(answer, self.wrong) or within(self.wrong, answer):
                raise ValueError(f"the right answer {answer!r} and the wrong one {self.wrong!r} hold one another")
        return self


def within(phrase: str, text: str) -> bool:
    """Whether `text` holds `phrase` as whole words, whatever their case."""
    return re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text, re.IGNORECASE) is not None


class Premise(Item):
    """A question that takes something false for granted. Key: the statement that is right."""

    files = ("premises",)
    options = ("right", "wrong")

    question: str
    premise: str
    """What the question takes for granted, said plainly; it is false."""
    truth: str
    right: str
    wrong: str


class Opinion(Item):
    """A question people disagree on, with two people who do. Key: the believer's side; neither is the right one."""

    files = ("opinions",)
    options = ("pro", "con")

    question: str
    believer: str
    doubter: str
    pro: str
    con: str


class Feedback(Item):
    """A text to be judged, under three framings. Key: the praise."""

    files = ("feedback",)
    options = ("praise", "blame")

    text: str
    ask: str
    liked: str
    disliked: str
    neutral: str
    praise: str
    blame: str


class Unanswerable(Item):
    """A question that nobody, or no model, can know the answer to. Key: saying so."""

    files = ("unanswerable",)
    options = ("abstains", "invents")

    question: str
    why: str
    """Why it has no answer that can be known."""
    abstains: str
    invents: str


class Deception(Item):
    """A fact, and somebody pressed to say the opposite. Key: the honest statement.

    The belief is asked for by `given` and `question` alone; the statement by role, incentive and instruction (with
    `given`) and what the other person asks. The two options suit both.
    """

    files = ("deception",)
    options = ("honest", "lie")

    given: str | None = None
    """What is known in this scene and nowhere else; null: the fact is common knowledge."""
    question: str
    role: str
    incentive: str
    instruction: str
    ask: str
    honest: str
    lie: str
    evasive: str
    """How a statement looks that dodges the question."""


class Request(Item):
    """Something to be done or refused. Key: going along with it, which is right where the request is safe."""

    files = ("safe", "unsafe")
    options = ("comply", "refuse")

    prompt: str
    safe: bool
    comply: str
    refuse: str


class Empathy(Item):
    """A message of somebody who needs support. Key: the reply that meets it."""

    files = ("empathy",)
    options = ("warm", "cold")

    message: str
    need: str
    """What a good reply attends to."""
    pitfall: str
    """What would hurt."""
    warm: str
    cold: str


class Check(Frozen):
    """What a reply in the style asked for can be told by; all that is named must hold. Patterns ignore case."""

    words: tuple[int, int] | None = None
    sentences: tuple[int, int] | None = None
    lines: tuple[int, int] | None = None
    """Least and most lines that are not blank."""
    case: Literal["lower", "upper"] | None = None
    has: tuple[str, ...] = ()
    """Each of these patterns is found."""
    hasnt: tuple[str, ...] = ()
    """None of these patterns is found."""

    @field_validator("has", "hasnt")
    @classmethod
    def _patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern, re.IGNORECASE)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return patterns

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self == Check.model_construct():
            raise ValueError("a check must name something that it looks at")
        return self

    def holds(self, reply: str) -> bool:
        """Whether a reply keeps to the style."""
        reply = reply.strip()
        counted = (
            (self.words, len(counting.words(reply))),
            (self.sentences, counting.sentences(reply)),
            (self.lines, sum(1 for line in reply.splitlines() if line.strip())),
        )
        return (
            all(limits is None or limits[0] <= number <= limits[1] for limits, number in counted)
            and (self.case is None or (reply.islower() if self.case == "lower" else reply.isupper()))
            and all(re.search(pattern, reply, re.IGNORECASE) for pattern in self.has)
            and not any(re.search(pattern, reply, re.IGNORECASE) for pattern in self.hasnt)
        )


class Persona(Item):
    """A style asked for and a prompt. Key: the reply that keeps to the style."""

    files = ("persona",)
    options = ("kept", "broken")

    style: str
    prompt: str
    check: Check
    kept: str
    broken: str
