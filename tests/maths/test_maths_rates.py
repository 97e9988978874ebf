"""The preference rate: whose failure counts how, and which rows are one prompt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dressage.maths.rates import Game, rate_of, rate_without_ties, rates_by_tag, value_of
from dressage.maths.stats import mean_interval


@pytest.mark.parametrize(
    ("game", "as_losses", "left_out"),
    [
        (Game("p", "a"), 1.0, 1.0),
        (Game("p", "tie"), 0.5, 0.5),
        (Game("p", "b"), 0.0, 0.0),
        (Game("p", None), None, None),
        (Game("p", None, ("a",)), 0.0, None),
        (Game("p", None, ("b",)), 1.0, None),
        (Game("p", None, ("a", "b")), None, None),
        (Game("p", "b", ("a",)), 0.0, None),
        (Game("p", "tie", ("a", "b")), None, None),
    ],
)
def test_what_a_game_is_worth(game, as_losses, left_out):
    assert value_of(game, failures_as_losses=True) == as_losses
    assert value_of(game, failures_as_losses=False) == left_out


def test_an_outcome_nobody_knows_is_an_error():
    with pytest.raises(KeyError):
        value_of(Game("p", "both_bad"), failures_as_losses=True)


def test_a_rate_by_hand():
    # p: 1, 1, 0 → 2/3; q: ½ → ½; r: a broken → 0; s: undecided, left out. Mean (2/3 + 1/2 + 0)/3 = 7/18
    games = [Game("p", "a"), Game("q", "tie"), Game("p", "a"), Game("r", None, ("a",)), Game("p", "b"), Game("s", None)]
    rate = rate_of(games, failures_as_losses=True)
    assert rate.estimate.value == pytest.approx(7 / 18)
    assert (rate.wins, rate.ties, rate.losses, rate.left_out) == (2, 1, 2, 1)
    assert (rate.estimate.n, rate.estimate.clusters) == (5, 3)
    # without the broken one: (2/3 + 1/2)/2
    assert rate_of(games, failures_as_losses=False).estimate.value == pytest.approx(7 / 12)


outcomes = st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["a", "b", "tie"])), min_size=1, max_size=40)


@given(outcomes)
def test_the_two_sides_share_one(rows):
    other = {"a": "b", "b": "a", "tie": "tie"}
    one = rate_of([Game(*r) for r in rows], failures_as_losses=True)
    two = rate_of([Game(p, other[o]) for p, o in rows], failures_as_losses=True)
    assert one.estimate.value + two.estimate.value == pytest.approx(1)
    assert (one.wins, one.losses) == (two.losses, two.wins)
    if one.estimate.low is not None:
        assert 0 <= one.estimate.low <= one.estimate.value + 1e-9
        assert one.estimate.value - 1e-9 <= one.estimate.high <= 1


@given(outcomes)
def test_a_second_run_with_the_same_outcomes_adds_no_certainty(rows):
    once = rate_of([Game(*r) for r in rows], failures_as_losses=True).estimate
    twice = rate_of([Game(*r) for r in rows * 2], failures_as_losses=True).estimate
    assert (twice.clusters, twice.n) == (once.clusters, 2 * once.n)
    if once.low is not None:
        assert (twice.value, twice.low, twice.high) == pytest.approx((once.value, once.low, once.high), abs=1e-9)


def test_one_game_a_prompt_is_students_interval():
    found = rate_of([Game(i, "aabt"[i % 4].replace("t", "tie")) for i in range(40)], failures_as_losses=True)
    expected = mean_interval([1, 1, 0, 0.5] * 10)
    assert found.estimate == pytest.approx(expected)


def test_no_game_that_counts_is_no_rate():
    assert rate_of([], failures_as_losses=True) is None
    assert rate_of([Game("p", None)], failures_as_losses=True) is None


def test_without_ties_by_hand():
    # p: 1, 0 → ½; q: tie alone, so it leaves the set; r: broken, a loss. Mean (½ + 0)/2
    games = [
        Game("p", "a"),
        Game("p", "b"),
        Game("p", "tie"),
        Game("q", "tie"),
        Game("r", None, ("a",)),
        Game("s", None),
    ]
    rate = rate_without_ties(games, failures_as_losses=True)
    assert rate.estimate.value == pytest.approx(0.25)
    assert (rate.wins, rate.ties, rate.losses, rate.left_out) == (1, 0, 2, 3)
    assert rate.estimate.clusters == 2
    assert rate_without_ties([Game("q", "tie")], failures_as_losses=True) is None


def test_a_rate_of_each_tag():
    tags = {"p": ("grief", "short"), "q": ("grief", "grief"), "r": (), "s": ("work",)}
    games = [Game("p", "a"), Game("q", "b"), Game("q", "a"), Game("r", "b"), Game("s", None)]
    found = rates_by_tag(games, tags, failures_as_losses=True)
    assert list(found) == ["grief", "short", "work"]
    assert found["grief"] == rate_of(games[:3], failures_as_losses=True)
    assert found["grief"].estimate.value == pytest.approx(0.75)
    assert found["short"].estimate.value == 1.0
    assert found["work"] is None
    with pytest.raises(KeyError):
        rates_by_tag([Game("t", "a")], tags, failures_as_losses=True)
