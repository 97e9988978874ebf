"""How probable it is that gates pass, before anything is measured: an equal policy, and one that has become worse.

    Δ   a gate's limit on the bad end          n   independent items
    s   spread of what is averaged             δ   by how much the policy is truly worse

A gate that an equal policy cannot pass, or a worse one can, is known from its size alone.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

from dressage.maths.gates import unseen

NORMAL = NormalDist()


class Condition(NamedTuple):
    """One limit of one gate: the upper end of a mean, missed with probability alpha, must not exceed `limit`."""

    gate: str
    limit: float
    spread: float
    """Standard deviation over items, of the paired differences for a worsening, of the values for a level."""
    n: int
    alpha: float = 0.05
    truth: float = 0.0
    """The mean of an equal policy: 0 for a worsening, its level for a level."""


class Chance(NamedTuple):
    """Of passing all gates."""

    each: dict[str, float]
    """By gate, as if its own conditions were independent."""
    independent: float
    """The product: exact for independent gates, too low where what fails one fails others too."""
    at_least: float
    """1 − Σ (1 − p): whatever depends on what."""
    at_most: float
    """The smallest p: whatever depends on what."""
    bottleneck: str
    """The gate with the smallest p."""


def passes(condition: Condition, *, worse_by: float = 0.0) -> float:
    """Φ( (Δ − truth − δ) √n / s − z_{1−α} ): the probability that the upper end keeps the limit.

    With s = 0 and δ = 0 the sample does not vary and its upper end is certain: (1−h) truth + h, h = 1 − α^{1/n} (what
    lies in [0, 1]). With s = 0 and δ > 0 a share of δ of the items must have turned, which has the spread √(δ(1−δ)).

    Raises:
        ValueError: for a spread below 0, fewer than two items, α outside (0, ½), or s = 0 with δ of 1 or more.
    """
    limit, spread, n, alpha = condition.limit, condition.spread, condition.n, condition.alpha
    if not spread >= 0 or n < 2 or not 0 < alpha < 0.5:
        raise ValueError(f"gate {condition.gate!r}: spread ≥ 0, n ≥ 2 and 0 < alpha < 1/2, not {spread}, {n}, {alpha}")
    if spread == 0 and worse_by <= 0:
        h = unseen(n, alpha)
        return float((1 - h) * (condition.truth + worse_by) + h <= limit)
    if spread == 0:
        if worse_by >= 1:
            raise ValueError(f"gate {condition.gate!r}: worse by {worse_by} says nothing without a spread")
        spread = math.sqrt(worse_by * (1 - worse_by))
    room = (limit - condition.truth - worse_by) * math.sqrt(n) / spread
    return NORMAL.cdf(room - NORMAL.inv_cdf(1 - alpha))


def all_pass(conditions: Sequence[Condition], *, worse_by: Mapping[str, float] | None = None) -> Chance:
    """The probability that every condition holds; `worse_by` says by gate how much worse the policy truly is.

    Where predecessor and origin are the same model their conditions are one: give it once.

    Raises:
        ValueError: for no conditions, or a gate in `worse_by` that has none.
    """
    if not conditions:
        raise ValueError("without gates there is nothing to pass")
    worse = dict(worse_by or {})
    each: dict[str, float] = {}
    every: list[tuple[float, str]] = []
    if unknown := worse.keys() - {c.gate for c in conditions}:
        raise ValueError(
            f"no gate is called {', '.join(sorted(unknown))}; there are {', '.join(c.gate for c in conditions)}"
        )
    for condition in conditions:
        p = passes(condition, worse_by=worse.get(condition.gate, 0.0))
        each[condition.gate] = each.get(condition.gate, 1.0) * p
        every.append((p, condition.gate))
    return Chance(
        each,
        independent=math.prod(p for p, _ in every),
        at_least=max(0.0, 1 - math.fsum(1 - p for p, _ in every)),
        at_most=min(p for p, _ in every),
        bottleneck=min(each, key=lambda gate: each[gate]),
    )


def items_needed(condition: Condition, *, power: float = 0.8) -> int:
    """The smallest n with which an equal policy passes with probability `power`: (z_{1−α} + z_power)² s²/(Δ − truth)².

    With s = 0: from h ≤ (Δ − truth)/(1 − truth).

    Raises:
        ValueError: where the limit lies at or below the truth: no n is enough.
    """
    room = condition.limit - condition.truth
    if room <= 0:
        raise ValueError(
            f"gate {condition.gate!r}: no number of items can pass an equal policy, its limit allows nothing"
        )
    if condition.spread == 0:
        share = room / (1 - condition.truth)
        return 2 if share >= 1 else max(2, math.ceil(math.log(condition.alpha) / math.log1p(-share)))
    z = NORMAL.inv_cdf(1 - condition.alpha) + NORMAL.inv_cdf(power)
    return max(2, math.ceil((z * condition.spread / room) ** 2))
