"""A weighted rubric: each criterion is a rule, or one question to a model; score = Σ w c / Σ w.

Every criterion is asked by itself (independent judgements suit small judges), after the same prompt and
reply, so a model that caches prefixes reads those once. One criterion unread leaves the reply ungraded.
"""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dressage.judges import _fences as fences
from dressage.judges._checks import Rule, all_named, marked, some_weight, substance_of
from dressage.judges._numbers import weighted_mean
from dressage.judges._verdicts import expected, label_shares, reads_by_labels, verdict_line
from dressage.protocols import Answer, Chat, JudgeSettings, JudgeTools, Labels, Question, Rating, Unreadable
from dressage.records import Ballot, Frozen, Message

YES_NO = ("Yes", "No")


class Criterion(Frozen):
    """One thing that counts: a rule (`check`) or a question to the judge's model (`ask`)."""

    name: str = ""
    """What it is called in the grade; empty: its rule's kind, or its question."""
    weight: float = Field(1.0, ge=0, le=1000)
    """Its share in the score, relative to the others; 0 records it without counting it."""
    check: Rule | None = None
    """A rule that needs no model."""
    ask: str | None = Field(None, min_length=1)
    """A question with the answers yes and no, or those in `choices`."""
    choices: tuple[str, ...] = Field((), max_length=26)
    """Ordered answers from worst to best; they are worth 0, …, 1 in equal steps. Empty: yes or no."""
    good: Literal["yes", "no"] = "yes"
    """Which answer to a yes-or-no question is worth 1."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.check is None) == (self.ask is None):
            raise ValueError("a criterion has either `check` (a rule) or `ask` (a question)")
        if self.check is not None and self.choices:
            raise ValueError("`choices` are answers to `ask`; a `check` has none")
        if len(self.choices) == 1 or len(set(self.choices)) < len(self.choices):
            raise ValueError(f"choices need two answers or more, all different, not {list(self.choices)}")
        if self.good == "no" and (self.check is not None or self.choices):
            raise ValueError("`good` is for yes-or-no questions; order `choices` from worst to best instead")
        return self

    def kind(self) -> str:
        return self.check.rule if self.check is not None else str(self.ask)

    def labels(self) -> tuple[str, ...]:
        """The answers offered, and for choices their letters."""
        return tuple(string.ascii_uppercase[: len(self.choices)]) if self.choices else YES_NO

    def values(self) -> tuple[float, ...]:
        """What each of `labels` is worth."""
        if self.choices:
            return tuple(i / (len(self.choices) - 1) for i in range(len(self.choices)))
        return (1.0, 0.0) if self.good == "yes" else (0.0, 1.0)


class Settings(JudgeSettings):
    """Criteria with weights; the questions go to one model, the rules to none."""

    kind: Literal["rubric"] = "rubric"
    model: str | None = None
    """Who answers the questions, a name in `models:`; null where every criterion is a `check`."""
    criteria: Annotated[tuple[Criterion, ...], Field(min_length=1)]
    """What counts, and how much."""
    how: Literal["auto", "logprobs", "text"] = "auto"
    """`logprobs` reads answers in one forward pass each, `text` parses words; `auto`: the first if it can."""
    reasoning: bool = False
    """With `text`: have it think before its verdict line."""
    reference: bool = False
    """Show the prompt's reference answer; a prompt that has none is then not judged."""
    max_new_tokens: int = Field(512, ge=8, le=32768)
    """With `text`: the longest answer; one that is cut off is unreadable."""
    min_mass: float = Field(0.5, gt=0, le=1)
    """With `logprobs`: the least probability the answers must hold together, else one is unreadable."""
    shown_chars: int = Field(20_000, ge=100)
    """Characters shown of each text; the rest is replaced by [cut]."""

    @model_validator(mode="after")
    def _answerable(self) -> Self:
        some_weight(c.weight for c in self.criteria)
        self.names()
        asks = [c for c in self.criteria if c.ask is not None]
        if asks and self.model is None:
            raise ValueError(f"criterion {asks[0].name or asks[0].ask!r} asks a question: name a `model` to answer it")
        if self.model is not None and not asks:
            raise ValueError(f"no criterion asks model {self.model!r} anything: leave `model` out, or add an `ask`")
        return self

    def names(self) -> list[str]:
        return all_named((c.name for c in self.criteria), (c.kind() for c in self.criteria))

    def models_asked(self) -> tuple[str, ...]:
        return () if self.model is None else (self.model,)

    def asking(self, *, by_labels: bool) -> tuple[int, int]:
        questions = sum(c.ask is not None for c in self.criteria)
        return questions, 1 if by_labels and self.how != "text" else self.max_new_tokens

    def substance(self) -> frozenset[str]:
        counted = (c.check for c in self.criteria if c.weight > 0)
        return frozenset(substance_of(check) for check in counted if check is not None)

    def content(self) -> object:
        used = ("rubric", "rubric_labels", "rubric_words")
        return {"settings": super().content(), "templates": [fences.template(name) for name in used]}


