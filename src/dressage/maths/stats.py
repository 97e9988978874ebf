"""Means with their uncertainty: prompt-clustered intervals, Wilson's interval, paired differences.

    g    a cluster (a prompt with all its rows)        C    clusters
    y_j  an observation                                n    observations

An interval that cannot be known is null, never of width zero.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

ROUNDING = 1e-12
"""A standard error below this, relative to the largest value, is rounding: the sample does not vary."""


class Estimate(NamedTuple):
    """A mean and its two-sided interval (both ends null where it is not identified)."""

    value: float
    low: float | None
    high: float | None
    n: int
    """Observations."""
    clusters: int
    """What the interval takes for independent."""


def clustered(values: Sequence[float], clusters: Sequence[Hashable], *, level: float = 0.95) -> Estimate:
    """The plain mean of all observations with a cluster-robust interval (arXiv:2411.00640, finite C).

        SE = 1/n · sqrt( C/(C−1) · Σ_g ( Σ_{j∈g} (y_j − ȳ) )² ),    ȳ ± t_{(1+level)/2, C−1} · SE

    Nothing is folded: a cluster with more rows weighs more; `fold` first where each should weigh the same.
    With C < 2 there is no interval. Where the clusters do not vary (SE = 0), it is Wilson's for n = C if all
    values lie in [0, 1], and null otherwise.

    Raises:
        ValueError: for no values, lengths that differ, or a value that is not finite.
    """
    y = np.asarray(values, dtype=np.float64)
    if len(y) != len(clusters):
        raise ValueError(f"{len(y)} values but {len(clusters)} clusters; each value needs its own")
    if not len(y) or not np.isfinite(y).all():
        raise ValueError(f"a mean needs at least one value and only finite ones, not {values!r:.80}")
    mean = float(y.mean())
    place = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    sums_g = np.bincount([place[c] for c in clusters], weights=y - mean)
    n, count = len(y), len(sums_g)
    if count < 2:
        return Estimate(mean, None, None, n, count)
    error = math.sqrt(count / (count - 1) * float(sums_g @ sums_g)) / n
    if error <= ROUNDING * float(np.abs(y).max()):
        return _unvarying(mean, n, count, share=bool((y >= 0).all() and (y <= 1).all()), level=level)
    half = t_quantile(level, count - 1) * error
    return Estimate(mean, mean - half, mean + half, n, count)


def _unvarying(mean: float, n: int, clusters: int, *, share: bool, level: float) -> Estimate:
    if not share:
        return Estimate(mean, None, None, n, clusters)
    ends = wilson(min(max(mean, 0.0), 1.0) * clusters, clusters, level=level)
    return Estimate(mean, ends.low, ends.high, n, clusters)


def mean_interval(values: Sequence[float], *, level: float = 0.95) -> Estimate:
    """The mean of independent values: Student's interval, which is `clustered` with one value a cluster."""
    return clustered(values, range(len(values)), level=level)


def fold(values: Iterable[float], clusters: Iterable[Hashable]) -> dict[Hashable, float]:
    """The mean of each cluster, in the order in which the clusters first appear."""
    rows: dict[Hashable, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        rows.setdefault(cluster, []).append(value)
    return {cluster: math.fsum(of) / len(of) for cluster, of in rows.items()}


def wilson(successes: float, n: int, *, level: float = 0.95) -> Estimate:
    """Wilson's score interval of a share k/n; never of width zero, even for k = 0 or k = n (Wilson 1927).

    centre (p + z²/2n) / (1 + z²/n),  half-width z/(1 + z²/n) · sqrt( p(1−p)/n + z²/4n² ).
    Ties may count half, so k need not be whole.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is no share; n must be positive and 0 ≤ successes ≤ n")
    z, p = NormalDist().inv_cdf((1 + level) / 2), successes / n
    shrink = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = min(centre - half, p), max(centre + half, p)  # which rounding may cross at k = 0 and k = n
    return Estimate(p, max(0.0, low), min(1.0, high), n, n)


def paired_difference(
    a_by_cluster: Mapping[Hashable, float], b_by_cluster: Mapping[Hashable, float], *, level: float = 0.95
) -> Estimate:
    """Mean of a − b over the clusters that both have; each side is folded to one value a cluster before.

    The interval comes from the differences, so what makes a prompt hard for both cancels. Where all
    differences are the same c and all values lie in [0, 1], another difference can still have gone unseen in
    C clusters, with a probability of up to h (Wilson's upper end of 0 in C); then E[a − b] lies within
    (1−h)c ± h. Elsewhere a sample that does not vary has no interval.

    Raises:
        ValueError: where no cluster has both.
    """
    shared = [cluster for cluster in a_by_cluster if cluster in b_by_cluster]
    if not shared:
        raise ValueError("no prompt has a value on both sides; compare the same prompts")
    differences = [a_by_cluster[c] - b_by_cluster[c] for c in shared]
    if len(shared) > 1 and max(differences) - min(differences) <= ROUNDING:
        sides = [side[c] for side in (a_by_cluster, b_by_cluster) for c in shared]
        return _unvarying_difference(differences, share=min(sides) >= 0 and max(sides) <= 1, level=level)
    return clustered(differences, shared, level=level)


def _unvarying_difference(differences: Sequence[float], *, share: bool, level: float) -> Estimate:
    n, c = len(differences), differences[0]
    unseen = wilson(0, n, level=level).high
    if not share or unseen is None:
        return Estimate(c, None, None, n, n)
    return Estimate(c, (1 - unseen) * c - unseen, (1 - unseen) * c + unseen, n, n)


def t_quantile(level: float, freedom: int) -> float:
    """Half-width in standard errors of a two-sided interval at `level` with `freedom` degrees of freedom."""
    from scipy.special import stdtrit  # half a second to import, and most who import this file need no t

    if not 0 < level < 1:
        raise ValueError(f"a level lies between 0 and 1, not {level}")
    return float(stdtrit(freedom, (1 + level) / 2))


def elo_of_rate(rate: float) -> float:
    """Elo points that a preference rate R is worth: 400 · log10( R / (1 − R) ); infinite at 0 and 1."""
    if not 0 <= rate <= 1:
        raise ValueError(f"a rate lies in [0, 1], not {rate}")
    if rate in (0, 1):
        return math.copysign(math.inf, rate - 0.5)
    return 400 * math.log10(rate / (1 - rate))
