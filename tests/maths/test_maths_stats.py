"""Means with their uncertainty: hand-computed values, symmetries, coverage in simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dressage.maths.stats import (
    clustered,
    elo_of_rate,
    fold,
    mean_interval,
    paired_difference,
    t_quantile,
    wilson,
)


def half_width(estimate):
    return (estimate.high - estimate.low) / 2


def test_clustered_error_of_five_rows_by_hand():
    # rows      1, 0 | 1, 1 | 0   in clusters p | q | r:  n = 5, C = 3, mean 3/5
    # residuals 0.4, −0.6 | 0.4, 0.4 | −0.6;  sums −0.2, 0.8, −0.6;  squares 0.04 + 0.64 + 0.36 = 1.04
    # SE = 1/5 · sqrt(3/2 · 1.04) = sqrt(1.56)/5 = 0.24979992;  t(0.975, 2) = 4.30265273
    found = clustered([1, 0, 1, 1, 0], ["p", "p", "q", "q", "r"])
    assert found.value == pytest.approx(0.6)
    assert half_width(found) == pytest.approx(4.30265273 * 0.24979992, rel=1e-7)
    assert (found.n, found.clusters) == (5, 3)


def test_one_value_a_cluster_is_students_interval():
    # 1, 2, 3, 4: mean 2.5, variance 5/3, SE sqrt(5/12) = 0.64549722, t(0.975, 3) = 3.18244631
    found = mean_interval([1, 2, 3, 4])
    assert (found.value, found.n, found.clusters) == (2.5, 4, 4)
    assert half_width(found) == pytest.approx(3.18244631 * 0.64549722, rel=1e-7)
    assert found == clustered([1, 2, 3, 4], "abcd")


values = st.lists(st.floats(0, 1).map(lambda x: round(x, 3)), min_size=2, max_size=20)


@given(values, st.integers(2, 4))
def test_copies_of_a_row_say_nothing_new(y, copies):
    ids = list(range(len(y)))
    once, often = clustered(y, ids), clustered(y * copies, ids * copies)
    assert often.value == pytest.approx(once.value)
    assert (often.low, often.high) == pytest.approx((once.low, once.high), abs=1e-9)


def test_a_naive_interval_would_have_narrowed():
    y = [1, 0, 0, 1, 1, 0]
    assert half_width(mean_interval(y * 4)) < 0.6 * half_width(clustered(y * 4, list(range(6)) * 4))


@given(values, st.randoms(use_true_random=False))
def test_order_does_not_matter(y, random):
    rows = [(v, i % 3) for i, v in enumerate(y)]
    shuffled = random.sample(rows, len(rows))
    one, other = (clustered(*zip(*r, strict=True)) for r in (rows, shuffled))
    assert other == pytest.approx(one, abs=1e-9)


def test_fewer_than_two_clusters_have_no_interval():
    assert clustered([0.2, 0.9], ["p", "p"]) == (pytest.approx(0.55), None, None, 2, 1)


def test_shares_that_do_not_vary_get_wilsons_interval_of_their_clusters():
    # all 1 in 10 clusters: low = 1 / (1 + z²/10) = 1 / 1.38414588 = 0.72246720
    found = clustered([1.0] * 30, list(range(10)) * 3)
    assert found.low == pytest.approx(0.72246720, abs=1e-6)
    assert (found.value, found.high, found.n, found.clusters) == (1.0, 1.0, 30, 10)


def test_clusters_that_do_not_vary_though_their_rows_do():
    # each prompt once won and once lost: every cluster sum is 0, which proves nothing about a next prompt
    found = clustered([1.0, 0.0] * 10, [i // 2 for i in range(20)])
    assert (found.low, found.high) == wilson(5, 10)[1:3]
    assert found.low < 0.3


def test_other_values_that_do_not_vary_have_no_interval():
    assert clustered([7.1] * 5, range(5)) == (pytest.approx(7.1), None, None, 5, 5)


@pytest.mark.parametrize(("y", "clusters"), [([], []), ([1.0], ["a", "b"]), ([math.nan, 1.0], "ab"), ([math.inf], "a")])
def test_what_has_no_mean_is_refused(y, clusters):
    with pytest.raises(ValueError, match=r"value"):
        clustered(y, clusters)


def test_t_quantiles_from_a_table():
    table = {1: 12.7062, 5: 2.5706, 30: 2.0423, 100: 1.9840}
    assert {n: t_quantile(0.95, n) for n in table} == pytest.approx(table, abs=1e-4)
    assert t_quantile(0.90, 10) == pytest.approx(1.8125, abs=1e-4)


def test_wilson_five_of_a_hundred():
    found = wilson(5, 100)
    assert (found.value, round(found.low, 3), round(found.high, 3)) == (0.05, 0.022, 0.112)


def test_wilson_of_nothing_seen():
    # k = 0: the upper end is z² / (n + z²); z² = 3.84145882
    for n in (1, 30, 100):
        found = wilson(0, n)
        assert (found.value, found.low) == (0, 0)
        assert found.high == pytest.approx(3.84145882 / (n + 3.84145882))


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_mirrors_and_holds_its_share(case):
    k, n = case
    one, other = wilson(k, n), wilson(n - k, n)
    assert 0 <= one.low <= one.value <= one.high <= 1
    assert one.high > one.low
    assert (other.low, other.high) == pytest.approx((1 - one.high, 1 - one.low))


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3), (0, 0)])
def test_wilson_refuses_what_is_no_share(k, n):
    with pytest.raises(ValueError, match="no share"):
        wilson(k, n)


def test_fold_is_the_mean_of_each_cluster_in_order():
    assert fold([1, 0, 0.5, 1], "baba") == {"b": 0.75, "a": 0.5}
    with pytest.raises(ValueError, match="longer"):
        fold([1], "ab")


def test_a_paired_difference_by_hand():
    # differences 1, 0, 1, −1 on the shared prompts (a fifth and a sixth are on one side only):
    # mean 1/4, deviations ¾, −¼, ¾, −5/4 with squares 2.75; SE = sqrt(2.75/3/4) = 0.47871355
    a = {"p": 1.0, "q": 0.5, "r": 1.0, "s": 0.0, "only a": 1.0}
    b = {"q": 0.5, "p": 0.0, "r": 0.0, "s": 1.0, "only b": 0.0}
    found = paired_difference(a, b)
    assert found.value == pytest.approx(0.25)
    assert half_width(found) == pytest.approx(3.18244631 * 0.47871355, rel=1e-7)
    assert found.n == 4
    mirrored = paired_difference(b, a)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))


def test_pairing_removes_what_makes_a_prompt_hard_for_both():
    rng = np.random.default_rng(3)
    hard = dict(enumerate(rng.uniform(0, 0.9, 50)))
    better = {k: v + 0.05 + rng.normal(0, 0.01) for k, v in hard.items()}
    found = paired_difference(better, hard)
    assert 0.045 < found.low < found.high < 0.055
    assert half_width(mean_interval(list(hard.values()))) > 0.05


def test_equal_policies_still_have_an_uncertain_difference():
    # none of 100 differs: at most h = z²/(100 + z²) = 0.03699350 of all may, by at most 1 either way
    same = dict.fromkeys(range(100), 1.0)
    assert paired_difference(same, same)[:3] == pytest.approx((0.0, -0.03699350, 0.03699350), abs=1e-7)
    # all differ by 1: the mean difference is at least (1 − h) − h
    nothing = dict.fromkeys(range(100), 0.0)
    assert paired_difference(same, nothing)[:3] == pytest.approx((1.0, 1 - 2 * 0.03699350, 1.0), abs=1e-7)
    lengths = dict.fromkeys(range(100), 50.0)
    assert paired_difference(lengths, lengths)[:3] == (0, None, None)


def test_a_difference_needs_shared_prompts():
    with pytest.raises(ValueError, match="same prompts"):
        paired_difference({"p": 1.0}, {"q": 1.0})
    assert paired_difference({"p": 1.0}, {"p": 0.0}) == (1.0, None, None, 1, 1)


def test_elo_of_published_rates():
    published = {0.6478: 105.9, 0.55: 34.9, 0.53: 20.9, 0.60: 70.4, 0.5: 0.0}
    assert {rate: elo_of_rate(rate) for rate in published} == pytest.approx(published, abs=0.05)
    assert (elo_of_rate(0), elo_of_rate(1)) == (-math.inf, math.inf)
    with pytest.raises(ValueError, match="rate"):
        elo_of_rate(1.2)


def test_the_interval_covers_the_truth_95_times_in_100():
    # 40 prompts with 1 to 4 games; games of a prompt share its difficulty; the true rate is 0.6
    rng = np.random.default_rng(20)
    times, covered, naive = 1500, 0, 0
    for _ in range(times):
        sizes = rng.integers(1, 5, 40)
        ids = np.repeat(np.arange(40), sizes)
        y = (rng.random(len(ids)) < rng.beta(1.2, 0.8, 40)[ids]).astype(float)
        found, rows = clustered(y, ids.tolist()), mean_interval(y)
        covered += found.low <= 0.6 <= found.high
        naive += rows.low <= 0.6 <= rows.high
    assert 0.935 <= covered / times <= 0.965
    assert naive / times < 0.92
