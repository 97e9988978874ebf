"""The few sums that judges share: soft windows, weighted means and medians, the spread of a panel."""

import math
from collections.abc import Sequence


def window(x: float, least: float | None, most: float | None, slack: float = 0.0) -> float:
    """1 where least ≤ x ≤ most, falling linearly to 0 `slack` outside an edge; null leaves a side open."""
    below = least - x if least is not None else 0.0
    above = x - most if most is not None else 0.0
    outside = max(below, above, 0.0)
    if outside == 0:
        return 1.0
    return max(0.0, 1 - outside / slack) if slack > 0 else 0.0


def weighted_mean(values: Sequence[float], weights: Sequence[float]) -> float:
    """Σ w x / Σ w; the weights must not all be 0. A lone value comes back exactly."""
    if len(values) == 1:
        return values[0]
    total = math.fsum(weights)
    mean = math.fsum(w * x for x, w in zip(values, weights, strict=True)) / total
    return min(max(mean, min(values)), max(values))


def weighted_median(values: Sequence[float], weights: Sequence[float]) -> float:
    """The value at which half the weight lies on either side; the middle of two where it falls between."""
    ranked = sorted(zip(values, weights, strict=True))
    half, seen = math.fsum(weights) / 2, 0.0
    for place, (value, weight) in enumerate(ranked):
        seen += weight
        if math.isclose(seen, half) and place + 1 < len(ranked):
            later = [v for v, w in ranked[place + 1 :] if w > 0]
            return (value + later[0]) / 2 if later else value
        if seen > half:
            return value
    return ranked[-1][0]


def spread(values: Sequence[float], weights: Sequence[float]) -> float:
    """The weighted standard deviation over the whole population, in units of the values; 0 for one value."""
    centre = weighted_mean(values, weights)
    return math.sqrt(weighted_mean([(x - centre) ** 2 for x in values], weights))


def logistic(x: float) -> float:
    """1 / (1 + exp(−x)), without overflow at either end."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
