"""Audits one judge: labelled pairs, a second asking of them, the red team → its card."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dressage.cards import Card, Cost, Failed, Number, Pairs
from dressage.engines.auditing import agreeing, redteam
from dressage.engines.auditing.corpus import Answers, Tactic
from dressage.engines.auditing.pairs import Asked, LabelledPair, ask
from dressage.engines.auditing.redteam import Attacked
from dressage.engines.hearing import Bench
from dressage.maths.stats import wilson
from dressage.records import Usage


@dataclass(frozen=True)
class Subject:
    """Who is audited, as the card names it."""

    kind: str
    models: tuple[str, ...]
    """What it asks: names of weights or of an endpoint's model."""
    made_from: str


@dataclass(frozen=True)
class Questions:
    """What a judge is audited with; parts may be empty."""

    pairs: Sequence[LabelledPair]
    source: str
    """Where the pairs come from, for people."""
    tactics: Sequence[Tactic]
    answers: Sequence[Answers]
    broken_rule: str
    """What grades a response that a tactic broke (judge.broken_response)."""

    def judgements(self, bench: Bench, *, again: bool) -> int:
        """How many there are, for a progress bar."""
        twice = 2 if again else 1
        attacked = redteam.size(bench, len(self.tactics), len(self.answers)) if self.tactics else 0
        return twice * len({pair.id for pair in self.pairs}) + attacked


def audit(bench: Bench, again: Bench | None, subject: Subject, questions: Questions) -> Card:
    """The card of the judge on the bench.

    `again` is the same judge with another journal and other seeds, in whose second asking its answers may differ; null
    leaves stability out.
    """
    asked = ask(bench, questions.pairs) if questions.pairs else None
    second = ask(again, questions.pairs[::-1]) if again and questions.pairs else None
    pairs = agreeing.told(asked, second, own=subject.models) if asked else None
    began = time.monotonic()
    attacked = None
    if questions.tactics and questions.answers:
        attacked = redteam.attack(bench, questions.tactics, questions.answers, broken_rule=questions.broken_rule)
    return Card(
        judge=bench.name,
        kind=subject.kind,
        models=subject.models,
        compares=bench.judge.compares,
        made_from=subject.made_from,
        source=questions.source if pairs else "",
        pairs=pairs,
        red_team=attacked.red_team if attacked else None,
        failed=_failed(asked, attacked),
        cost=_cost(pairs, asked, attacked, seconds=time.monotonic() - began),
    )


def _failed(asked: Asked | None, attacked: Attacked | None) -> Failed | None:
    reasons = (asked.reasons if asked else Counter()) + (attacked.reasons if attacked else Counter())
    if asked and asked.asked:
        share = wilson(len(asked.failed), asked.asked)
    elif attacked and attacked.plain:
        share = wilson(attacked.plain_failed, attacked.plain)
    else:
        return None
    return Failed(share=Number.of(share), reasons=dict(sorted(reasons.items())))


def _cost(pairs: Pairs | None, asked: Asked | None, attacked: Attacked | None, *, seconds: float) -> Cost | None:
    if pairs and asked and asked.judged:
        return _per_label(len(asked.judged), asked.usage, asked.seconds)
    if attacked and attacked.labels:
        return _per_label(attacked.labels, attacked.usage, seconds)
    return None


def _per_label(labels: int, usage: Usage, seconds: float) -> Cost:
    return Cost(
        labels=labels,
        read=usage.read / labels,
        written=usage.written / labels,
        cost=usage.cost / labels,
        seconds=seconds / labels,
    )
