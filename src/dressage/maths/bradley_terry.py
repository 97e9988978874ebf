"""Bradley–Terry by Newton's method, with a covariance that takes prompts, not games, for independent.

R  rows, one a game         P(a beats b) = σ(d),  d = θ_a − θ_b + x·β
M  models                   y_R   what a got of the game: 1 won, ½ tied, 0 lost, and anything between
F  features of style        w_R   weights
C  prompts (clusters)       x_RF  antisymmetric: a and b exchanged is −x
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

STEP = 1e-11
"""Newton stops where no θ moves by more: 2e-9 Elo."""
MOST_STEPS = 100
STYLE_RIDGE = 1e-3
"""Of β only, on the mean loss: small, so that a coefficient means something."""
SPARSE_COST = 200
"""A product in a sparse Gram matrix takes about as long as this many in a dense one."""
BLOCK = 1 << 21
"""Numbers in a dense block: 16 MiB."""
NO_MAXIMUM = (
    "these games have no finite maximum: some model never lost or never won; add a prior between those that met"
)


class Rows(NamedTuple):
    """Games by number: models 0 … M−1, prompts 0 … C−1."""

    a_R: Whole
    b_R: Whole
    y_R: Floats
    w_R: Floats
    prompt_R: Whole
    x_RF: Floats
    """R×F; F may be 0."""


class Fit(NamedTuple):
    """Natural units (nats of the odds); Elo is 400/ln 10 of them."""

    theta_M: Floats
    """The anchor's is 0."""
    beta_F: Floats
    error_M: Floats
    """Standard error of θ_m − θ_anchor; 0 for the anchor."""
    error_F: Floats
    prompts_M: Whole
    """Prompts on which a model played."""
    ridged_F: Floats
    """How much of what is known of a coefficient the ridge says and not the games: near 1 is nothing learned."""


def fit(rows: Rows, *, models: int, anchor: int, prior: Rows | None = None, ridge: float = STYLE_RIDGE) -> Fit:
    """Maximises Σ w [ y d − log(1 + e^d) ] − ½ ridge Σw ‖β‖² with θ_anchor = 0, then V = H⁻¹ G H⁻¹.

    G = C/(C−1) Σ_g (s_g − s̄)(s_g − s̄)ᵀ with s_g = Σ_{r∈g} w_r (y_r − p_r) (e_a − e_b, x_r): the scores sum to 0
    at the maximum, but for the ridge and the prior. With the anchor's row and column left out, V_mm is the variance
    of θ_m − θ_anchor. `prior` are games that count in the maximum and in H and are no data (not in G).

    Raises:
        ArithmeticError: where there is no maximum: every model must have won and lost something, directly or
            through others (`win_graph.strong_parts`), or the prior must see to it.
    """
    without = rows.x_RF.shape[1] == 0
    work = _pooled(rows, models) if without else rows
    if prior is not None:
        work = Rows(*(np.concatenate(both) for both in zip(work, prior, strict=True)))
    strength = ridge * float(rows.w_R.sum())
    at_P, hessian = _newton(work, models, anchor, strength)
    theta_M, beta_F = at_P[:models], at_P[models:]
    inverse = _without(hessian, anchor)
    v, prompts_M = _sandwich(rows, theta_M, beta_F, inverse)
    error_P = np.sqrt(np.maximum(np.diag(v), 0.0))
    return Fit(theta_M, beta_F, error_P[:models], error_P[models:], prompts_M, strength * np.diag(inverse)[models:])


def _without(hessian: Floats, anchor: int) -> Floats:
    """The inverse with the anchor's row and column left out, which are 0 in it."""
    free, inverse = np.delete(np.arange(len(hessian)), anchor), np.zeros_like(hessian)
    inverse[np.ix_(free, free)] = np.linalg.inv(hessian[np.ix_(free, free)])
    return inverse


def margins(rows: Rows, theta_M: Floats, beta_F: Floats) -> Floats:
    """d of every row."""
    d_R = theta_M[rows.a_R] - theta_M[rows.b_R]
    return d_R + rows.x_RF @ beta_F if len(beta_F) else d_R


