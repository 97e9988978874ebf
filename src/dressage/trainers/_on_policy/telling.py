"""What an update says of itself: its draws and their grades before anything is learnt, and seconds by phase."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from dressage.protocols import Graded
from dressage.records import Candidate, Grade


def about(rows: Sequence[tuple[Candidate, Graded]]) -> dict[str, float]:
    """Shares and means over the draws of an update; the judge's own grades, of those it graded."""
    grades = [g for _, g in rows if isinstance(g, Grade)]
    replies = max(1, len(rows))
    told = {
        "judge/failed": 1 - len(grades) / replies,
        "judge/cost": sum(g.usage.cost for g in grades),
        "reply/count": float(len(rows)),
        "reply/tokens": sum(len(c.token_ids) for c, _ in rows) / replies,
        "reply/truncated": sum(c.finish == "length" for c, _ in rows) / replies,
    }
    if grades:
        score_S = torch.tensor([g.score for g in grades], dtype=torch.float64)
        told["objective/scores"] = float(score_S.mean())
        told["objective/scores_std"] = float(score_S.std(correction=0))
    return told


def short(told: Mapping[str, float]) -> dict[str, float]:
    """What the facts at the end are made of."""
    named = {"score": "objective/scores", "kl": "objective/kl", "entropy": "policy/entropy", "length": "reply/tokens"}
    return {name: told[key] for name, key in named.items() if key in told}


def mean_of(name: str, said: Sequence[Mapping[str, float]]) -> float:
    """Over the updates that said it: one whose every judgement failed has no grade, and 0 would be one."""
    known = [one[name] for one in said if name in one]
    return sum(known) / len(known)


class Clock:
    """Seconds by phase; they are no part of what must be equal after a resume."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    @contextmanager
    def counting(self, phase: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            name = f"time/{phase}"
            self.spent[name] = self.spent.get(name, 0.0) + time.monotonic() - began

    def with_rates(self, *, tokens: int, replies: int) -> dict[str, float]:
        """The seconds, and what they make of this many tokens and replies."""
        rates = {
            f"rate/{name.partition('/')[2]}_tokens_per_second": tokens / max(1e-9, seconds)
            for name, seconds in self.spent.items()
        }
        whole = sum(self.spent.values())
        return {**self.spent, **rates, "rate/replies_per_second": replies / max(1e-9, whole)}
