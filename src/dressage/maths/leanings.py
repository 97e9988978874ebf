"""What a choice between two texts leans on besides the right answer: a slope with the label held fixed."""

from collections.abc import Hashable, Sequence

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
    which a small one often is. The interval is cluster-robust, with C/(C−2) for the two slopes and t of C − 2; null
    where it cannot be known. Null altogether where the difference never varies, or the label explains all of it.
    """
    c, g, d = (np.asarray(v, dtype=np.float64) for v in (choice, label, difference))
    if not len(c) == len(g) == len(d) == len(clusters):
        raise ValueError(f"a slope needs as many of each: {len(c)}, {len(g)}, {len(d)} and {len(clusters)}")
    deviation = float(np.sqrt(np.mean(d**2))) if len(d) else 0.0
    if deviation <= ROUNDING:
        return None
    x = np.column_stack([g, d / deviation]) if np.abs(g).max() > 0 else (d / deviation)[:, None]
    moments = x.T @ x
    if np.linalg.cond(moments) > 1e10:
        return None
    inverse = np.linalg.inv(moments)
    slopes = inverse @ (x.T @ c)
    place = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    scores = np.zeros((len(place), x.shape[1]))
    np.add.at(scores, [place[k] for k in clusters], x * (c - x @ slopes)[:, None])
    count, value = len(place), float(slopes[-1])
    if count < 3:
        return Estimate(value, None, None, len(c), count)
    variance = inverse @ (scores.T @ scores * (count / (count - 2))) @ inverse
    error = float(np.sqrt(variance[-1, -1]))
    if error <= ROUNDING:
        return Estimate(value, None, None, len(c), count)
    half = t_quantile(level, count - 2) * error
    return Estimate(value, value - half, value + half, len(c), count)
