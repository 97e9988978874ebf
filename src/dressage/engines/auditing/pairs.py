"""Labelled pairs and what a judge makes of them: one verdict a pair, or why there is none."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dressage.engines.hearing import Bench
from dressage.engines.judging import Labels, duel
from dressage.records import Candidate, Prompt, Usage, Verdict

SETTLED = frozenset({("broken response",), ("equal texts",)})
"""The evidence of verdicts for which no judge was asked (see engines.judging)."""


@dataclass(frozen=True)
class LabelledPair:
    """Two replies to a prompt and what people said of them."""

    prompt: Prompt
    preferred: Candidate
    other: Candidate
    tied: bool = False
    """People call them equally good; which is called `preferred` then means nothing."""
    margin: float = 1.0
    """How far apart the labels' scores are, in [0, 1]."""
    writers: tuple[str | None, str | None] = (None, None)
    """The models that wrote the two, where the rows say so."""

    @property
    def id(self) -> str:
        return f"{self.prompt.id}:{self.preferred.id}:{self.other.id}"


@dataclass(frozen=True)
class Judged:
    """A pair with the judge's verdict, which speaks of (preferred, other)."""

    pair: LabelledPair
    verdict: Verdict

    @property
    def choice(self) -> float:
        """1 where the judge names the preferred one, ½ for a tie, 0 for the other."""
        return {"first": 1.0, "tie": 0.5, "second": 0.0}[self.verdict.winner]


@dataclass(frozen=True)
class Asked:
    """What came of putting pairs before a judge."""

    judged: list[Judged]
    settled: int
    failed: list[LabelledPair]
    reasons: Counter[str]
    usage: Usage
    seconds: float

    @property
    def asked(self) -> int:
        return len(self.judged) + len(self.failed)


def ask(bench: Bench, pairs: Sequence[LabelledPair]) -> Asked:
    """Every pair once; a pair that a rule of the engine settles without asking is counted and says nothing."""
    once = list({pair.id: pair for pair in pairs}.values())
    began = time.monotonic()
    labels = duel(bench, [(p.prompt, p.preferred, p.other) for p in once])
    took = time.monotonic() - began
    verdicts = {(v.prompt_id, v.first, v.second): v for v in labels.verdicts}
    found = [(pair, verdicts.get((pair.prompt.id, pair.preferred.id, pair.other.id))) for pair in once]
    broken = {c for f in labels.failures if f.side == "response" for c in f.candidate_ids}
    judged = [Judged(pair, v) for pair, v in found if v is not None and v.evidence not in SETTLED]
    lost = [pair for pair, v in found if v is None and not {pair.preferred.id, pair.other.id} <= broken]
    return Asked(
        judged=judged,
        settled=len(once) - len(judged) - len(lost),
        failed=lost,
        reasons=Counter(f.reason for f in labels.failures if f.side == "infrastructure"),
        usage=used(labels),
        seconds=took,
    )


def used(labels: Labels) -> Usage:
    """What the labels cost; that of failed judgements is booked with the endpoint, not here."""
    return sum((*(g.usage for g in labels.grades), *(v.usage for v in labels.verdicts)), Usage())
