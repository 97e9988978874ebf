"""A leaderboard from battles: Bradley–Terry on the Elo scale, relative to one named model.

What the battles cannot say is a statement, not an infinity: a model that never lost has no upper end, models that
never met the others have no rating.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dressage.maths.bradley_terry import Fit, Floats, Rows, fit
from dressage.maths.leaderboard import Rating, Ratings, Standing, StyleEffect, statements, style_statements
from dressage.maths.open_ends import ends
from dressage.maths.stats import Estimate, elo_of_rate, t_quantile
from dressage.maths.style_control import relative_differences
from dressage.maths.win_graph import Place, graph_of, places, restricted

ANCHOR = 1000.0
ELO = 400 / math.log(10)
"""Elo points a nat: 173.718."""
MOSTLY_RIDGE = 0.5
"""A coefficient of which the ridge says more than this was not learned from the battles."""


class Battles(NamedTuple):
    """Columns, one row a game. The same prompt is one cluster whoever plays on it, in whichever run."""

    a: Sequence[str]
    b: Sequence[str]
    score: Sequence[float]
    """What `a` got: 1, ½ for a tie, 0, or a probability between. A failed judgement is no row."""
    prompt: Sequence[Hashable]
    weight: Sequence[float] | None = None
    style: Mapping[str, tuple[Sequence[float], Sequence[float]]] = {}
    """Name → counts of a's texts and of b's (length, headers, bold, list items): what is named is controlled for."""


class EloDifference(NamedTuple):
    """What a preference rate is worth; null where it would be infinite or is not known."""

    value: float | None
    low: float | None
    high: float | None


def elo_difference(rate: Estimate) -> EloDifference:
    """400 · log10( R / (1 − R) ) of a rate and of its ends."""
    three = (rate.value, rate.low, rate.high)
    return EloDifference(*(None if r is None or r in (0, 1) else elo_of_rate(r) for r in three))


def rated(battles: Battles, *, anchor: str, level: float = 0.95) -> Ratings:
    """Ratings 1000 + 400/ln 10 · (θ_m − θ_anchor) with prompt-clustered intervals of the difference.

    The maximum and its sandwich are `bradley_terry.fit`'s, the ends `open_ends.ends`'. Games of models that no chain
    of games joins to the anchor are left out. Where two models that were joined have no path both ways (one never
    lost, directly and through others), every pair that met gets half a win and half a loss more, and all is labelled
    regularised. Styles that are named are controlled for as `style_control` says.

    Raises:
        ValueError: for no battles, an anchor that never played, a model against itself, a score outside [0, 1], a
            weight that is not above 0, counts of style below 0, or columns of different lengths.
        ArithmeticError: where Newton's method finds no maximum (weights that differ by many orders of magnitude).
    """
    names, rows, deviations = _numbered(battles)
    if anchor not in names:
        raise ValueError(f"the anchor {anchor!r} played in none of the battles; it may be {', '.join(names[:20])}")
    graph, at = graph_of(rows, len(names)), names.index(anchor)
    where = places(graph, at)
    joined = [m for m, place in enumerate(where) if place != "elsewhere"]
    here, inside = _among(rows, joined, len(names)), restricted(graph, joined)
    whole = bool(inside.reaches_MM.all())
    found = fit(
        here,
        models=len(joined),
        anchor=joined.index(at),
        prior=None if whole else _half_each_way(here, len(joined)),
    )
    both = ends(here, found, inside, where=[where[m] for m in joined], level=level)
    table = _table(rows, names, where, found, both)
    effects = _effects(deviations, found, prompts=int(here.prompt_R.max()) + 1, level=level)
    places_of, groups = dict(zip(names, where, strict=True)), dict(zip(names, graph.part_M.tolist(), strict=True))
    said = (*statements(table, places_of, groups, anchor=anchor), *style_statements(effects))
    return Ratings(anchor, level, tuple(table), said, tuple(effects))


def _table(
    rows: Rows, names: Sequence[str], where: Sequence[Place], found: Fit, both: tuple[Floats, Floats]
) -> list[Rating]:
    """Every model's row; the numbers of `found` and `both` are of those that are joined to the anchor."""
    games_M = np.bincount(np.concatenate([rows.a_R, rows.b_R]), minlength=len(names))
    whole, table, at = not {"above", "below", "apart"} & set(where), [], 0
    for m, place in enumerate(where):
        if place == "elsewhere":
            prompts = len(np.unique(rows.prompt_R[(rows.a_R == m) | (rows.b_R == m)]))
            table.append(Rating(names[m], None, None, None, int(games_M[m]), prompts, "not identified"))
            continue
        standing: Standing = "anchor" if place == "anchor" else "rated" if whole else "regularised"
        low, high = (None if place == "anchor" or np.isnan(end[at]) else _elo(end[at]) for end in both)
        table.append(
            Rating(names[m], _elo(found.theta_M[at]), low, high, int(games_M[m]), int(found.prompts_M[at]), standing)
        )
        at += 1
    return sorted(table, key=lambda row: (row.rating is None, -(row.rating or 0.0), row.model))