@dataclass
class Rubric:
    """Asks one question a criterion that has one; reads all of them or none."""

    settings: Settings
    secret: str
    by_labels: bool
    compares: bool = False

    def ask(self, ballot: Ballot) -> tuple[Question, ...]:
        s = self.settings
        if s.model is None or fences.lacks_reference(ballot, s.reference):
            return ()
        nonce = fences.nonce_of(ballot, self.secret)
        shown = fences.material(ballot, ("REPLY",), nonce, limit=s.shown_chars, with_reference=s.reference)
        asked = (c for c in s.criteria if c.ask is not None)
        return tuple(self._question(c, s.model, shown) for c in asked)

    def read(self, ballot: Ballot, answers: Sequence[Answer]) -> Rating:
        s = self.settings
        fences.check_reference(ballot, s.reference)
        nonce = fences.nonce_of(ballot, self.secret)
        questions = sum(c.ask is not None for c in s.criteria)
        if len(answers) != questions:
            raise Unreadable(f"{len(answers)} answers to {questions} questions: some criterion is unread")
        unread, marks, evidence = iter(answers), list[float](), list[str]()
        for name, criterion in zip(s.names(), s.criteria, strict=True):
            if criterion.check is not None:
                marks.append(marked(criterion.check, ballot))
                continue
            mark, seen = self._mark(criterion, next(unread), nonce)
            marks.append(mark)
            evidence.append(f"{name}: {seen}")
        score = weighted_mean(marks, [c.weight for c in s.criteria])
        return Rating(score=score, criteria=dict(zip(s.names(), marks, strict=True)), evidence=tuple(evidence))

    def _question(self, criterion: Criterion, model: str, shown: dict[str, str]) -> Question:
        how = self._how(criterion, shown["nonce"])
        text = fences.fill(fences.template("rubric"), question=str(criterion.ask), how=how, **shown)
        asked = Message(role="user", content=text)
        if self.by_labels:
            begun = Message(role="assistant", content="Answer:")
            return Labels(model=model, messages=(asked, begun), labels=criterion.labels())
        return Chat(model=model, messages=(asked,), max_new_tokens=self.settings.max_new_tokens)

    def _how(self, criterion: Criterion, nonce: str) -> str:
        lettered = zip(criterion.labels(), criterion.choices, strict=True) if criterion.choices else ()
        options = "\n".join(f"{letter}: {choice}" for letter, choice in lettered) or "\n".join(YES_NO)
        unit = "letter" if criterion.choices else "word"
        if self.by_labels:
            return fences.fill(fences.template("rubric_labels"), unit=unit, options=options)
        think = fences.THINK_FIRST if self.settings.reasoning else fences.ANSWER_ONLY
        return fences.fill(fences.template("rubric_words"), unit=unit, options=options, think=think, nonce=nonce)

    def _mark(self, criterion: Criterion, answer: Answer, nonce: str) -> tuple[float, str]:
        labels, values = criterion.labels(), criterion.values()
        if self.by_labels:
            shares, seen = label_shares(answer, labels, self.settings.min_mass)
            return expected(shares, values), seen
        said = verdict_line(answer, "VERDICT", nonce, labels)
        return values[labels.index(said)], said


def open(settings: Settings, *, tools: JudgeTools) -> Rubric:
    by_labels = settings.model is not None and reads_by_labels(settings.how, settings.model, tools)
    return Rubric(settings, tools.secret, by_labels)
