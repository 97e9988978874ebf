"""Style control: the relative difference by hand, and what it takes away of a rating."""

import math

import numpy as np
import pytest

from dressage.maths.ratings import ELO, Battles, rated
from dressage.maths.style_control import relative_differences


def test_relative_differences_by_hand():
    # (3−1)/4 = ½, (0−0)/1 = 0, (0−2)/2 = −1: mean square (¼ + 0 + 1)/3 = 5/12
    found = relative_differences({"bold": ([3, 0, 0], [1, 0, 2]), "headers": ([2, 1, 0], [2, 1, 0])}, 3)
    scale = math.sqrt(5 / 12)
    assert found.x_RF.tolist() == [pytest.approx([x]) for x in (0.5 / scale, 0.0, -1 / scale)]
    assert found.deviations == {"bold": pytest.approx(scale), "headers": 0.0}


def test_exchanging_the_sides_turns_the_sign_and_nothing_else():
    a, b = [3, 0, 7, 2], [1, 5, 7, 0]
    forth, back = (relative_differences({"n": sides}, 4) for sides in ((a, b), (b, a)))
    assert (forth.x_RF == -back.x_RF).all()
    assert forth.deviations == back.deviations


def played(rng, *, lead: float, longer: float, taste: float, games: int = 3000) -> Battles:
    """`new` always stands first, writes `longer` times as much on average, and the judge has a taste for length."""
    long_a, long_b = rng.gamma(4, longer, games), rng.gamma(4, 1, games)
    x = (long_a - long_b) / (long_a + long_b)
    won = rng.random(games) < 1 / (1 + np.exp(-(lead + taste * x)))
    style = {"length": (long_a.tolist(), long_b.tolist())}
    return Battles(["new"] * games, ["old"] * games, won.astype(float), range(games), style=style)


def test_a_taste_for_length_is_taken_off_who_only_writes_more():
    battles = played(np.random.default_rng(1), lead=0.0, longer=2.0, taste=1.5, games=20_000)
    assert rated(battles._replace(style={}), anchor="old").of("new").low > 1050
    found = rated(battles, anchor="old")
    assert found.of("new").rating == pytest.approx(1000, abs=10)
    (length,) = found.style
    assert length.low < 1.5 * length.deviation * ELO < length.high
    assert length.low > 0
    assert length.learned


def test_who_is_better_at_the_same_length_stays_better():
    found = rated(played(np.random.default_rng(2), lead=0.5, longer=1.0, taste=0.0), anchor="old")
    assert found.of("new").rating == pytest.approx(1000 + 0.5 * ELO, abs=20)
    assert found.style[0].low < 0 < found.style[0].high
    assert not found.statements


def test_what_is_alike_everywhere_is_said_and_changes_nothing():
    battles = played(np.random.default_rng(3), lead=0.3, longer=1.0, taste=0.5, games=200)
    more = battles._replace(style={"headers": ([0] * 200, [0] * 200), **battles.style})
    one, other = rated(battles, anchor="old"), rated(more, anchor="old")
    assert one.rows == other.rows
    assert other.style[0] == ("headers", None, None, None, 0.0, False)
    assert other.style[1] == one.style[0]
    assert [s.text for s in other.statements] == [
        "headers: alike on both sides of every battle, so nothing to control for"
    ]


def test_a_model_that_is_always_longer_by_the_same_share_is_said():
    battles = played(np.random.default_rng(4), lead=0.4, longer=1.0, taste=0.0, games=400)
    even = battles._replace(style={"length": ([20.0] * 400, [10.0] * 400)})
    found = rated(even, anchor="old")
    assert (found.style[0].low, found.style[0].high, found.style[0].learned) == (None, None, False)
    assert found.statements[0].kind == "style"
    assert "cannot be told from their strength" in found.statements[0].text
    plain = rated(battles._replace(style={}), anchor="old").of("new")
    assert found.of("new")[1:4] == pytest.approx(plain[1:4])
