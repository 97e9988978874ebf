"""A slope with the label held fixed: by hand, against numpy's least squares, and what must not matter."""

import numpy as np
import pytest

from dressage.maths.leanings import leaning, relative_difference
from dressage.maths.stats import t_quantile


def test_a_relative_difference_by_hand():
    assert relative_difference(30, 10) == 0.5
    assert relative_difference(10, 30) == -0.5
    assert relative_difference(0, 0) == 0
    with pytest.raises(ValueError, match="0 or more"):
        relative_difference(-1, 2)


def test_a_slope_by_hand():
    # all labels tied, so φ/s = Σ d c / Σ d²: s² = (4 + 4 + 1 + 1)/4 = 2.5; Σ d c = 1 + 1 + 0.5 − 0.5 = 2; /10 · s
    found = leaning([0.5, -0.5, 0.5, -0.5], [0] * 4, [2, -2, 1, 1], range(4))
    assert found.value == pytest.approx(2 / 10 * 2.5**0.5)


def test_the_label_is_held_fixed():
    # the judge follows the label, which happens to go with length; nothing is left for length
    label = [0.5, 0.5, 0.5, -0.5, -0.5, -0.5]
    apart = [0.6, 0.2, 0.4, -0.6, -0.3, -0.1]
    found = leaning(label, label, apart, range(6))
    assert found.value == pytest.approx(0, abs=1e-12)
    assert found.low is None  # nothing varies: no width zero


def test_against_least_squares():
    rng = np.random.default_rng(3)
    d, g = rng.normal(size=60), rng.choice([0.5, -0.5], size=60)
    c = np.sign(0.6 * g + 0.2 * d + rng.normal(scale=0.3, size=60)) / 2
    s = np.sqrt(np.mean(d**2))
    slopes, *_ = np.linalg.lstsq(np.column_stack([g, d / s]), c, rcond=None)
    found = leaning(list(c), list(g), list(d), range(60))
    assert found.value == pytest.approx(slopes[1])
    assert found.low < found.value < found.high


def test_the_interval_is_that_of_the_jackknife():
    # without the first: Σ d c = 1 + 0.5 − 0.5 = 1 over 6, and so on; all labels tied; s² = 2.5
    found = leaning([0.5, -0.5, 0.5, -0.5], [0] * 4, [2, -2, 1, 1], range(4))
    without = [1 / 6, 1 / 6, 1.5 / 9, 2.5 / 9]  # Σ d c over Σ d², less each
    error = (3 / 4 * 2.5 * sum((v - 0.2) ** 2 for v in without)) ** 0.5
    assert found.high - found.value == pytest.approx(t_quantile(0.95, 2) * error)


def test_what_one_prompt_alone_decides_has_no_interval():
    found = leaning([0.5, -0.5, 0.5, -0.5], [0.5, 0.5, -0.5, -0.5], [1, 0, 0, 0], range(4))
    assert found is not None
    assert found.low is None


def test_which_of_a_pair_is_named_first_does_not_matter():
    rng = np.random.default_rng(5)
    d, g, turn = rng.normal(size=40), rng.choice([0.5, 0.0, -0.5], size=40), rng.choice([1, -1], size=40)
    c = rng.choice([0.5, 0.0, -0.5], size=40)
    straight = leaning(list(c), list(g), list(d), range(40))
    assert leaning(list(c * turn), list(g * turn), list(d * turn), range(40)) == pytest.approx(straight)


def test_rows_of_one_prompt_widen_nothing_and_narrow_nothing():
    rng = np.random.default_rng(7)
    d, g, c = rng.normal(size=30), rng.choice([0.5, -0.5], size=30), rng.choice([0.5, -0.5], size=30)
    once = leaning(list(c), list(g), list(d), range(30))
    twice = leaning(list(c) * 2, list(g) * 2, list(d) * 2, [*range(30), *range(30)])
    assert twice.value == pytest.approx(once.value)
    assert (twice.low, twice.high) == pytest.approx((once.low, once.high))


def test_the_interval_covers():
    rng, inside = np.random.default_rng(11), 0
    for _ in range(400):
        d, g = rng.normal(size=80), rng.choice([0.5, -0.5], size=80)
        d /= np.sqrt(np.mean(d**2))
        chance = np.clip(0.5 + 0.5 * g + 0.1 * d, 0, 1)
        c = (rng.random(80) < chance) - 0.5
        found = leaning(list(c), list(g), list(d), range(80))
        inside += found.low <= 0.1 <= found.high
    assert 0.92 <= inside / 400 <= 0.98  # clipping bends the truth a little


@pytest.mark.parametrize(
    ("label", "apart"),
    [
        ([0.5, -0.5, 0.5], [0, 0, 0]),  # no two replies differ
        ([0.5, -0.5, 0.5], [0.5, -0.5, 0.5]),  # the label says the same
    ],
)
def test_no_slope_where_none_can_be_told(label, apart):
    assert leaning([0.5, 0.5, -0.5], label, apart, range(3)) is None
