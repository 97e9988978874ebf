"""The preference rate that is left when both sides write equally much (after AlpacaEval 2, arXiv:2404.04475).

B  draws of a bootstrap        y_N   what the candidate got of each prompt, in [0, 1]
N  prompts                     Δ_N   how much longer than its opponent it was there, in any unit
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dressage.maths.stats import Estimate, mean_interval

Floats = NDArray[np.float64]
RIDGE = 1e-3
"""Of φ, on the mean loss."""
DRAWS = 2000
AT_ONCE = 1 << 20
"""Draws times prompts in memory at once: 8 MiB an array."""
ALIKE = 1e-9
"""Differences in length whose deviation is below this share of the largest are the same."""
STEPS, LONGEST, SHORTEST = 60, 2.0, 1e-10
"""Newton's steps: how many at most, how long one may be, and how short the last one."""


class LengthControlled(NamedTuple):
    """A rate at equal lengths, and what length itself is worth to the judge."""

    rate: Estimate
    slope: Estimate | None
    """φ, in nats of the odds: above 0 the judge likes length. Null where it cannot be told: lengths always differ
    by the same, or one side got everything."""


def length_controlled(
    scores: Sequence[float], lengths: Sequence[float], opponents: Sequence[float], *, seed: int, level: float = 0.95
) -> LengthControlled:
    """σ(θ) of logit P(candidate preferred) = θ + φ · tanh(Δ/s), Δ = lengths − opponents, s its sample deviation.

    One score and one pair of lengths a prompt, so fold first. Soft labels; a ridge of 1e-3 on φ alone. The interval
    is the percentile one of 2,000 draws of prompts, s and the fit made anew in each; null below two prompts, and
    Wilson's where one side got everything. It shows a taste for length; it is no defence against texts made to win.

    Raises:
        ValueError: for no scores, one outside [0, 1], a length that is not finite, or columns of different lengths.
    """
    y_N = np.asarray(scores, dtype=np.float64)
    more_N = np.asarray(lengths, dtype=np.float64) - np.asarray(opponents, dtype=np.float64)
    if not len(y_N) == len(more_N) > 0:
        raise ValueError(f"{len(y_N)} scores with {len(more_N)} pairs of lengths; every prompt needs one of each")
    if not ((y_N >= 0) & (y_N <= 1)).all() or not np.isfinite(more_N).all():
        raise ValueError("scores lie in [0, 1] and lengths are finite; leave failed judgements out")
    n, one_sided = len(y_N), y_N.sum() in (0, len(y_N))
    if one_sided or n < 2:
        return LengthControlled(mean_interval(y_N.tolist(), level=level), None)
    (rate,), (slope,) = _fitted(np.ones((1, n)), y_N, more_N)
    rates_B, slopes_B = _bootstrapped(y_N, more_N, seed)
    told = bool(np.ptp(more_N) > ALIKE * np.abs(more_N).max())
    slopes = _interval(slope, slopes_B, n, level) if told else None
    return LengthControlled(_interval(rate, rates_B, n, level), slopes)


def _interval(value: float, draws_B: Floats, n: int, level: float) -> Estimate:
    low, high = np.quantile(draws_B, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(value), float(low), float(high), n, n)


def _bootstrapped(y_N: Floats, more_N: Floats, seed: int) -> tuple[Floats, Floats]:
    rng, n = np.random.default_rng(seed), len(y_N)
    size = max(1, AT_ONCE // n)
    parts = []
    for at in range(0, DRAWS, size):
        times_BN = rng.multinomial(n, np.full(n, 1 / n), size=min(size, DRAWS - at)).astype(np.float64)
        parts.append(_fitted(times_BN, y_N, more_N))
    return np.concatenate([rates for rates, _ in parts]), np.concatenate([slopes for _, slopes in parts])


def _fitted(times_BN: Floats, y_N: Floats, more_N: Floats) -> tuple[Floats, Floats]:
    """σ(θ) and φ of every draw, which counts prompt n `times` times; 0 or 1 and φ = 0 where one side got everything."""
    n = float(times_BN[0].sum())
    mean_B = times_BN @ more_N / n
    spread_B = np.sqrt(np.einsum("bn,bn->b", times_BN, (more_N - mean_B[:, None]) ** 2) / max(n - 1, 1))
    varies_B = spread_B > ALIKE * np.abs(more_N).max()
    x_BN = np.tanh(more_N / np.where(varies_B, spread_B, 1.0)[:, None]) * varies_B[:, None]
    got_B = times_BN @ y_N / n
    open_B = (got_B > 0) & (got_B < 1)
    theta_B, phi_B = np.zeros(len(times_BN)), np.zeros(len(times_BN))
    for _ in range(STEPS):
        p_BN = 0.5 * (1 + np.tanh(0.5 * (theta_B[:, None] + phi_B[:, None] * x_BN)))
        slope_BN, bend_BN = times_BN * (p_BN - y_N), times_BN * p_BN * (1 - p_BN)
        a_B = slope_BN.sum(1)
        b_B = np.einsum("bn,bn->b", slope_BN, x_BN) + RIDGE * n * phi_B
        aa_B, ab_B = bend_BN.sum(1), np.einsum("bn,bn->b", bend_BN, x_BN)
        bb_B = np.einsum("bn,bn,bn->b", bend_BN, x_BN, x_BN) + RIDGE * n
        det_B = np.where(open_B, aa_B * bb_B - ab_B**2, 1.0)
        step_B = np.where(open_B, (bb_B * a_B - ab_B * b_B) / det_B, 0.0).clip(-LONGEST, LONGEST)
        tilt_B = np.where(open_B, (aa_B * b_B - ab_B * a_B) / det_B, 0.0).clip(-LONGEST, LONGEST)
        theta_B, phi_B = theta_B - step_B, phi_B - tilt_B
        if max(np.abs(step_B).max(), np.abs(tilt_B).max()) < SHORTEST:
            break
    return np.where(open_B, 0.5 * (1 + np.tanh(0.5 * theta_B)), got_B), phi_B
