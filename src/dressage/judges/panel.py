"""Several judges as one: their marks by mean, median or majority, with how far they are apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dressage.judges._checks import some_weight
from dressage.judges._numbers import spread, weighted_mean, weighted_median
from dressage.marks import OverBudget
from dressage.protocols import (
    Answer,
    Choice,
    Investigates,
    Judge,
    JudgeSettings,
    JudgeTools,
    Question,
    Rating,
    Unreadable,
)
from dressage.records import Ballot, Checked

COMBINED = {"mean": weighted_mean, "median": weighted_median}


class Settings(JudgeSettings):
    """Members that all rate, or all compare; one that cannot be read leaves the panel without a mark."""

    kind: Literal["panel"] = "panel"
    judges: Annotated[tuple[str, ...], Field(min_length=1)]
    """The members, names in `judges:`; two families or more, or they err together."""
    weights: tuple[Annotated[float, Field(ge=0, le=1000)], ...] = ()
    """How much each member counts, in their order; empty: all the same."""
    aggregate: Literal["mean", "median", "majority"] = "mean"
    """How marks are put together; `majority` counts the members' winners and needs members that compare."""
    max_disagreement: float | None = Field(None, gt=0, le=0.5)
    """A larger standard deviation of scores (in comparisons: of p(first)) is unreadable; null: no limit."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if len(set(self.judges)) < len(self.judges):
            raise ValueError(f"a judge sits twice on this panel of {', '.join(self.judges)}: use `weights`")
        if self.weights and len(self.weights) != len(self.judges):
            raise ValueError(f"{len(self.weights)} weights for {len(self.judges)} judges: give each one, or none")
        some_weight(self.shares())
        return self

    def shares(self) -> tuple[float, ...]:
        """The weight of each member."""
        return self.weights or (1.0,) * len(self.judges)

    def members(self) -> tuple[str, ...]:
        return self.judges


@dataclass
class Panel:
    """Asks what its members ask, in their order, and hands each its own answers."""

    settings: Settings
    members: tuple[Judge, ...]
    compares: bool = field(init=False)
    rounds: int = field(init=False)

    def __post_init__(self) -> None:
        kinds = {m.compares for m in self.members}
        named = list(zip(self.settings.judges, self.members, strict=True))
        if len(kinds) > 1:
            comparing = ", ".join(name for name, m in named if m.compares)
            rating = ", ".join(name for name, m in named if not m.compares)
            raise ValueError(f"a panel rates or compares, not both: {comparing} compare, {rating} rate")
        (self.compares,) = kinds
        self.rounds = max(m.rounds if isinstance(m, Investigates) else 1 for m in self.members)
        if self.settings.aggregate == "majority" and not self.compares:
            raise ValueError("`aggregate: majority` counts winners, but these members rate: use mean or median")

    def ask(self, ballot: Ballot) -> tuple[Question, ...]:
        return self.more(ballot, ())

    def more(self, ballot: Ballot, answers: Sequence[Answer]) -> tuple[Question, ...]:
        return self._dealt(ballot, answers)[1]

    def read(self, ballot: Ballot, answers: Sequence[Answer]) -> Rating | Choice:
        marks: dict[str, Rating | Choice] = {}
        own, _ = self._dealt(ballot, answers)
        for name, member, heard in zip(self.settings.judges, self.members, own, strict=True):
            try:
                marks[name] = member.read(ballot, heard)
            except OverBudget as error:
                raise OverBudget(f"{name}: {error}") from error
            except Unreadable as error:
                raise Unreadable(f"{name}: {error}", reason=error.reason) from error
        if self.compares:
            return self._choice({n: m for n, m in marks.items() if isinstance(m, Choice)})
        return self._rating({n: m for n, m in marks.items() if isinstance(m, Rating)})

    def _dealt(self, ballot: Ballot, answers: Sequence[Answer]) -> tuple[list[list[Answer]], tuple[Question, ...]]:
        """Each member's own answers so far, and what all of them ask next; a round is asked in their order."""
        own: list[list[Answer]] = [[] for _ in self.members]
        start, asked = 0, [member.ask(ballot) for member in self.members]
        while any(asked) and start < len(answers):
            for heard, questions in zip(own, asked, strict=True):
                heard += answers[start : start + len(questions)]
                start += len(questions)
            asked = [
                member.more(ballot, heard) if questions and isinstance(member, Investigates) else ()
                for member, heard, questions in zip(self.members, own, asked, strict=True)
            ]
        return own, tuple(question for questions in asked for question in questions)

    def _rating(self, marks: dict[str, Rating]) -> Rating:
        shares, scores = self.settings.shares(), {name: m.score for name, m in marks.items()}
        apart = self._disagreement(list(scores.values()))
        parts = {f"{name}/{part}": c for name, m in marks.items() for part, c in m.criteria.items()}
        score = self._combined(list(scores.values()), shares)
        evidence = tuple(f"{name}: {line}" for name, m in marks.items() for line in m.evidence)
        criteria = {**scores, **parts, "disagreement": apart}
        return Rating(score=score, criteria=criteria, evidence=evidence, checked=_checked(marks))

    def _choice(self, marks: dict[str, Choice]) -> Choice:
        margins = [m.margin for m in marks.values()]
        apart = self._disagreement([margin / 2 for margin in margins])
        if self.settings.aggregate == "majority":
            margins = [float((m > 0) - (m < 0)) for m in margins]
            margin = weighted_mean(margins, self.settings.shares())
        else:
            margin = self._combined(margins, self.settings.shares())
        own = [f"{name}: margin {m.margin:+.4f}" for name, m in marks.items()]
        theirs = [f"{name}: {line}" for name, m in marks.items() for line in m.evidence]
        evidence = (*own, f"disagreement {apart:.4f}", *theirs)
        return Choice(margin=margin, evidence=evidence, checked=_checked(marks))

    def _combined(self, values: list[float], shares: Sequence[float]) -> float:
        return COMBINED[self.settings.aggregate](values, shares)

    def _disagreement(self, values: list[float]) -> float:
        apart, limit = spread(values, self.settings.shares()), self.settings.max_disagreement
        if limit is not None and apart > limit:
            raise Unreadable(f"panel disagrees: {apart:.3f}, over {limit:g}", reason="panel disagrees")
        return apart


def _checked(marks: Mapping[str, Rating | Choice]) -> tuple[Checked, ...]:
    """The calls of all members, each with who made it where several are asked."""
    many = len(marks) > 1
    return tuple(
        one.model_copy(update={"claim": f"{name}: {one.claim}"}) if many else one
        for name, mark in marks.items()
        for one in mark.checked
    )


def open(settings: Settings, *, tools: JudgeTools) -> Panel:
    missing = [name for name in settings.judges if name not in tools.members]
    if missing:
        raise LookupError(f"panel member {missing[0]!r} is not in `judges:` ({', '.join(tools.members) or 'none'})")
    return Panel(settings, tuple(tools.members[name] for name in settings.judges))
