"""What battles cannot say: models that never met, never lost, never varied; each a statement, never an infinity."""

import math

import numpy as np
import pytest

from dressage.maths.bradley_terry import Rows, fit
from dressage.maths.open_ends import sweep
from dressage.maths.ratings import ELO, Battles, rated
from dressage.maths.stats import elo_of_rate
from dressage.maths.win_graph import graph_of, places


def battles(*rows):
    """Each row `a b score times`, every game on a prompt of its own."""
    games = [(a, b, y) for a, b, y, times in rows for _ in range(times)]
    return Battles(*map(list, zip(*games, strict=True)), prompt=range(len(games)))


def said(found):
    return {(statement.kind, statement.models) for statement in found.statements}


def finite(found):
    return all(x is None or math.isfinite(x) for row in found.rows for x in (row.rating, row.low, row.high))


def test_who_never_lost_has_a_lower_end_only():
    found = rated(battles(("new", "old", 1, 20)), anchor="old")
    new = found.of("new")
    # half a win and half a loss more: 20.5 to 0.5
    assert new.rating == pytest.approx(1000 + ELO * math.log(41))
    # winning 20 of 20 has probability 0.025 at a rate of 0.025^(1/20) = 0.83157, the exact (Clopper–Pearson) end
    assert new.low == pytest.approx(1000 + elo_of_rate(0.025 ** (1 / 20)))
    assert (new.high, new.standing) == (None, "regularised")
    assert said(found) == {("one-sided", ("new",))}
    assert "no upper end" in found.statements[0].text


def test_who_never_won_is_the_mirror_image():
    above = rated(battles(("new", "old", 1, 20)), anchor="old").of("new")
    found = rated(battles(("new", "old", 1, 20)), anchor="new")
    old = found.of("old")
    assert (old.rating - 1000, old.high - 1000) == pytest.approx((1000 - above.rating, 1000 - above.low))
    assert old.low is None
    assert "never won against new" in found.statements[0].text


def test_a_tie_is_no_clean_sweep():
    found = rated(battles(("new", "old", 1, 19), ("new", "old", 0.5, 1)), anchor="old")
    assert found.of("new").standing == "rated"
    assert found.of("new").rating == pytest.approx(1000 + elo_of_rate(19.5 / 20))
    assert not found.statements


