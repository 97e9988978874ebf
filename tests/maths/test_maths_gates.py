"""Gates: ends by hand, the table of decisions, and what simulated policies that are worse or equal come to."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dressage.maths.gates import (
    Ends,
    Limits,
    Share,
    decide,
    difference_ends,
    level_ends,
    level_of_attempt,
    share_difference_ends,
    share_ends,
    unseen,
)
from dressage.maths.stats import paired_difference


def items(values):
    return dict(enumerate(values))


# ---------------------------------------------------------------- ends


def test_nothing_seen_in_n():
    # published for 5 %: n = 30: 9.5 %, 60: 4.9 %, 100: 3.0 %, 300: 1.0 %
    assert [round(unseen(n, 0.05), 3) for n in (30, 60, 100, 300)] == [0.095, 0.049, 0.030, 0.010]
    assert unseen(1, 0.05) == pytest.approx(0.95)
    assert (1 - unseen(200, 0.05)) ** 200 == pytest.approx(0.05)
    with pytest.raises(ValueError, match="at least 1"):
        unseen(0, 0.05)


def test_a_level_by_hand():
    # 0, 0, 1, 1: mean ½, variance 1/3, SE sqrt(1/12) = 0.28867513; t(0.95, 3) = 2.35336343
    found = level_ends(items([0, 0, 1, 1]), alpha=0.05)
    assert found == (0.5, pytest.approx(0.5 - 0.67935756), pytest.approx(0.5 + 0.67935756), 4)


def test_a_difference_is_the_paired_interval_at_1_minus_2_alpha():
    rng = np.random.default_rng(1)
    mine, theirs = items(rng.random(30)), items(rng.random(40))
    found = difference_ends(mine, theirs, alpha=0.025)
    paired = paired_difference(mine, theirs, level=0.95)
    assert (found.value, found.low, found.high, found.n) == pytest.approx(paired[:4])


def test_a_level_that_does_not_vary_has_the_width_of_what_can_have_gone_unseen():
    h = unseen(60, 0.05)
    assert level_ends(items([0.0] * 60), alpha=0.05) == (0, 0, pytest.approx(h), 60)
    assert level_ends(items([1.0] * 60), alpha=0.05) == (1, pytest.approx(1 - h), pytest.approx(1.0), 60)
    assert level_ends(items([0.5] * 60), alpha=0.05, span=(-1, 1))[1:3] == pytest.approx((0.5 - 1.5 * h, 0.5 + 0.5 * h))
    assert level_ends(items([7.0] * 60), alpha=0.05, span=None) == (7, None, None, 60)


def test_equal_answers_still_leave_a_worsening_possible():
    h = unseen(100, 0.05)
    same = items([0.0, 1.0] * 50)
    assert difference_ends(same, same, alpha=0.05) == (0, pytest.approx(-h), pytest.approx(h), 100)
    nats = items(range(100))
    assert difference_ends(nats, nats, alpha=0.05, span=None) == (0, None, None, 100)
    worse = items([0.25] * 100)
    better = items([0.0] * 100)
    assert difference_ends(worse, better, alpha=0.05)[1:3] == pytest.approx((0.25 - 1.25 * h, 0.25 + 0.75 * h))


def test_one_item_has_no_ends():
    assert level_ends({"i": 0.3}, alpha=0.05) == (0.3, None, None, 1)


def test_a_share_by_hand():
    # flips 1 of 1, 0 of 1, 1 of 2, never right: R = 2/4; happened − R could: ½, −½, 0, 0; mean could 1
    # three items could: SE = sqrt(3/2 · (¼ + ¼)) / 4 = 0.21650635, t(0.95, 2) = 2.91998558
    found = share_ends(items([Share(1, 1), Share(0, 1), Share(1, 2), Share(0, 0)]), alpha=0.05)
    half = 2.91998558 * 0.21650635
    assert found == (0.5, pytest.approx(0.5 - half), pytest.approx(0.5 + half), 3)


def test_a_share_that_could_always_happen_is_a_level():
    flips = [0, 1, 0, 0, 1, 0, 0, 1]
    plain, share = level_ends(items(flips), alpha=0.05), share_ends(items([Share(f, 1) for f in flips]), alpha=0.05)
    assert share == pytest.approx(plain)
    other = [1, 1, 0, 0, 0, 0, 1, 1]
    one = difference_ends(items(flips), items(other), alpha=0.05)
    two = share_difference_ends(items([Share(f, 1) for f in flips]), items([Share(f, 1) for f in other]), alpha=0.05)
    assert two == pytest.approx(one)


def test_no_flip_at_all_is_bounded_by_the_items_that_could_have():
    mine = items([Share(0, i % 2) for i in range(80)])
    assert share_ends(mine, alpha=0.05) == (0, 0, pytest.approx(unseen(40, 0.05)), 40)
    found = share_difference_ends(mine, items([Share(0, 1)] * 80), alpha=0.05)
    assert found == (0, pytest.approx(-unseen(40, 0.05)), pytest.approx(unseen(40, 0.05)), 40)


def test_the_error_of_a_share_agrees_with_a_bootstrap_of_items():
    rng = np.random.default_rng(3)
    could = rng.integers(0, 3, 300)
    happened = rng.binomial(could, 0.3)
    found = share_ends(items([Share(h, c) for h, c in zip(happened, could, strict=True)]), alpha=0.05)
    drawn = [rng.integers(0, 300, 300) for _ in range(1500)]
    spread = np.std([happened[d].sum() / could[d].sum() for d in drawn], ddof=1)
    assert (found.high - found.low) / 2 / 1.6525 == pytest.approx(spread, rel=0.1)


def test_negated_is_the_other_side_and_an_involution():
    ends = Ends(0.3, 0.1, None, 9)
    assert ends.negated() == (-0.3, None, -0.1, 9)
    assert ends.negated().negated() == ends


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: level_ends(items([0.2, 1.2]), alpha=0.05), r"\[0, 1\], not 1.2"),
        (lambda: level_ends(items([0.2, math.nan]), alpha=0.05), "failed judgement"),
        (lambda: level_ends(items([0.2, 0.4]), alpha=0.5), "between 0 and 1/2"),
        (lambda: difference_ends({"p": 1}, {"q": 1}, alpha=0.05), "same items"),
        (lambda: share_ends(items([Share(0, 0)]), alpha=0.05), "on no item"),
        (lambda: share_ends(items([Share(2, 1)]), alpha=0.05), "more happened than could"),
        (lambda: share_difference_ends({"p": Share(0, 1)}, {}, alpha=0.05), "same items"),
    ],
)
def test_what_has_no_ends_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()


# ---------------------------------------------------------------- decisions

GOOD, BAD, WIDE = Ends(0.0, -0.02, 0.03, 300), Ends(0.09, 0.06, 0.12, 300), Ends(0.02, -0.03, 0.07, 300)
UNKNOWN = Ends(0.0, None, None, 300)


@pytest.mark.parametrize(
    ("difference", "level", "outcome"),
    [
        (GOOD, GOOD, "pass"),
        (BAD, GOOD, "fail"),
        (GOOD, BAD, "fail"),
        (WIDE, GOOD, "inconclusive"),
        (GOOD, WIDE, "inconclusive"),
        (WIDE, BAD, "fail"),
        (UNKNOWN, GOOD, "inconclusive"),
        (UNKNOWN, BAD, "fail"),
        (Ends(0.04, 0.03, 0.05, 300), GOOD, "pass"),
        (Ends(0.06, 0.05, 0.07, 300), GOOD, "inconclusive"),
    ],
)
def test_the_bad_end_decides(difference, level, outcome):
    found = decide(Limits(0.05, 0.05), differences={"predecessor": difference}, level=level)
    assert found.outcome == outcome
    assert len(found.reasons) == 2


def test_a_worsening_must_keep_its_limit_against_every_one():
    limits = Limits(may_worsen_by=0.05)
    ends = {"pass": GOOD, "fail": BAD, "inconclusive": WIDE}
    for one, other in itertools.product(ends, ends):
        found = decide(limits, differences={"predecessor": ends[one], "origin": ends[other]})
        worst = "fail" if "fail" in (one, other) else "inconclusive" if "inconclusive" in (one, other) else "pass"
        assert found.outcome == worst
    said = decide(limits, differences={"predecessor": GOOD, "origin": BAD}).reasons
    assert said[1] == "worse than origin by 0.090, between 0.060 and 0.120, limit 0.050"


def test_a_doubt_or_too_few_items_decide_nothing():
    limits = Limits(may_worsen_by=0.05, smallest_n=400)
    found = decide(limits, differences={"predecessor": GOOD})
    assert found.outcome == "inconclusive"
    assert found.reasons[0] == "300 items, but it takes 400"
    assert decide(limits, differences={"predecessor": BAD}).outcome == "inconclusive"
    doubt = decide(Limits(0.05), differences={"predecessor": GOOD}, doubts=["another judge on one side"])
    assert (doubt.outcome, doubt.reasons[0]) == ("inconclusive", "another judge on one side")
    assert decide(Limits(0.05, 0.5), differences={}, doubts=["no baseline"]).outcome == "inconclusive"


def test_a_limit_that_is_not_set_is_not_asked():
    assert decide(Limits(at_most=0.05), differences={"predecessor": BAD}, level=GOOD).outcome == "pass"
    assert decide(Limits(may_worsen_by=0.05), differences={"predecessor": GOOD}, level=BAD).outcome == "pass"


def test_a_floor_is_a_negated_ceiling():
    engagement = level_ends(items([1.0] * 95 + [0.0] * 5), alpha=0.05)
    for floor, outcome in ((0.85, "pass"), (0.93, "inconclusive"), (0.995, "fail")):
        assert decide(Limits(at_most=-floor), differences={}, level=engagement.negated()).outcome == outcome


def test_a_gate_without_limits_or_without_what_it_limits_is_an_error():
    with pytest.raises(ValueError, match="neither"):
        decide(Limits(), differences={"predecessor": GOOD})
    with pytest.raises(ValueError, match="nothing to compare"):
        decide(Limits(0.05), differences={})
    with pytest.raises(ValueError, match="there is none"):
        decide(Limits(at_most=0.05), differences={"predecessor": GOOD})


def test_retries_on_the_same_items_spend_alpha():
    levels = [level_of_attempt(0.05, earlier=k) for k in range(40)]
    assert levels[:3] == [0.05, 0.025, 0.0125]
    assert sum(levels) < 0.1
    with pytest.raises(ValueError, match="0 or more"):
        level_of_attempt(0.05, earlier=-1)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=30), st.randoms(use_true_random=False)
)
def test_the_order_of_items_changes_nothing(pairs, random):
    mine, theirs = ({i: p[side] for i, p in enumerate(pairs)} for side in (0, 1))
    order = random.sample(range(len(pairs)), len(pairs))
    one = difference_ends(mine, theirs, alpha=0.05)
    other = difference_ends({i: mine[i] for i in order}, theirs, alpha=0.05)
    assert one == pytest.approx(other, abs=1e-9)


# ---------------------------------------------------------------- simulated policies


def outcome_of(rng, *, n: int, worse_by: float, limit: float = 0.05, noise: float = 0.15) -> str:
    """A log-probability probe: items differ much, the same item on both sides little."""
    hard = rng.beta(2, 5, n)
    theirs = (hard + rng.normal(0, noise, n)).clip(-5, 5)
    mine = (hard + worse_by + rng.normal(0, noise, n)).clip(-5, 5)
    ends = difference_ends(items(mine), items(theirs), alpha=0.05, span=None)
    return decide(Limits(limit), differences={"predecessor": ends}).outcome


def shares(times: int, **knobs) -> dict[str, float]:
    rng = np.random.default_rng(12)
    found = [outcome_of(rng, **knobs) for _ in range(times)]
    return {outcome: found.count(outcome) / times for outcome in ("pass", "fail", "inconclusive")}


def test_a_planted_regression_just_beyond_the_limit_is_blocked():
    assert shares(600, n=200, worse_by=0.051)["pass"] <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 600)
    assert shares(200, n=200, worse_by=0.12)["pass"] == 0


def test_away_from_the_limit_more_items_decide():
    open_equal = [shares(150, n=n, worse_by=0.0)["inconclusive"] for n in (30, 100, 400)]
    open_worse = [shares(150, n=n, worse_by=0.10)["inconclusive"] for n in (30, 100, 400)]
    assert open_equal[0] > open_equal[1] > open_equal[2] == pytest.approx(0, abs=0.02)
    assert open_worse[0] > open_worse[1] > open_worse[2] == pytest.approx(0, abs=0.02)


def test_nothing_to_see_in_few_items_is_no_pass():
    calm = items([0.0] * 40)
    limit = Limits(may_worsen_by=0.05)
    assert decide(limit, differences={"p": difference_ends(calm, calm, alpha=0.05)}).outcome == "inconclusive"
    calm = items([0.0] * 60)
    assert decide(limit, differences={"p": difference_ends(calm, calm, alpha=0.05)}).outcome == "pass"