def _pooled(rows: Rows, models: int) -> Rows:
    """One row for each pair that met: without style the loss sees only Σw and Σwy of a pair."""
    swap_R = rows.a_R > rows.b_R
    pair_R = np.where(swap_R, rows.b_R * models + rows.a_R, rows.a_R * models + rows.b_R)
    gained_R = rows.w_R * np.where(swap_R, 1 - rows.y_R, rows.y_R)
    weight = np.bincount(pair_R, rows.w_R, models * models)
    gained = np.bincount(pair_R, gained_R, models * models)
    met = np.flatnonzero(weight)
    w = np.asarray(weight[met], dtype=np.float64)
    share = np.asarray(gained[met] / w, dtype=np.float64)
    return Rows(met // models, met % models, share, w, np.zeros_like(met), np.zeros((len(met), 0)))


def _newton(rows: Rows, models: int, anchor: int, strength: float) -> tuple[Floats, Floats]:
    """θ and β in one vector, and the Hessian there over all of them (the anchor's still in it)."""
    at_P = np.zeros(models + rows.x_RF.shape[1])
    free = np.delete(np.arange(len(at_P)), anchor)
    loss = _loss(rows, at_P, models, strength)
    for _ in range(MOST_STEPS):
        gradient_P, hessian = _derivatives(rows, at_P, models, strength)
        step_P = np.zeros_like(at_P)
        try:
            step_P[free] = np.linalg.solve(hessian[np.ix_(free, free)], gradient_P[free])
        except np.linalg.LinAlgError as error:
            raise ArithmeticError(NO_MAXIMUM) from error
        if not np.isfinite(step_P).all():
            break
        if np.abs(step_P).max(initial=0.0) < STEP:
            return at_P - step_P, hessian
        at_P, loss = _descended(rows, at_P, step_P, loss, (models, strength))
    raise ArithmeticError(NO_MAXIMUM)


def _descended(rows: Rows, at_P: Floats, step_P: Floats, loss: float, shape: tuple[int, float]) -> tuple[Floats, float]:
    """The longest of the step and its halves that does not raise the loss, but for rounding."""
    for halving in range(60):
        there_P = at_P - step_P * 0.5**halving
        new = _loss(rows, there_P, *shape)
        if new <= loss * (1 + 1e-11):
            return there_P, new
    raise ArithmeticError(NO_MAXIMUM)


def _loss(rows: Rows, at_P: Floats, models: int, strength: float) -> float:
    beta_F = at_P[models:]
    d_R = margins(rows, at_P[:models], beta_F)
    return float(rows.w_R @ (np.logaddexp(0.0, d_R) - rows.y_R * d_R) + strength / 2 * beta_F @ beta_F)


def _derivatives(rows: Rows, at_P: Floats, models: int, strength: float) -> tuple[Floats, Floats]:
    theta_M, beta_F = at_P[:models], at_P[models:]
    p_R = expit(margins(rows, theta_M, beta_F))
    slope_R, bend_R = rows.w_R * (p_R - rows.y_R), rows.w_R * p_R * (1 - p_R)
    gradient_P = np.concatenate([_spread(rows, slope_R, models), rows.x_RF.T @ slope_R + strength * beta_F])
    met_MM = np.bincount(rows.a_R * models + rows.b_R, bend_R, models * models).reshape(models, models)
    met_MM = met_MM + met_MM.T
    hessian = np.zeros((len(at_P), len(at_P)))
    hessian[:models, :models] = np.diag(met_MM.sum(1)) - met_MM
    for f in range(len(beta_F)):
        hessian[:models, models + f] = hessian[models + f, :models] = _spread(rows, bend_R * rows.x_RF[:, f], models)
    hessian[models:, models:] = rows.x_RF.T @ (bend_R[:, None] * rows.x_RF) + strength * np.eye(len(beta_F))
    return gradient_P, hessian


def _spread(rows: Rows, value_R: Floats, models: int) -> Floats:
    """Σ_r value_r (e_a − e_b)."""
    return np.asarray(np.bincount(rows.a_R, value_R, models) - np.bincount(rows.b_R, value_R, models))


def expit(d: Floats) -> Floats:
    """σ(d), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * d)))


# ---------------------------------------------------------------- the sandwich


def _sandwich(rows: Rows, theta_M: Floats, beta_F: Floats, inverse: Floats) -> tuple[Floats, Whole]:
    """V over all of θ and β, and the prompts of each model."""
    models, clusters = len(theta_M), int(rows.prompt_R.max()) + 1
    left_R = rows.w_R * (rows.y_R - expit(margins(rows, theta_M, beta_F)))
    score, prompts_P = _scores(rows, left_R, models, clusters)
    total_P = np.asarray(score.sum(axis=0)).ravel()
    g = _gram(score) - np.outer(total_P, total_P) / clusters
    return clusters / max(1, clusters - 1) * (inverse @ g @ inverse), prompts_P[:models]


def _scores(rows: Rows, left_R: Floats, models: int, clusters: int) -> tuple["csr_array", Whole]:
    """The s_g as a sparse C×(M+F) matrix, and how many clusters touch each column."""
    from scipy.sparse import csr_array

    features = rows.x_RF.shape[1]
    values = [left_R, -left_R, *(left_R * rows.x_RF[:, f] for f in range(features))]
    columns = [rows.a_R, rows.b_R, *(np.full(len(left_R), models + f) for f in range(features))]
    row = np.tile(rows.prompt_R.astype(np.int32), len(values))
    column = np.concatenate(columns).astype(np.int32)
    score = csr_array((np.concatenate(values), (row, column)), shape=(clusters, models + features))
    score.sum_duplicates()
    return score, np.bincount(score.indices, minlength=models + features)


def _gram(score: "csr_array") -> Floats:
    """Σ_g s_g s_gᵀ: sparse where prompts saw few models each, in dense blocks where they saw many."""
    clusters, width = score.shape
    products = float((np.diff(score.indptr).astype(np.float64) ** 2).sum())
    if products * SPARSE_COST < clusters * width**2:
        return np.asarray((score.T @ score).toarray())
    g, block = np.zeros((width, width)), max(1, BLOCK // width)
    for at in range(0, clusters, block):
        dense = score[at : at + block].toarray()
        g += dense.T @ dense
    return g
