"""A mean that may be looked at after every value: betting confidence sequences (Waudby-Smith & Ramdas 2024).

    y_t  what prompt t scored, in [0, 1]       m   a mean that is put to the test
    λ_t  a bet, from y_1 … y_{t−1} alone       K   the capital of one who bets against m; under m it seldom grows

With the probability 1 − α the interval holds the mean after every look at once, however often one looks and whenever
one stops. That takes prompts in an order fixed before anything was judged, one value each, and no look at the scores
deciding which prompt comes next. A prompt that gave no value is no value: leave it out.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import numpy as np

GRID = 1001
"""Means that are tested: steps of a thousandth."""


class Look(NamedTuple):
    """What is known after n prompts."""

    n: int
    mean: float
    low: float
    high: float
    decided: Literal["above", "below"] | None
    """The side of the threshold on which all of [low, high] lies."""


def looks(
    scores: Iterable[float], *, threshold: float = 0.5, alpha: float = 0.05, of: int | None = None
) -> Iterator[Look]:
    """A look after every score: the hedged capital interval, cut with all before it. Takes scores as they come.

        μ̂_t = (½ + Σ y)/(t+1),  σ̂²_t = (¼ + Σ (y_i − μ̂_i)²)/(t+1),  σ̂²_0 = ¼
        λ_t = sqrt( 2 ln(2/α) / (σ̂²_{t−1} t ln(1+t)) ),  λ⁺ = min(λ, ½/m),  λ⁻ = min(λ, ½/(1−m))
        K_t(m) = max( ½ Π (1 + λ⁺ (y − m)),  ½ Π (1 − λ⁻ (y − m)) ),   CS_t = { m : K_t(m) ≤ 1/α }

    over a grid of 1,001 m, widened by one step at each end. With `of` the mean is that of a finite set of so many
    prompts, drawn from without replacement, and m_t = (N m − Σ_{i<t} y)/(N − t + 1) takes m's place in the bets.

    Raises:
        ValueError: for a score outside [0, 1], an α or threshold outside (0, 1), or more scores than `of`.
    """
    if not 0 < alpha < 1 or not 0 < threshold < 1:
        raise ValueError(f"alpha and the threshold lie between 0 and 1, not {alpha} and {threshold}")
    m_G, step = np.linspace(0, 1, GRID), 1 / (GRID - 1)
    up_G, down_G, held_G = np.zeros(GRID), np.zeros(GRID), np.ones(GRID, dtype=bool)
    low, high, total = 0.0, 1.0, 0.0
    for t, (y, bet) in enumerate(_bets(scores, alpha), 1):
        if of is None:
            at_G = m_G
        elif t > of:
            raise ValueError(f"more than the {of} scores of the whole set")
        else:
            at_G = (of * m_G - total) / (of - t + 1)
            held_G &= (at_G >= 0) & (at_G <= 1)
            at_G = at_G.clip(0, 1)
        total += y
        with np.errstate(divide="ignore"):
            up_G += np.log1p(np.minimum(bet, 0.5 / at_G) * (y - at_G))
            down_G += np.log1p(-np.minimum(bet, 0.5 / (1 - at_G)) * (y - at_G))
        held_G &= np.maximum(up_G, down_G) + math.log(0.5) <= math.log(1 / alpha)
        if held_G.any():  # none where the interval is narrower than a step: then the last one stays
            held = np.flatnonzero(held_G)
            low, high = max(low, m_G[held[0]] - step), min(high, m_G[held[-1]] + step)
        if of is not None:
            low, high = max(low, total / of), min(high, (total + of - t) / of)
        decided: Literal["above", "below"] | None
        decided = "above" if low > threshold else "below" if high < threshold else None
        yield Look(t, total / t, float(low), float(high), decided)


def first_decided(
    scores: Iterable[float], *, threshold: float = 0.5, alpha: float = 0.05, of: int | None = None
) -> Look | None:
    """The first look that is decided, where a comparison may stop; else the last one; null without any score.

    No score after the deciding one is taken from the iterable.
    """
    look = None
    for look in looks(scores, threshold=threshold, alpha=alpha, of=of):
        if look.decided:
            break
    return look


def evidence(scores: Iterable[float], *, at_most: float = 0.5, alpha: float = 0.05) -> Iterator[float]:
    """E_t = Π (1 + λ⁺_i (y_i − R)) against "the mean is at most R": 1/α or more, at any t, rejects it at level α."""
    if not 0 < alpha < 1 or not 0 < at_most < 1:
        raise ValueError(f"alpha and the rate lie between 0 and 1, not {alpha} and {at_most}")
    log = 0.0
    for y, bet in _bets(scores, alpha):
        log += math.log1p(min(bet, 0.5 / at_most) * (y - at_most))
        yield math.exp(min(log, 700.0))


def _bets(scores: Iterable[float], alpha: float) -> Iterator[tuple[float, float]]:
    """Every score with the bet that was made before it was seen."""
    total, squares = 0.5, 0.25
    for t, y in enumerate(map(float, scores), 1):
        if not 0 <= y <= 1:
            raise ValueError(f"a score lies in [0, 1], not {y} as prompt {t}'s; leave failed judgements out")
        variance = squares / t
        yield y, math.sqrt(2 * math.log(2 / alpha) / (variance * t * math.log(1 + t)))
        total += y
        squares += (y - total / (t + 1)) ** 2
