"""The length-controlled rate: an optimiser as oracle, what it takes away and what it leaves, coverage in simulation."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from dressage.maths.length_control import length_controlled
from dressage.maths.stats import wilson


def drawn(seed: int, *, theta: float, phi: float, n: int = 400, longer: float = 1.4):
    """Scores by the model itself, with ties, and lengths of both sides."""
    rng = np.random.default_rng(seed)
    mine, theirs = rng.gamma(5, 40 * longer, n), rng.gamma(5, 40, n)
    x = np.tanh((mine - theirs) / np.std(mine - theirs, ddof=1))
    won = (rng.random(n) < 1 / (1 + np.exp(-(theta + phi * x)))).astype(float)
    return won, mine, theirs


def test_an_optimiser_finds_the_same():
    y, mine, theirs = drawn(1, theta=0.3, phi=0.8)
    y[:40] = 0.5
    x = np.tanh((mine - theirs) / np.std(mine - theirs, ddof=1))

    def loss(at):
        d = at[0] + at[1] * x
        return np.mean(np.logaddexp(0, d) - y * d) + 0.5 * 1e-3 * at[1] ** 2

    best = minimize(loss, [0.0, 0.0], tol=1e-14).x
    found = length_controlled(y, mine, theirs, seed=0)
    assert found.rate.value == pytest.approx(1 / (1 + math.exp(-best[0])), abs=1e-6)
    assert found.slope.value == pytest.approx(best[1], abs=1e-5)
    assert (found.rate.n, found.rate.clusters) == (400, 400)


def test_a_rate_that_has_nothing_to_do_with_length_stays():
    y, mine, theirs = drawn(2, theta=0.5, phi=0.0, n=2000)
    found = length_controlled(y, mine, theirs, seed=0)
    assert found.rate.value == pytest.approx(y.mean(), abs=0.02)
    assert found.slope.low < 0 < found.slope.high


def test_a_win_by_length_alone_is_half():
    y, mine, theirs = drawn(3, theta=0.0, phi=2.0, n=2000)
    assert y.mean() > 0.6
    found = length_controlled(y, mine, theirs, seed=0)
    assert found.rate.low < 0.5 < found.rate.high
    assert found.slope.low > 1.5


def test_swapping_the_models_mirrors_the_rate_and_keeps_the_slope():
    y, mine, theirs = drawn(4, theta=0.2, phi=0.6)
    one, other = length_controlled(y, mine, theirs, seed=9), length_controlled(1 - y, theirs, mine, seed=9)
    assert (other.rate.value, other.rate.low, other.rate.high) == pytest.approx(
        (1 - one.rate.value, 1 - one.rate.high, 1 - one.rate.low)
    )
    assert other.slope[:3] == pytest.approx(one.slope[:3])


def test_lengths_that_always_differ_by_the_same_leave_the_plain_rate():
    y, mine, _ = drawn(5, theta=0.4, phi=0.0, n=100)
    found = length_controlled(y, mine, mine - 3.3, seed=0)
    assert found.rate.value == pytest.approx(y.mean())
    assert found.slope is None
    half = 1.96 * math.sqrt(y.mean() * (1 - y.mean()) / 100)
    assert (found.rate.low, found.rate.high) == pytest.approx((y.mean() - half, y.mean() + half), abs=0.02)


def test_who_got_everything_has_wilsons_interval_and_no_slope():
    found = length_controlled([1.0] * 30, list(range(30)), [0.0] * 30, seed=0)
    assert found.rate == wilson(30, 30)
    assert found.slope is None
    nothing = length_controlled([0.0] * 30, list(range(30)), [0.0] * 30, seed=0)
    assert nothing.rate == wilson(0, 30)


def test_one_prompt_has_no_interval():
    assert length_controlled([0.5], [3], [4], seed=0) == ((0.5, None, None, 1, 1), None)


def test_nearly_everything_is_still_finite():
    y = [1.0] * 29 + [0.0]
    found = length_controlled(y, list(range(30)), [0.0] * 30, seed=0)
    assert 0.8 < found.rate.low <= found.rate.value <= found.rate.high <= 1
    assert math.isfinite(found.slope.low)


def test_the_same_seed_is_the_same_interval_and_another_is_not():
    y, mine, theirs = drawn(6, theta=0.2, phi=0.6, n=60)
    one, same, other = (length_controlled(y, mine, theirs, seed=s).rate for s in (1, 1, 2))
    assert one == same
    assert one.value == other.value
    assert 0 < abs(one.low - other.low) < 0.02


@pytest.mark.parametrize(
    ("scores", "lengths", "match"), [([1.1], [1], "scores lie"), ([1], [1, 2], "1 scores with 2"), ([], [], "0 scores")]
)
def test_what_has_no_rate_is_refused(scores, lengths, match):
    with pytest.raises(ValueError, match=match):
        length_controlled(scores, lengths, [0.0] * len(lengths), seed=0)


@pytest.mark.parametrize(("times", "off"), [(60, 0.07), pytest.param(500, 0.03, marks=pytest.mark.slow)])
def test_the_interval_covers_the_rate_at_equal_lengths(times, off):
    truth, held = 1 / (1 + math.exp(-0.4)), 0
    for seed in range(times):
        found = length_controlled(*drawn(100 + seed, theta=0.4, phi=0.8, n=90), seed=seed).rate
        held += found.low <= truth <= found.high
    assert abs(held / times - 0.95) <= off