def test_the_games_of_one_prompt_prove_as_much_as_one():
    once = rated(battles(("new", "old", 1, 10)), anchor="old").of("new")
    both_orders = Battles(["new"] * 20, ["old"] * 20, [1] * 20, [i // 2 for i in range(20)])
    assert rated(both_orders, anchor="old").of("new").low == pytest.approx(once.low)


def test_models_that_never_met_are_not_identified():
    found = rated(battles(("p", "q", 1, 3), ("q", "p", 1, 3), ("x", "y", 1, 2), ("y", "x", 1, 1)), anchor="p")
    assert [(row.model, row.rating, row.standing) for row in found.rows[-2:]] == [
        ("x", None, "not identified"),
        ("y", None, "not identified"),
    ]
    assert [(row.games, row.prompts) for row in found.rows] == [(6, 6), (6, 6), (3, 3), (3, 3)]
    assert said(found) == {("elsewhere", ("x", "y"))}
    alone = rated(battles(("p", "q", 1, 3), ("q", "p", 1, 3)), anchor="p")
    assert found.rows[:2] == alone.rows


def test_a_chain_of_sweeps_goes_on_from_the_lower_end():
    # b beat a 30 times, c beat b 30 times: c's opponent is taken at b's lower end, so c's is twice as far
    found = rated(battles(("b", "a", 1, 30), ("c", "b", 1, 30)), anchor="a")
    end = elo_of_rate(0.025 ** (1 / 30))
    assert (found.of("b").low - 1000, found.of("c").low - 1000) == pytest.approx((end, 2 * end))
    below = rated(battles(("b", "a", 1, 30), ("c", "b", 1, 30)), anchor="c")
    assert (below.of("b").high - 1000, below.of("a").high - 1000) == pytest.approx((-end, -2 * end))


def test_a_sweep_over_rated_models_starts_at_their_lower_ends():
    rows = [("p", "q", 1, 30), ("q", "p", 1, 20), ("new", "p", 1, 40)]
    found = rated(battles(*rows), anchor="q")
    new, p = found.of("new"), found.of("p")
    assert new.low == pytest.approx(p.low + elo_of_rate(0.025 ** (1 / 40)))
    assert (p.standing, new.standing) == ("regularised", "regularised")
    # one tie more in 50 games moves p by little, and towards 1000
    alone = rated(battles(*rows[:2]), anchor="q").of("p")
    assert 1000 < p.rating < alone.rating
    assert alone.rating - p.rating < 2


def test_a_group_that_never_lost_is_one_statement():
    rows = [("x", "y", 1, 5), ("y", "x", 1, 5), ("x", "old", 1, 8), ("y", "old", 1, 12)]
    found = rated(battles(*rows), anchor="old")
    assert said(found) == {("one-sided", ("x", "y"))}
    assert all(found.of(m).high is None and found.of(m).low < found.of(m).rating for m in "xy")
    # 20 wins in all, by two of the same strength
    assert found.of("x").low == pytest.approx(1000 + elo_of_rate(0.025 ** (1 / 20)), abs=15)


def test_two_that_only_beat_a_third_cannot_be_ordered():
    found = rated(battles(("p", "z", 1, 9), ("q", "z", 1, 7)), anchor="p")
    assert (found.of("q").low, found.of("q").high) == (None, None)
    assert said(found) == {("apart", ("q",)), ("one-sided", ("z",))}
    assert finite(found)


def test_results_that_do_not_vary_have_no_interval():
    for rows in (
        Battles(["p"] * 20, ["q"] * 20, [1, 0] * 10, [i // 2 for i in range(20)]),
        Battles(["p"] * 20, ["q"] * 20, [0.5] * 20, range(20)),
    ):
        found = rated(rows, anchor="q")
        assert found.of("p")[1:4] == (pytest.approx(1000), None, None)
        assert said(found) == {("unvarying", ("p",))}


def test_one_prompt_has_no_interval():
    found = rated(Battles(["p"] * 3, ["q"] * 3, [1, 0, 1], [7, 7, 7]), anchor="q")
    assert found.of("p")[1:4] == (pytest.approx(1000 + elo_of_rate(2 / 3)), None, None)
    assert said(found) == {("few prompts", ("p",))}


def test_a_small_lower_end_never_passes_its_rating():
    # one win against each of fifty: half a loss each weighs as much as the wins themselves
    rows = [("new", f"m{i}", 1, 1) for i in range(50)]
    ring = [(f"m{i}", f"m{(i + 1) % 50}", y, 40) for i in range(50) for y in (0, 1)]
    found = rated(battles(*rows, *ring), anchor="m0")
    assert 1000 < found.of("new").low <= found.of("new").rating


@pytest.mark.parametrize("truth", [0.7, 0.95, 0.99])
def test_an_open_end_and_a_sandwich_together_miss_rarely(truth):
    # 25 prompts: where the sweep happens the lower end holds by construction; over all draws it misses ≤ 2.5 % below
    rng, missed = np.random.default_rng(4), 0
    truth_elo = 1000 + elo_of_rate(truth)
    for _ in range(300):
        won = (rng.random(25) < truth).astype(float)
        row = rated(Battles(["n"] * 25, ["o"] * 25, won, range(25)), anchor="o").of("n")
        missed += row.low is not None and row.low > truth_elo
    assert missed / 300 < 0.045


def test_a_clean_sweep_by_hand():
    # two prompts, on one of them against strengths 0 and 1: σ(x)·σ(x − 1) = 0.1 (the stronger counts)
    x = sweep(np.array([0.0, -1.0, 0.0]), np.array([3, 3, 8]), 0.1)
    assert 1 / (1 + math.exp(-x)) / (1 + math.exp(1 - x)) == pytest.approx(0.1)


def test_places_as_seen_from_the_anchor():
    # 1 ↔ 0 by a tie; 2 beat 1; 0 beat 3; 4 beat 3; 5 met 6 only
    edges = [(0, 1, 0.5), (2, 1, 1.0), (3, 0, 0.0), (4, 3, 1.0), (5, 6, 1.0)]
    a, b, y = (np.array(column) for column in zip(*edges, strict=True))
    graph = graph_of(Rows(a, b, y, np.ones(5), np.arange(5), np.zeros((5, 0))), 7)
    assert places(graph, 0) == ["anchor", "level", "above", "below", "apart", "elsewhere", "elsewhere"]
    assert graph.part_M[0] == graph.part_M[1]
    assert len(set(graph.part_M.tolist())) == 6


def test_without_a_prior_a_sweep_has_no_maximum():
    rows = Rows(np.array([0, 0]), np.array([1, 1]), np.ones(2), np.ones(2), np.arange(2), np.zeros((2, 0)))
    with pytest.raises(ArithmeticError, match="never lost"):
        fit(rows, models=2, anchor=1)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (Battles([], [], [], []), "no battles"),
        (Battles(["p"], ["q"], [1.5], [0]), r"in \[0, 1\], not 1.5 as in row 0"),
        (Battles(["p"], ["q"], [math.nan], [0]), "leave failed judgements out"),
        (Battles(["p"], ["p"], [1.0], [0]), "'p' battles itself"),
        (Battles(["p", "q"], ["q"], [1.0], [0]), "have 2, 1, 1, 1"),
        (Battles(["p"], ["q"], [1.0], [0], weight=[0.0]), "weight above 0"),
        (Battles(["p"], ["q"], [1.0], [0], style={"bold": ([-1], [2])}), "'bold' must be counts"),
        (Battles(["p"], ["q"], [1.0], [0], style={"bold": ([1, 2], [2])}), "2 and 1 counts for 1 battles"),
    ],
)
def test_what_cannot_be_rated_is_refused(wrong, match):
    with pytest.raises(ValueError, match=match):
        rated(wrong, anchor="p")


def test_an_anchor_that_never_played_is_refused():
    with pytest.raises(ValueError, match="'r' played in none of the battles; it may be p, q"):
        rated(battles(("p", "q", 1, 1)), anchor="r")