def _elo(theta: float) -> float:
    return ANCHOR + ELO * float(theta)


def _effects(deviations: Mapping[str, float], found: Fit, *, prompts: int, level: float) -> list[StyleEffect]:
    effects, f = [], 0
    for name, deviation in deviations.items():
        if not deviation:
            effects.append(StyleEffect(name, None, None, None, 0.0, learned=False))
            continue
        elo, learned = ELO * float(found.beta_F[f]), bool(found.ridged_F[f] < MOSTLY_RIDGE)
        half = ELO * float(found.error_F[f]) * t_quantile(level, prompts - 1) if prompts > 1 and learned else None
        low, high = (None, None) if half is None else (elo - half, elo + half)
        effects.append(StyleEffect(name, elo, low, high, deviation, learned))
        f += 1
    return effects


# ---------------------------------------------------------------- names to numbers


def _numbered(battles: Battles) -> tuple[list[str], Rows, dict[str, float]]:
    """Models by name in the order of the alphabet, the rows by number, and the deviation of every count of style."""
    count = len(battles.a)
    if not count:
        raise ValueError("no battles, so nothing to rate")
    if not count == len(battles.b) == len(battles.score) == len(battles.prompt):
        lengths = ", ".join(str(len(column)) for column in (battles.a, battles.b, battles.score, battles.prompt))
        raise ValueError(f"a, b, score and prompt need one value a battle, but have {lengths}")
    names = sorted({*battles.a, *battles.b})
    place = {name: m for m, name in enumerate(names)}
    prompts: defaultdict[Hashable, int] = defaultdict(itertools.count().__next__)  # numbered as they come
    a_R, b_R = (np.fromiter(map(place.__getitem__, side), np.int64, count) for side in (battles.a, battles.b))
    if (a_R == b_R).any():
        raise ValueError(f"{battles.a[int(np.flatnonzero(a_R == b_R)[0])]!r} battles itself")
    prompt_R = np.fromiter(map(prompts.__getitem__, battles.prompt), np.int64, count)
    features = relative_differences(battles.style, count)
    return names, Rows(a_R, b_R, _scores(battles), _weights(battles), prompt_R, features.x_RF), features.deviations


def _scores(battles: Battles) -> Floats:
    y_R = np.asarray(battles.score, dtype=np.float64)
    wrong = np.flatnonzero(~((y_R >= 0) & (y_R <= 1)))
    if len(wrong):
        at = int(wrong[0])
        raise ValueError(f"a score lies in [0, 1], not {y_R[at]} as in row {at}; leave failed judgements out")
    return y_R


def _weights(battles: Battles) -> Floats:
    if battles.weight is None:
        return np.ones(len(battles.a))
    w_R = np.asarray(battles.weight, dtype=np.float64)
    if w_R.shape != (len(battles.a),) or not (np.isfinite(w_R) & (w_R > 0)).all():
        raise ValueError("every battle needs a weight above 0")
    return w_R


def _among(rows: Rows, models: Sequence[int], known: int) -> Rows:
    """The rows of these models alone, which then are 0, 1 … in this order."""
    if len(models) == known:
        return rows
    number_M = np.full(known, -1)
    number_M[models] = np.arange(len(models))
    kept_R = number_M[rows.a_R] >= 0
    _, prompt_R = np.unique(rows.prompt_R[kept_R], return_inverse=True)
    a_R, b_R = number_M[rows.a_R[kept_R]], number_M[rows.b_R[kept_R]]
    return Rows(a_R, b_R, rows.y_R[kept_R], rows.w_R[kept_R], prompt_R, rows.x_RF[kept_R])


def _half_each_way(rows: Rows, models: int) -> Rows:
    """One tie, of the mean weight and without any difference of style, for every pair that met."""
    low_R, high_R = np.minimum(rows.a_R, rows.b_R), np.maximum(rows.a_R, rows.b_R)
    met = np.unique(low_R * models + high_R)
    half, weight = np.full(len(met), 0.5), np.full(len(met), float(rows.w_R.mean()))
    style = np.zeros((len(met), rows.x_RF.shape[1]))
    return Rows(met // models, met % models, half, weight, np.zeros_like(met), style)
