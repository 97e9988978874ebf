"""The ends of ratings' intervals, also where one side never lost: what a clean sweep proves, and what nothing does."""

from collections.abc import Iterator

import numpy as np

from dressage.maths.bradley_terry import Fit, Floats, Rows, Whole, margins
from dressage.maths.stats import t_quantile
from dressage.maths.win_graph import Graph, Place, Truths

UNVARYING = 1e-6
"""A standard error (in nats) below this is rounding: it would take 10¹² games."""


def ends(rows: Rows, found: Fit, graph: Graph, *, where: list[Place], level: float) -> tuple[Floats, Floats]:
    """Lower and upper ends of θ_m − θ_anchor in nats; NaN where an end is open or unknown, 0 for the anchor.

    Paths both ways: ± t_{(1+level)/2, C−1} standard errors, C the prompts of the model or of the anchor, whichever
    has fewer; none for C < 2 or an error of 0. Never lost: the lower end is the strength at which winning all of it
    has the probability (1−level)/2, opponents being at their own lower ends (one without is left out); strengths
    inside a group of models that beat each other, and β, as fitted. Never won: the mirror image.
    """
    low_M, high_M = _both_ways(found, where, level)
    chance, place_M = (1 - level) / 2, np.array(where)
    _sweep_all(low_M, rows, found, list(_groups(graph.part_M, graph.reaches_MM, place_M == "above")), chance)
    fallen_M = -high_M
    mirrored = rows._replace(y_R=1 - rows.y_R, x_RF=-rows.x_RF)
    below = list(_groups(graph.part_M, graph.reaches_MM.T, place_M == "below"))
    _sweep_all(fallen_M, mirrored, found._replace(theta_M=-found.theta_M), below, chance)
    return low_M, -fallen_M


def _both_ways(found: Fit, where: list[Place], level: float) -> tuple[Floats, Floats]:
    low_M, high_M = (np.full(len(where), np.nan) for _ in range(2))
    anchor = where.index("anchor")
    for m, place in enumerate(where):
        prompts = min(int(found.prompts_M[m]), int(found.prompts_M[anchor]))
        if m == anchor:
            low_M[m] = high_M[m] = 0.0
        elif place == "level" and prompts >= 2 and found.error_M[m] > UNVARYING:
            half = t_quantile(level, prompts - 1) * found.error_M[m]
            low_M[m], high_M[m] = found.theta_M[m] - half, found.theta_M[m] + half
    return low_M, high_M


def _groups(part_M: Whole, reaches_MM: Truths, which_M: Truths) -> Iterator[tuple[Truths, Truths]]:
    """The groups of models with paths both ways among `which`, nearest to the anchor first, each with all who
    reach it (itself among them): nobody else ever got anything of a game against those."""
    numbers = np.unique(part_M[which_M])
    for number in sorted(numbers, key=lambda n: int(reaches_MM[part_M == n][0].sum())):
        member_M = part_M == number
        yield member_M, np.asarray(reaches_MM[:, member_M].any(1), dtype=np.bool_)


def _sweep_all(near_M: Floats, rows: Rows, found: Fit, groups: list[tuple[Truths, Truths]], chance: float) -> None:
    """Fills in the near ends of the groups, one after the other."""
    if not groups:
        return
    d_R = margins(rows, found.theta_M, found.beta_F)
    lead_M = found.theta_M - near_M  # what an opponent may be weaker than its rating
    for member_M, ahead_M in groups:
        weak_M = ~ahead_M & np.isfinite(near_M)
        mine_R = member_M[rows.a_R] & weak_M[rows.b_R]
        theirs_R = member_M[rows.b_R] & weak_M[rows.a_R]
        if not (mine_R | theirs_R).any():
            continue
        ahead_R = np.concatenate([(d_R + lead_M[rows.b_R])[mine_R], (-d_R + lead_M[rows.a_R])[theirs_R]])
        prompt_R = np.concatenate([rows.prompt_R[mine_R], rows.prompt_R[theirs_R]])
        near_M[member_M] = found.theta_M[member_M] + min(0.0, sweep(ahead_R, prompt_R, chance))
        lead_M = found.theta_M - near_M


def sweep(ahead_R: Floats, prompt_R: Whole, chance: float) -> float:
    """The shift of a group's strengths at which winning every row has the probability `chance`.

    Row r is won with σ(x + ahead_r). Prompts are independent, the rows of one prompt may be one event, so a prompt
    counts with its least probable row: Σ_g log σ(x + min_{r∈g} ahead_r) = log chance. Against one opponent of
    strength 0 on n prompts, σ(x) = chance^{1/n}: the exact (Clopper–Pearson) end.
    """
    _, row_prompt = np.unique(prompt_R, return_inverse=True)
    least_G = np.full(int(row_prompt.max()) + 1, np.inf)
    np.minimum.at(least_G, row_prompt, ahead_R)

    def missing(x: float) -> bool:
        return bool(-np.logaddexp(0.0, -(x + least_G)).sum() < np.log(chance))

    low, high = -1.0, 1.0
    while not missing(low):
        low *= 2
    while missing(high):
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if missing(middle) else (low, middle)
    return low
