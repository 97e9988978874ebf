"""κ, Brier, reliability and calibration error: by hand, against Fleiss's variance, and what must not matter."""

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dressage.maths.agreement import Bin, brier, calibration_error, cohen_kappa, reliability
from dressage.maths.stats import t_quantile, wilson

# Two who label 50 rows yes or no: 20 both yes, 5 and 10 apart, 15 both no.
TABLE = {("yes", "yes"): 20, ("yes", "no"): 5, ("no", "yes"): 10, ("no", "no"): 15}
ONE = [a for (a, _), n in TABLE.items() for _ in range(n)]
OTHER = [b for (_, b), n in TABLE.items() for _ in range(n)]


def fleiss(table: dict[tuple[str, str], int]) -> float:
    """The variance of κ of Fleiss, Cohen and Everitt (1969), as they write it, cell by cell."""
    n = sum(table.values())
    words = sorted({w for pair in table for w in pair})
    p = {(i, j): table.get((i, j), 0) / n for i, j in product(words, words)}
    row = {i: sum(p[i, j] for j in words) for i in words}
    column = {j: sum(p[i, j] for i in words) for j in words}
    po, pe = sum(p[i, i] for i in words), sum(row[i] * column[i] for i in words)
    same = sum(p[i, i] * ((1 - pe) - (column[i] + row[i]) * (1 - po)) ** 2 for i in words)
    apart = (1 - po) ** 2 * sum(p[i, j] * (column[i] + row[j]) ** 2 for i, j in product(words, words) if i != j)
    return (same + apart - (po * pe - 2 * pe + po) ** 2) / (n * (1 - pe) ** 4)


def test_kappa_by_hand():
    # p_o = 35/50 = 0.7; yes: 25/50 and 30/50, no: 25/50 and 20/50: p_e = 0.3 + 0.2 = 0.5; κ = 0.2/0.5
    found = cohen_kappa(ONE, OTHER, range(50))
    assert found.value == pytest.approx(0.4)
    assert (found.n, found.clusters) == (50, 50)


def test_the_variance_of_kappa_is_that_of_fleiss():
    found = cohen_kappa(ONE, OTHER, range(50))
    error = math.sqrt(fleiss(TABLE) * 50 / 49)  # the clustered one divides by C − 1
    assert found.high - found.value == pytest.approx(t_quantile(0.95, 49) * error)
    assert found.value - found.low == pytest.approx(t_quantile(0.95, 49) * error)


def test_kappa_over_three_words_by_hand():
    # agree on 3 of 5; one: 2/5, 2/5, 1/5, other: 3/5, 2/5, 0: p_e = 6/25 + 4/25 = 10/25; κ = (15/25 − 10/25)/(15/25)
    found = cohen_kappa([1, 1, 2, 2, 3], [1, 1, 2, 1, 2], range(5))
    assert found.value == pytest.approx(1 / 3)


def test_rows_of_one_prompt_count_once():
    twice = cohen_kappa(ONE * 2, OTHER * 2, [*range(50), *range(50)])
    once = cohen_kappa(ONE, OTHER, range(50))
    assert twice.value == pytest.approx(once.value)
    assert (twice.low, twice.high) == pytest.approx((once.low, once.high))
    assert twice.clusters == 50


def test_perfect_agreement_still_has_an_interval():
    labels = ["a", "b"] * 10
    found = cohen_kappa(labels, labels, range(20))
    assert found.value == 1
    assert found.high == pytest.approx(1)
    assert found.low == pytest.approx((wilson(20, 20).low - 0.5) / 0.5)


def test_kappa_is_not_defined_where_both_say_one_word():
    assert cohen_kappa(["a"] * 4, ["a"] * 4, range(4)) is None


def test_one_who_always_says_the_same_has_kappa_zero():
    found = cohen_kappa(["a", "b", "a", "b"], ["a"] * 4, range(4))
    assert found.value == pytest.approx(0)


def test_kappa_needs_rows():
    with pytest.raises(ValueError, match="a label of each"):
        cohen_kappa([], [], [])
    with pytest.raises(ValueError, match="a label of each"):
        cohen_kappa(["a"], ["a", "b"], [1])


WORDS = st.sampled_from(["first", "second", "tie"])
TURNED = {"first": "second", "second": "first", "tie": "tie"}


