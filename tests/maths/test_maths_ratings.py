"""Ratings: the published example, other implementations as oracles, symmetries, and coverage in simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dressage.maths.bradley_terry import Rows, fit
from dressage.maths.ratings import ELO, Battles, elo_difference, rated
from dressage.maths.stats import Estimate, elo_of_rate, wilson

PUBLISHED = {"AB": 2, "AD": 1, "BA": 3, "BC": 5, "CB": 3, "CD": 1, "DA": 4, "DC": 3}
"""Row player beat column player so often: 22 games of the worked example."""


def battles_of(wins: dict[str, int]) -> Battles:
    pairs = [pair for pair, times in wins.items() for _ in range(times)]
    return Battles([p[0] for p in pairs], [p[1] for p in pairs], [1.0] * len(pairs), range(len(pairs)))


def numbers():
    """Numbers in [0, 1) that are the same in every library: a linear congruential generator."""
    x = 20260
    while True:
        x = (1103515245 * x + 12345) % 2**31
        yield x / 2**31


def made(rows: int = 600) -> tuple[Battles, dict]:
    """Battles of m0 … m5, 0.35 nats apart, of which length is worth something and bold nothing, and their style."""
    draw, columns = numbers(), []
    for _ in range(rows):
        i = int(next(draw) * 6)
        j = (i + 1 + int(next(draw) * 5)) % 6
        long_a, long_b = 1 + int(next(draw) * 200), 1 + int(next(draw) * 200)
        bold_a, bold_b = int(next(draw) * 4), int(next(draw) * 4)
        lead = (i - j) * 0.35 + 0.8 * (long_a - long_b) / (long_a + long_b)
        u, tied = next(draw), next(draw) < 0.15
        score = 0.5 if tied else float(u < 1 / (1 + math.exp(-lead)))
        columns.append((f"m{i}", f"m{j}", score, long_a, long_b, bold_a, bold_b))
    a, b, y, long_a, long_b, bold_a, bold_b = zip(*columns, strict=True)
    return Battles(a, b, y, range(rows)), {"length": (long_a, long_b), "bold": (bold_a, bold_b)}


def thetas(battles: Battles, anchor: str) -> dict[str, float]:
    return {row.model: (row.rating - 1000) / ELO for row in rated(battles, anchor=anchor).rows}


def centred(values: dict[str, float]) -> dict[str, float]:
    mean = sum(values.values()) / len(values)
    return {name: values[name] - mean for name in sorted(values)}


def plain_newton(battles: Battles, rounds: int = 40) -> tuple[dict[str, float], np.ndarray]:
    """θ (mean 0) and the row-level sandwich, written down as slowly as the formulas read."""
    names = sorted({*battles.a, *battles.b})
    theta = np.zeros(len(names))
    for _ in range(rounds):
        gradient, hessian, spread = np.zeros(len(names)), np.zeros((len(names),) * 2), np.zeros((len(names),) * 2)
        for a, b, y in zip(battles.a, battles.b, battles.score, strict=True):
            e = np.zeros(len(names))
            e[names.index(a)], e[names.index(b)] = 1, -1
            p = 1 / (1 + math.exp(-theta @ e))
            gradient += (y - p) * e
            hessian += p * (1 - p) * np.outer(e, e)
            spread += (y - p) ** 2 * np.outer(e, e)
        theta += np.linalg.pinv(hessian) @ gradient
    inverse = np.linalg.pinv(hessian)
    return dict(zip(names, theta, strict=True)), inverse @ spread @ inverse


# ---------------------------------------------------------------- against published values and other implementations


@pytest.mark.parametrize("anchor", "ABCD")
def test_the_worked_example_of_four_players(anchor):
    strengths = {name: math.exp(theta) for name, theta in centred(thetas(battles_of(PUBLISHED), anchor)).items()}
    assert {name: round(p, 3) for name, p in strengths.items()} == {"A": 0.640, "B": 1.043, "C": 0.660, "D": 2.270}


def test_a_plain_newton_says_the_same_of_ratings_and_errors():
    battles, _ = made()
    theta, v = plain_newton(battles)
    assert centred(thetas(battles, "m2")) == pytest.approx(theta, abs=1e-9)
    # every prompt its own game: ours is the row-level sandwich · C/(C−1), and t(0.975, C−1) of the fewer prompts
    found = rated(battles, anchor="m2")
    for row in found.rows:
        if row.model != "m2":
            m = int(row.model[1])
            error = math.sqrt(600 / 599 * (v[m, m] + v[2, 2] - 2 * v[m, 2])) * ELO
            assert 1.96 < (row.high - row.low) / 2 / error < 1.99
            assert row.rating == pytest.approx((row.low + row.high) / 2)


def test_choix_says_the_same():
    choix = pytest.importorskip("choix")
    battles, _ = made()
    index = {f"m{i}": i for i in range(6)}
    # a tie is half a win each way: everything twice, so that halves are whole
    wins = []
    for a, b, y in zip(battles.a, battles.b, battles.score, strict=True):
        wins += [(index[a], index[b])] * int(2 * y) + [(index[b], index[a])] * int(2 * (1 - y))
    theirs = choix.opt_pairwise(6, wins, alpha=0.0, method="Newton-CG", tol=1e-12)
    ours = centred(thetas(battles, "m0"))
    assert list(ours.values()) == pytest.approx(list(theirs - theirs.mean()), abs=1e-6)


def test_evalica_says_the_same():
    evalica = pytest.importorskip("evalica")
    battles, _ = made()
    words = {1.0: evalica.Winner.X, 0.0: evalica.Winner.Y, 0.5: evalica.Winner.Draw}
    found = evalica.bradley_terry(
        battles.a, battles.b, [words[y] for y in battles.score], tolerance=1e-13, limit=10_000
    )
    theirs = centred({name: math.log(score) for name, score in found.scores.items()})
    assert centred(thetas(battles, "m0")) == pytest.approx(theirs, abs=1e-6)


ARENA_RANK = [892.4264, 921.2787, 960.7008, 1008.6890, 1101.7328, 1115.1722]
"""What arena-rank 0.1.1 says of `made()`, mean 1000: BradleyTerry(6) on PairDataset.from_pandas of it."""
ARENA_RANK_STYLE = [887.5452, 920.8943, 959.5571, 1000.0627, 1106.3121, 1125.6285]
"""Its ContextualBradleyTerry(6, 2, reg=1e-3, ftol=1e-14, gtol=1e-12) on our relative differences."""
ARENA_RANK_COEFFICIENTS = [0.40606, -0.00122]


def test_arena_rank_says_the_same_to_a_twentieth_of_a_point():
    battles, style = made()
    plain = centred(thetas(battles, "m0"))
    assert [1000 + ELO * theta for theta in plain.values()] == pytest.approx(ARENA_RANK, abs=0.05)
    controlled = centred(thetas(battles._replace(style=style), "m0"))
    assert [1000 + ELO * theta for theta in controlled.values()] == pytest.approx(ARENA_RANK_STYLE, abs=0.05)
    found = rated(battles._replace(style=style), anchor="m0")
    assert [effect.elo / ELO for effect in found.style] == pytest.approx(ARENA_RANK_COEFFICIENTS, abs=1e-4)


def test_two_models_are_the_logit_of_their_rate():
    battles = Battles(["p"] * 10, ["q"] * 10, [1, 1, 1, 0.5, 0.5, 0, 1, 0, 1, 1], range(10))
    found = rated(battles, anchor="q").of("p")
    assert found.rating - 1000 == pytest.approx(elo_of_rate(0.7))
    # delta method: the rate's standard error over R(1 − R); t(0.975, 9) = 2.26215716
    error = math.sqrt(np.var(battles.score, ddof=1) / 10) / (0.7 * 0.3) * ELO
    assert (found.high - found.low) / 2 == pytest.approx(2.26215716 * error)


def test_the_elo_of_a_rate_and_of_its_ends():
    found = elo_difference(Estimate(0.6478, 0.6, 0.7, 100, 100))
    assert found == pytest.approx((105.86, 70.44, 147.19), abs=0.01)
    assert elo_difference(wilson(10, 10)) == (None, pytest.approx(elo_of_rate(wilson(10, 10).low)), None)
    assert elo_difference(Estimate(0.5, None, None, 1, 1)) == (0.0, None, None)


# ---------------------------------------------------------------- symmetries


def tables(draw_scores=(0.0, 0.5, 1.0)):
    """Battles of up to four models on up to eight prompts."""
    row = st.tuples(
        st.sampled_from(list(itertools.permutations("wxyz", 2))), st.sampled_from(draw_scores), st.integers(0, 7)
    )
    return st.lists(row, min_size=4, max_size=30)


def battles_from(rows) -> Battles:
    return Battles([r[0][0] for r in rows], [r[0][1] for r in rows], [r[1] for r in rows], [r[2] for r in rows])


def numbers_of(found) -> dict:
    return {row.model: (row.rating, row.low, row.high) for row in found.rows}


def same(one, other):
    assert one.keys() == other.keys()
    for model, values in one.items():
        for x, y in zip(values, other[model], strict=True):
            assert (x is None) == (y is None)
            assert x is None or x == pytest.approx(y, abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(tables(), st.randoms(use_true_random=False))
def test_nothing_hangs_on_the_order_of_rows_or_sides(rows, random):
    anchor = rows[0][0][0]
    found = rated(battles_from(rows), anchor=anchor)
    turned = [((b, a), 1 - y, g) if random.random() < 0.5 else ((a, b), y, g) for (a, b), y, g in rows]
    random.shuffle(turned)
    again = rated(battles_from(turned), anchor=anchor)
    same(numbers_of(found), numbers_of(again))
    assert {(s.kind, s.models) for s in found.statements} == {(s.kind, s.models) for s in again.statements}


@settings(max_examples=40, deadline=None)
@given(tables((0.25, 0.5, 0.75)), st.sampled_from([0.5, 2.0, 40.0]))
def test_weighing_every_game_alike_changes_nothing(rows, weight):
    battles = battles_from(rows)
    weighed = battles._replace(weight=[weight] * len(rows))
    same(numbers_of(rated(battles, anchor=battles.a[0])), numbers_of(rated(weighed, anchor=battles.a[0])))


def test_a_weight_of_two_is_the_game_twice():
    battles, _ = made(120)
    weight = [1 + i % 2 for i in range(120)]
    often = [i for i in range(120) for _ in range(weight[i])]
    copies = Battles(*([column[i] for i in often] for column in battles[:4]))
    weighed = rated(battles._replace(weight=weight), anchor="m1")
    same(numbers_of(weighed), numbers_of(rated(copies, anchor="m1")))


def test_a_swapped_copy_of_every_game_adds_no_certainty():
    battles, _ = made(300)
    both = Battles(
        battles.a + battles.b,
        battles.b + battles.a,
        battles.score + tuple(1 - y for y in battles.score),
        [*battles.prompt, *battles.prompt],
    )
    same(numbers_of(rated(battles, anchor="m3")), numbers_of(rated(both, anchor="m3")))
    naive = rated(both._replace(prompt=range(600)), anchor="m3").of("m0")
    clustered = rated(both, anchor="m3").of("m0")
    assert naive.high - naive.low == pytest.approx((clustered.high - clustered.low) / math.sqrt(2), rel=0.02)


def test_another_anchor_shifts_all_ratings_alike():
    battles, style = made()
    one, other = (rated(battles._replace(style=style), anchor=name) for name in ("m0", "m4"))
    shift = one.of("m4").rating - 1000
    assert all(row.rating - shift == pytest.approx(other.of(row.model).rating, abs=1e-6) for row in one.rows)
    forth, back = one.of("m4"), other.of("m0")
    assert (forth.low - 1000, forth.high - 1000) == pytest.approx((1000 - back.high, 1000 - back.low), abs=1e-6)


@pytest.mark.parametrize("prompts", [20, 2000])
def test_the_sandwich_as_slowly_as_its_formula_reads(prompts):
    """Few prompts that saw many models go through dense blocks, many that saw few through a sparse product."""
    rng = np.random.default_rng(5)
    a = rng.integers(0, 8, 4000)
    b = (a + rng.integers(1, 8, 4000)) % 8
    y, w, x = rng.random(4000), rng.uniform(0.5, 2, 4000), rng.normal(size=(4000, 2))
    prompt = np.concatenate([np.arange(prompts), rng.integers(0, prompts, 4000 - prompts)])
    found = fit(Rows(a, b, y, w, prompt, x), models=8, anchor=3)
    design = np.zeros((4000, 10))
    design[np.arange(4000), a], design[np.arange(4000), b], design[:, 8:] = 1, -1, x
    design = np.delete(design, 3, axis=1)
    at = np.concatenate([np.delete(found.theta_M, 3), found.beta_F])
    ridge = 1e-3 * w.sum() * np.diag([0.0] * 7 + [1.0] * 2)
    p = 1 / (1 + np.exp(-design @ at))
    score = (w * (y - p))[:, None] * design
    assert score.sum(0) == pytest.approx(ridge @ at, abs=1e-6)
    s = np.stack([score[prompt == g].sum(0) for g in range(prompts)])
    s -= s.mean(0)
    inverse = np.linalg.inv(design.T @ ((w * p * (1 - p))[:, None] * design) + ridge)
    v = prompts / (prompts - 1) * inverse @ s.T @ s @ inverse
    assert np.delete(found.error_M, 3) == pytest.approx(np.sqrt(np.diag(v))[:7], rel=1e-7)
    assert found.error_F == pytest.approx(np.sqrt(np.diag(v))[7:], rel=1e-7)
    assert found.ridged_F == pytest.approx((inverse @ ridge).diagonal()[7:], rel=1e-7)
    assert found.prompts_M.tolist() == [len({*prompt[(a == m) | (b == m)]}) for m in range(8)]


# ---------------------------------------------------------------- simulation


def simulated(rng, *, models: int, prompts: int, beta: float = 0.0) -> tuple[Battles, dict[str, float]]:
    """Every prompt is played by three pairs, each twice; the games of a prompt share their luck two times in three.

    Each game alone is won with exactly σ(θ_a − θ_b + βx), so the truth is what is estimated.
    """
    theta = np.linspace(-0.8, 0.8, models)
    a = rng.integers(0, models, (prompts, 3))
    b = (a + rng.integers(1, models, (prompts, 3))) % models
    a, b = (np.repeat(side, 2, axis=1) for side in (a, b))
    long_a, long_b = (rng.integers(1, 100, a.shape) for _ in range(2))
    x = (long_a - long_b) / (long_a + long_b)
    luck = np.where(rng.random(a.shape) < 2 / 3, rng.random((prompts, 1)), rng.random(a.shape))
    won = luck < 1 / (1 + np.exp(-(theta[a] - theta[b] + beta * x)))
    names = [f"m{i}" for i in range(models)]
    battles = Battles(
        [names[i] for i in a.ravel()],
        [names[i] for i in b.ravel()],
        won.ravel().astype(float),
        np.repeat(np.arange(prompts), 6).tolist(),
        style={"length": (long_a.ravel(), long_b.ravel())} if beta else {},
    )
    return battles, {name: 1000 + ELO * (theta[i] - theta[0]) for i, name in enumerate(names)}


def coverage(times: int, *, prompts: int, beta: float = 0.0, clustered: bool = True) -> float:
    rng, held, asked = np.random.default_rng(11), 0, 0
    for _ in range(times):
        battles, truth = simulated(rng, models=5, prompts=prompts, beta=beta)
        if not clustered:
            battles = battles._replace(prompt=range(len(battles.a)))
        for row in rated(battles, anchor="m0").rows:
            if row.model != "m0":
                asked += 1
                held += row.low is not None and row.low <= truth[row.model] <= row.high
    return held / asked


def test_intervals_cover_95_times_in_100():
    assert 0.925 <= coverage(150, prompts=80) <= 0.975
    assert coverage(150, prompts=80, clustered=False) < 0.9


@pytest.mark.slow
@pytest.mark.parametrize(("prompts", "beta"), [(60, 0.0), (200, 0.0), (200, 0.7)])
def test_intervals_cover_95_times_in_100_over_many_simulations(prompts, beta):
    assert 0.935 <= coverage(2500, prompts=prompts, beta=beta) <= 0.965


def test_the_sandwich_agrees_with_a_bootstrap_of_prompts():
    rng = np.random.default_rng(2)
    battles, _ = simulated(rng, models=4, prompts=300)
    columns = [np.array(column, dtype=object).reshape(300, 6) for column in battles[:3]]
    drawn = []
    for _ in range(200):
        chosen = rng.integers(0, 300, 300)
        again = Battles(*(column[chosen].ravel().tolist() for column in columns), list(range(1800)))
        drawn.append(rated(again, anchor="m0").of("m3").rating)
    found = rated(battles, anchor="m0").of("m3")
    assert (found.high - found.low) / 2 / 1.97 == pytest.approx(np.std(drawn, ddof=1), rel=0.15)


def test_planted_strengths_are_found_again():
    battles, truth = simulated(np.random.default_rng(8), models=6, prompts=4000)
    found = rated(battles, anchor="m0")
    assert [row.model for row in found.rows] == ["m5", "m4", "m3", "m2", "m1", "m0"]
    assert all(row.rating == pytest.approx(truth[row.model], abs=25) for row in found.rows)
