"""How far two who label agree, and what a stated probability is worth: κ, Brier, reliability, calibration error.

    p   stated probability        y   what came true, in [0, 1]        g   a cluster (a prompt with all its rows)

A pair of texts has no right way round, so who compares labels of pairs gives every pair both ways round (first,
second) and (second, first), in one cluster: then nothing depends on which of the two happens to be named first.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from dressage.maths.stats import Estimate, clustered, wilson

BINS = 10
DRAWS = 2000
"""Resamplings behind the interval of a calibration error."""
ROUNDING = 1e-12


def cohen_kappa(
    one: Sequence[Hashable], other: Sequence[Hashable], clusters: Sequence[Hashable], *, level: float = 0.95
) -> Estimate | None:
    """Cohen (1960): κ = (p_o − p_e) / (1 − p_e), p_e = Σ_c p1_c p2_c; null where p_e = 1 (both always say the same).

    The interval is that of the mean of influence values with clusters, which is the variance of Fleiss, Cohen and
    Everitt (1969) where every row is a cluster of its own:

        u_j = ( 1[agree]_j − p_o ) / (1 − p_e) − (1 − p_o) ( p2(one_j) + p1(other_j) − 2 p_e ) / (1 − p_e)²

    Where no u_j differs from 0 (all agree), its ends are Wilson's for p_o over the clusters, with p_e as it is.

    Raises:
        ValueError: for no rows, or lengths that differ.
    """
    if not len(one) == len(other) == len(clusters) or not len(one):
        raise ValueError(f"κ needs a label of each for every row, not {len(one)}, {len(other)} and {len(clusters)}")
    words = {word: i for i, word in enumerate(dict.fromkeys([*one, *other]))}
    a, b = (np.array([words[w] for w in labels]) for labels in (one, other))
    p1, p2 = (np.bincount(labels, minlength=len(words)) / len(labels) for labels in (a, b))
    agree = (a == b).astype(np.float64)
    observed, expected = float(agree.mean()), float(p1 @ p2)
    if 1 - expected <= ROUNDING:
        return None
    kappa = (observed - expected) / (1 - expected)
    by_chance = p2[a] + p1[b] - 2 * expected
    u = (agree - observed) / (1 - expected) - (1 - observed) * by_chance / (1 - expected) ** 2
    if float(np.abs(u).max()) > ROUNDING:
        spread = clustered([float(v) for v in u], clusters, level=level)
        low, high = (None if end is None else min(max(kappa + end, -1.0), 1.0) for end in (spread.low, spread.high))
        return Estimate(kappa, low, high, spread.n, spread.clusters)
    count = len(set(clusters))
    if count < 2:
        return Estimate(kappa, None, None, len(a), count)
    share = wilson(observed * count, count, level=level)
    ends = [None if end is None else (end - expected) / (1 - expected) for end in (share.low, share.high)]
    return Estimate(kappa, ends[0], ends[1], len(a), count)


def brier(p: Sequence[float], y: Sequence[float], clusters: Sequence[Hashable], *, level: float = 0.95) -> Estimate:
    """Mean of (p − y)² (Brier 1950): 0 is perfect, ¼ what a constant ½ gets; clustered, ends within [0, 1]."""
    _check(p, y)
    found = clustered([(a - b) ** 2 for a, b in zip(p, y, strict=True)], clusters, level=level)
    low, high = (None if end is None else min(max(end, 0.0), 1.0) for end in (found.low, found.high))
    return found._replace(low=low, high=high)


class Bin(NamedTuple):
    """The rows whose p lies in [low, high), the last bin's high end included."""

    low: float
    high: float
    n: int
    p: float
    """Mean stated probability."""
    y: float
    """Share that came true."""


def reliability(p: Sequence[float], y: Sequence[float], *, bins: int = BINS) -> list[Bin]:
    """The bins of equal width over [0, 1] that hold any row, in order."""
    _check(p, y)
    place = _places(p, bins)
    found = []
    for k in sorted(set(place.tolist())):
        inside = place == k
        mean_p, mean_y = (float(np.asarray(v, dtype=np.float64)[inside].mean()) for v in (p, y))
        found.append(Bin(k / bins, (k + 1) / bins, int(inside.sum()), mean_p, mean_y))
    return found


def calibration_error(
    p: Sequence[float], y: Sequence[float], clusters: Sequence[Hashable], *, bins: int = BINS, level: float = 0.95
) -> Estimate:
    """ECE = Σ_b n_b/n · | mean p − mean y | over the bins (arXiv:1706.04599), with a bootstrap over clusters.

    Few rows make it too large (a bin of one row is never right), and so do its resamplings: read it beside n. The
    resamplings are seeded by nothing but their number, so the same rows give the same ends.
    """
    _check(p, y)
    place, index = _places(p, bins), {c: i for i, c in enumerate(dict.fromkeys(clusters))}
    of = np.array([index[c] for c in clusters])
    gap_gb = np.zeros((len(index), bins))
    np.add.at(gap_gb, (of, place), np.asarray(p, dtype=np.float64) - np.asarray(y, dtype=np.float64))
    rows_g = np.bincount(of, minlength=len(index)).astype(np.float64)
    value = float(np.abs(gap_gb.sum(axis=0)).sum() / len(p))
    if len(index) < 2:
        return Estimate(value, None, None, len(p), len(index))
    draws = np.random.default_rng(0).multinomial(len(index), np.full(len(index), 1 / len(index)), size=DRAWS)
    errors = np.abs(draws @ gap_gb).sum(axis=1) / (draws @ rows_g)
    low, high = np.quantile(errors, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(min(low, value)), float(max(high, value)), len(p), len(index))


def _places(p: Sequence[float], bins: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The bin of each p; a p within rounding of an edge lies in the bin above it."""
    return np.minimum(np.floor(np.asarray(p, dtype=np.float64) * bins + 1e-9), bins - 1).astype(np.int64)


def _check(p: Sequence[float], y: Sequence[float]) -> None:
    if len(p) != len(y) or not len(p):
        raise ValueError(f"{len(p)} probabilities and {len(y)} outcomes; there must be as many, and one at least")
    if not all(0 <= v <= 1 for v in (*p, *y)):
        raise ValueError("probabilities and outcomes lie in [0, 1]")
