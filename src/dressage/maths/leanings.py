"""What a choice between two texts leans on besides the right answer: a slope with the label held fixed."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from dressage.maths.stats import ROUNDING, Estimate, t_quantile


def relative_difference(a: float, b: float) -> float:
    """(a − b) / (a + b) of two counts, 0 where both are 0: the same for words and characters, and within [−1, 1]."""
    if a < 0 or b < 0:
        raise ValueError(f"counts are 0 or more, not {a} and {b}")
    return (a - b) / (a + b) if a + b else 0.0


def leaning(
    choice: Sequence[float],
    label: Sequence[float],
    difference: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    level: float = 0.95,
) -> Estimate | None:
    """How much likelier the first text is chosen for one deviation more of something, the label held fixed.

        choice_j = γ label_j + φ difference_j / s + e_j,    s² = mean difference²

    by least squares without a constant, as a pair has no right way round; `choice` and `label` are ½, 0 (tie) or −½.
    φ = 0.1: ten points. Linear on purpose: a logistic slope is infinite wherever the sample is told apart perfectly,
    which a small one often is. The interval is a jackknife over the C clusters (what one of them alone decides has
    none), t of C − 2:

        V = (C − 1)/C Σ_g (φ_(g) − φ)²,    φ_(g) the slope without cluster g, at the same s

    Null altogether where the difference never varies, or the label explains all of it.
    """
    c, g, d = (np.asarray(v, dtype=np.float64) for v in (choice, label, difference))
    if not len(c) == len(g) == len(d) == len(clusters):
        raise ValueError(f"a slope needs as many of each: {len(c)}, {len(g)}, {len(d)} and {len(clusters)}")
    deviation = float(np.sqrt(np.mean(d**2))) if len(d) else 0.0
    if deviation <= ROUNDING:
        return None
    x = np.column_stack([g, d / deviation]) if np.abs(g).max() > 0 else (d / deviation)[:, None]
    place = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    count, k, of = len(place), x.shape[1], [place[cluster] for cluster in clusters]
    moments_g, scores_g = np.zeros((count, k, k)), np.zeros((count, k))
    np.add.at(moments_g, of, x[:, :, None] * x[:, None, :])
    np.add.at(scores_g, of, x * c[:, None])
    slope = _solved(moments_g.sum(axis=0), scores_g.sum(axis=0))
    if slope is None:
        return None
    without = [_solved(m, v) for m, v in zip(moments_g.sum(0) - moments_g, scores_g.sum(0) - scores_g, strict=True)]
    known = [s for s in without if s is not None]
    error = float(np.sqrt((count - 1) / count * np.sum((np.array(known) - slope) ** 2)))
    if count < 3 or len(known) < count or error <= ROUNDING:
        return Estimate(slope, None, None, len(c), count)
    half = t_quantile(level, count - 2) * error
    return Estimate(slope, slope - half, slope + half, len(c), count)


def _solved(moments: np.ndarray[Any, Any], scores: np.ndarray[Any, Any]) -> float | None:
    """The last slope of the normal equations; null where they have no single solution."""
    if not np.abs(moments).max() > ROUNDING or np.linalg.cond(moments) > 1e10:
        return None
    return float(np.linalg.solve(moments, scores)[-1])
