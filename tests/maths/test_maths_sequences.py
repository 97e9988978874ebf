"""Confidence sequences: the formulas on a fixed sequence, published code's ends, and error under constant peeking."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dressage.maths.sequences import evidence, first_decided, looks

SEQUENCE = [1, 0, 1, 1, 0.5, 1, 1, 0, 1, 1] * 6


def capital(scores, m, alpha=0.05, of=None):
    """K_t(m) after every score, multiplied out as the formula reads; infinite where m is impossible."""
    up, down, seen, found = 0.5, 0.5, [], []
    spread = [0.25]
    for t, y in enumerate(scores, 1):
        variance = sum(spread) / t
        bet = math.sqrt(2 * math.log(2 / alpha) / (variance * t * math.log(1 + t)))
        at = m if of is None else (of * m - sum(seen)) / (of - t + 1)
        if not 0 <= at <= 1:
            return [*found, *[math.inf] * (len(scores) - t + 1)]
        up *= 1 + (min(bet, 0.5 / at) if at else bet) * (y - at)
        down *= 1 - (min(bet, 0.5 / (1 - at)) if at < 1 else bet) * (y - at)
        found.append(max(up, down))
        seen.append(y)
        mean = (0.5 + sum(seen)) / (t + 1)
        spread.append((y - mean) ** 2)
    return found


@pytest.mark.parametrize("of", [None, 80])
def test_the_ends_are_those_of_the_formula(of):
    held, low, high = set(range(1001)), 0.0, 1.0
    table = [capital(SEQUENCE, i / 1000, of=of) for i in range(1001)]
    for t, look in enumerate(looks(SEQUENCE, of=of), 1):
        held = {i for i in held if table[i][t - 1] <= 20}
        low, high = max(low, min(held) / 1000 - 0.001), min(high, max(held) / 1000 + 0.001)
        if of:
            seen = sum(SEQUENCE[:t])
            low, high = max(low, seen / of), min(high, (seen + of - t) / of)
        assert (look.n, look.mean) == (t, pytest.approx(sum(SEQUENCE[:t]) / t))
        assert (look.low, look.high) == pytest.approx((low, high), abs=1e-12)
        assert look.decided == ("above" if low > 0.5 else None)


def test_the_authors_own_code_gives_these_ends():
    # hedged_cs of confseq, with running_intersection, without and with N = 80
    after = {1: (0.0, 1.0), 10: (0.331, 1.0), 30: (0.514, 0.918), 60: (0.583, 0.880)}
    found = {look.n: (look.low, look.high) for look in looks(SEQUENCE) if look.n in after}
    assert found == {n: pytest.approx(ends, abs=1e-9) for n, ends in after.items()}
    after = {1: (0.0125, 1.0), 10: (0.35, 0.96875), 30: (0.555, 0.892), 60: (0.649, 0.8125)}
    found = {look.n: (look.low, look.high) for look in looks(SEQUENCE, of=80) if look.n in after}
    assert found == {n: pytest.approx(ends, abs=1e-9) for n, ends in after.items()}


def test_a_whole_finite_set_is_known_exactly():
    look = list(looks(SEQUENCE, of=60))[-1]
    assert (look.low, look.high) == (pytest.approx(0.75), pytest.approx(0.75))
    with pytest.raises(ValueError, match="more than the 60"):
        list(looks([*SEQUENCE, 1], of=60))


scores = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=40)


@given(scores)
def test_the_other_side_sees_the_mirror_image(y):
    other = {"above": "below", "below": "above", None: None}
    for one, mirrored in zip(looks(y), looks([1 - v for v in y]), strict=True):
        assert (one.low, one.high) == pytest.approx((1 - mirrored.high, 1 - mirrored.low))
        assert one.decided == other[mirrored.decided]


@given(scores)
def test_an_interval_never_widens_and_what_is_decided_stays(y):
    found = list(looks(y))
    for before, after in itertools.pairwise(found):
        assert before.low <= after.low <= after.high <= before.high
        assert before.decided in (None, after.decided)


def test_no_score_is_taken_after_the_deciding_one():
    taken = []

    def stream():
        for y in itertools.repeat(1.0):
            taken.append(y)
            yield y

    look = first_decided(stream())
    assert look is not None
    assert (look.decided, look.n) == ("above", len(taken))
    assert 5 < look.n < 20


def test_what_is_never_decided_ends_with_the_last_look():
    look = first_decided([0.5] * 30)
    assert look is not None
    assert (look.n, look.decided) == (30, None)
    assert first_decided([]) is None


def test_another_threshold():
    y = [1.0, 1.0, 0.0, 1.0, 1.0] * 60
    assert first_decided(y, threshold=0.5).decided == "above"
    assert first_decided(y, threshold=0.95).decided == "below"
    assert first_decided(y, threshold=0.8).decided is None


def test_evidence_by_hand():
    # t = 1: λ = sqrt(2 ln 40 / (¼ · 1 · ln 2)) = 6.5, cut to ½/½ = 1: E = 1 + 1 · ½ = 1.5, then (y = 0) 1.5 · ½
    first, second = itertools.islice(evidence([1, 0]), 2)
    assert (first, second) == (pytest.approx(1.5), pytest.approx(0.75))
    assert list(evidence([1.0] * 3))[-1] == pytest.approx(1.5**3)
    # twice the product of a whole sequence is the upper capital at ½, which the two-sided one halves
    assert list(evidence(SEQUENCE))[-1] == pytest.approx(2 * capital(SEQUENCE, 0.5)[-1])
    assert list(evidence([1.0] * 5000))[-1] > 1e300


@pytest.mark.parametrize("wrong", [[1.2], [0.5, -0.1], [math.nan]])
def test_scores_outside_the_unit_interval_are_refused(wrong):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        list(looks(wrong))


def test_levels_outside_the_unit_interval_are_refused():
    with pytest.raises(ValueError, match="alpha"):
        first_decided([1.0], alpha=1.0)
    with pytest.raises(ValueError, match="rate"):
        list(evidence([1.0], at_most=0.0))


# ---------------------------------------------------------------- simulation


def crossings(times: int, length: int, draw) -> float:
    """How often a comparison of equals was called decided, though looked at after every single prompt."""
    found = (first_decided(draw(np.random.default_rng([6, i]), length)) for i in range(times))
    return sum(look.decided is not None for look in found) / times


def coin(rng, n):
    return (rng.random(n) < 0.5).astype(float)


def graded(rng, n):
    """Prompts with two games each that mostly agree, and ties."""
    return rng.choice([0.0, 0.25, 0.5, 0.75, 1.0], n, p=[0.3, 0.1, 0.2, 0.1, 0.3])


def naive_crossings(times: int, length: int) -> float:
    """The same with a fixed-n interval that is looked at after every prompt from the tenth on."""
    crossed = 0
    for i in range(times):
        y = coin(np.random.default_rng([6, i]), length)
        n = np.arange(1, length + 1)
        mean = y.cumsum() / n
        error = np.sqrt(mean * (1 - mean) / n)
        crossed += bool((np.abs(mean - 0.5) > 1.96 * error)[9:].any())
    return crossed / times


def test_equals_are_rarely_told_apart_however_often_one_looks():
    assert crossings(150, 200, coin) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 150)
    assert naive_crossings(150, 200) > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("draw", [coin, graded])
def test_equals_are_rarely_told_apart_over_many_simulations(draw):
    assert crossings(1000, 500, draw) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 1000)


@pytest.mark.parametrize(("times", "length"), [(80, 150), pytest.param(600, 400, marks=pytest.mark.slow)])
@pytest.mark.parametrize("of", [None, 600])
def test_the_interval_holds_the_mean_at_every_look_at_once(times, length, of):
    missed = 0
    for i in range(times):
        rng = np.random.default_rng([7, i])
        y = rng.choice([0.0, 0.5, 1.0], of or length, p=[0.15, 0.15, 0.7])
        mean = 0.775 if of is None else y.mean()
        missed += any(
            not look.low <= mean + 1e-12 or not mean - 1e-12 <= look.high for look in looks(y[:length], of=of)
        )
    assert missed / times <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / times)


def test_a_clear_difference_is_decided_early_and_on_the_right_side():
    found = [first_decided((np.random.default_rng([8, i]).random(1000) < 0.6478).astype(float)) for i in range(60)]
    assert all(look.decided == "above" for look in found)
    assert np.median([look.n for look in found]) < 200