@given(st.lists(st.tuples(WORDS, WORDS, st.booleans()), min_size=2, max_size=30))
def test_pairs_counted_both_ways_round_have_no_right_way_round(rows):
    def both(turned: bool):
        one = [TURNED[a] if turn and turned else a for a, _, turn in rows]
        other = [TURNED[b] if turn and turned else b for _, b, turn in rows]
        clusters = list(range(len(rows))) * 2
        return cohen_kappa(one + [TURNED[a] for a in one], other + [TURNED[b] for b in other], clusters)

    straight, turned = both(False), both(True)
    assert (straight is None) == (turned is None)
    if straight is not None:
        assert straight == pytest.approx(turned)


def test_without_ties_and_both_ways_kappa_is_twice_the_accuracy_less_one():
    one = ["first"] * 10
    other = ["first"] * 7 + ["second"] * 3
    found = cohen_kappa(one + ["second"] * 10, other + [TURNED[b] for b in other], list(range(10)) * 2)
    assert found.value == pytest.approx(2 * 0.7 - 1)


# ---------------------------------------------------------------- Brier


def test_brier_by_hand():
    # 0.04, 0.04, 0.36, 0.25: mean 0.1725
    found = brier([0.8, 0.2, 0.6, 0.5], [1, 0, 0, 1], range(4))
    assert found.value == pytest.approx(0.1725)
    assert found.low == 0  # cut: no mean of squares lies below


def test_a_constant_half_gets_a_quarter():
    assert brier([0.5] * 6, [0, 1] * 3, range(6)).value == pytest.approx(0.25)


@pytest.mark.parametrize(("p", "y"), [([], []), ([0.5], [0.5, 1]), ([1.1], [1]), ([0.5], [-1]), ([math.nan], [1])])
def test_what_is_no_probability_is_refused(p, y):
    with pytest.raises(ValueError, match="probabilities"):
        brier(p, y, range(len(p)))


# ---------------------------------------------------------------- calibration


def test_reliability_by_hand():
    # 0.3/0.1 is 2.9999999999999996 in floating point, and 0.3 belongs into [0.3, 0.4) all the same; 1 is in the last
    found = reliability([0.3, 0.38, 0.91, 1.0], [0, 1, 1, 1])
    assert [b.n for b in found] == [2, 2]
    assert found[0] == Bin(0.3, 0.4, 2, pytest.approx(0.34), 0.5)
    assert found[1] == Bin(0.9, 1.0, 2, pytest.approx(0.955), 1.0)


def test_calibration_error_by_hand():
    # bins [0.3, 0.4): 2 rows, |0.34 − 0.5| = 0.16; [0.9, 1]: 2 rows, |0.955 − 1| = 0.045; (2·0.16 + 2·0.045)/4
    found = calibration_error([0.3, 0.38, 0.91, 1.0], [0, 1, 1, 1], range(4))
    assert found.value == pytest.approx(0.1025)
    assert found.low <= found.value <= found.high


def test_what_comes_true_as_often_as_was_said_has_no_error():
    p = [0.25] * 8 + [0.75] * 8
    y = [1, 0, 0, 0] * 2 + [1, 1, 1, 0] * 2
    found = calibration_error(p, y, range(16))
    assert found.value == pytest.approx(0)
    assert found.high > 0  # sixteen rows cannot show that


def test_one_prompt_has_no_interval():
    found = calibration_error([0.5, 0.6], [1, 0], ["p", "p"])
    assert (found.low, found.high) == (None, None)


def test_the_interval_takes_prompts_together():
    p, y = [0.9, 0.8, 0.7, 0.6] * 5, [1, 0, 1, 0] * 5
    apart = calibration_error(p, y, range(20))
    together = calibration_error(p * 4, y * 4, list(range(20)) * 4)
    assert together.value == pytest.approx(apart.value)
    assert (together.low, together.high) == pytest.approx((apart.low, apart.high))


@given(st.lists(st.tuples(st.integers(0, 100), st.booleans()), min_size=1, max_size=40), st.randoms())
def test_the_order_of_the_rows_does_not_matter(rows, rng):
    shuffled = list(rows)
    rng.shuffle(shuffled)
    values = [
        calibration_error([p / 100 for p, _ in of], [float(y) for _, y in of], [1] * len(of)).value
        for of in (rows, shuffled)
    ]
    assert values[0] == pytest.approx(values[1])
    assert 0 <= values[0] <= 1
