"""Deterministic checks of a reply, each with a weight; no model is asked, the score is the weighted mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dressage.judges._checks import Rule, all_named, marked, some_weight, substance_of
from dressage.judges._numbers import weighted_mean
from dressage.protocols import Answer, JudgeSettings, JudgeTools, Question, Rating
from dressage.records import Ballot, Frozen


class Weighed(Frozen):
    """A rule and how much it counts."""

    check: Rule
    """The rule: `{rule: ends_cleanly}`, `{rule: length_window, least: 40, most: 90, slack: 30}`, …"""
    weight: float = Field(1.0, ge=0, le=1000)
    """Its share in the score, relative to the others; 0 records it without counting it."""
    name: str = ""
    """What it is called in the grade; empty: its rule's kind."""


class Settings(JudgeSettings):
    """Rules that look at the text alone; fast, free and easy to game, so watch something else as well."""

    kind: Literal["rules"] = "rules"
    rules: Annotated[tuple[Weighed, ...], Field(min_length=1)]
    """The checks; their weighted mean is the score."""

    @model_validator(mode="after")
    def _countable(self) -> Self:
        some_weight(r.weight for r in self.rules)
        self.names()
        return self

    def names(self) -> list[str]:
        return all_named((r.name for r in self.rules), (r.check.rule for r in self.rules))

    def substance(self) -> frozenset[str]:
        return frozenset(substance_of(r.check) for r in self.rules if r.weight > 0)


@dataclass
class Rules:
    """Asks nothing; reads the score off the text."""

    settings: Settings
    compares: bool = False

    def ask(self, ballot: Ballot) -> tuple[Question, ...]:
        return ()

    def read(self, ballot: Ballot, answers: Sequence[Answer]) -> Rating:
        rules = self.settings.rules
        marks = [marked(r.check, ballot) for r in rules]
        score = weighted_mean(marks, [r.weight for r in rules])
        return Rating(score=score, criteria=dict(zip(self.settings.names(), marks, strict=True)))


def open(settings: Settings, *, tools: JudgeTools) -> Rules:
    return Rules(settings)
