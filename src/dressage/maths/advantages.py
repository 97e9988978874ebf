"""Advantages: from scores and a critic token by token, from the other samples of a group, and their scaling.

    S  samples                  mask_ST     True where a response token counts; it may have holes
    T  response tokens          counted_S   True where a sample has a score
    G  groups, one a prompt     group_S     whole numbers: which prompt a sample answers

Constants of the loss: no gradient passes. Sums are in double precision, so that a constant stays one. What
stands where nothing counts is never read, not even a NaN.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Advantages(NamedTuple):
    """How much better each token was than the critic expected, and what the critic should have said."""

    advantage_ST: Tensor
    return_ST: Tensor


@torch.no_grad()
def gae(reward_ST: Tensor, value_ST: Tensor, mask_ST: Tensor, *, gamma: float, lam: float) -> Advantages:
    """Eq. 16 of arXiv:1506.02438: δ_t = r_t + γ V_{t+1} − V_t, Â_t = δ_t + γλ Â_{t+1}, R_t = Â_t + V_t.

    t + 1 is the next token that counts: Â and V are carried across holes, not through them. Beyond the last
    counted token both are 0, and so is what is returned where nothing counts.
    """
    advantage_ST, return_ST = torch.zeros_like(value_ST), torch.zeros_like(value_ST)
    next_advantage_S, next_value_S = (value_ST.new_zeros(len(value_ST)) for _ in range(2))
    for t in reversed(range(value_ST.shape[1])):
        counts_S, value_S = mask_ST[:, t], value_ST[:, t]
        delta_S = reward_ST[:, t] + gamma * next_value_S - value_S
        advantage_S = delta_S + gamma * lam * next_advantage_S
        advantage_ST[:, t] = advantage_S.where(counts_S, 0)
        return_ST[:, t] = (advantage_S + value_S).where(counts_S, 0)
        next_advantage_S = advantage_S.where(counts_S, next_advantage_S)
        next_value_S = value_S.where(counts_S, next_value_S)
    return Advantages(advantage_ST, return_ST)


@torch.no_grad()
def token_rewards(score_S: Tensor, kl_ST: Tensor, mask_ST: Tensor, *, coefficient: float) -> Tensor:
    """r_t = −β k_t + [t = last] s (arXiv:1909.08593, eq. 2): the score falls on the last counted token.

    k_t is the k1 estimate at sampling time. A sample with no counted token gets nothing.
    """
    remaining_ST = mask_ST.long().flip(1).cumsum(1).flip(1)
    is_last_ST = mask_ST & (remaining_ST == 1)
    penalty_ST = (-coefficient * kl_ST).where(mask_ST, 0)
    return penalty_ST + score_S[:, None].to(kl_ST.dtype).where(is_last_ST, 0)


@torch.no_grad()
def group_standardised(score_S: Tensor, group_S: Tensor, counted_S: Tensor) -> Tensor:
    """GRPO, arXiv:2402.03300 §4.1.2: Â = (r − mean) / (std + 1e-4) over the counted samples of the group.

    The deviation divides by n − 1 and is guarded by 1e-4, as in TRL. A sample that does not count, or that no
    other of its group stands beside, gets 0.
    """
    from_mean_S, n_S = _from_group_mean(score_S, group_S, counted_S)
    variance_S = _group_sum(from_mean_S**2, group_S) / (n_S - 1).clamp(min=1)
    return (from_mean_S / (variance_S.sqrt() + 1e-4)).to(score_S.dtype)


@torch.no_grad()
def group_centred(score_S: Tensor, group_S: Tensor, counted_S: Tensor) -> Tensor:
    """Dr. GRPO, arXiv:2503.20783: Â = r − mean of the group; undivided, so easy prompts weigh no more."""
    return _from_group_mean(score_S, group_S, counted_S)[0].to(score_S.dtype)


@torch.no_grad()
def leave_one_out(score_S: Tensor, group_S: Tensor, counted_S: Tensor) -> Tensor:
    """RLOO, arXiv:2402.14740: Â = r − mean of the *others* of the group; 0 where there is no other."""
    known_S = _known(score_S, counted_S)
    n_S, total_S = _group_sum(counted_S.double(), group_S), _group_sum(known_S, group_S)
    baseline_S = (total_S - known_S) / (n_S - 1).clamp(min=1)
    return (known_S - baseline_S).where(counted_S & (n_S > 1), 0).to(score_S.dtype)


@torch.no_grad()
def whitened(x_ST: Tensor, mask_ST: Tensor) -> Tensor:
    """(x − mean) / sqrt(var + 1e-8) over the counted entries of all samples, var dividing by n; 0 elsewhere.

    Constants, and a single entry, become 0.
    """
    mean, variance = _moments(x_ST, mask_ST)
    return ((x_ST - mean) / (variance + 1e-8).sqrt()).where(mask_ST, 0).to(x_ST.dtype)


@torch.no_grad()
def rescaled(x_ST: Tensor, mask_ST: Tensor) -> Tensor:
    """`whitened` with its mean put back: deviation 1, and the mean what it was; constants stay as they are."""
    mean, variance = _moments(x_ST, mask_ST)
    return ((x_ST - mean) / (variance + 1e-8).sqrt() + mean).where(mask_ST, 0).to(x_ST.dtype)


@torch.no_grad()
def explained_variance(value_ST: Tensor, return_ST: Tensor, mask_ST: Tensor) -> Tensor:
    """1 − Var(R − V) / Var(R) on counted entries: 1 is a perfect critic, 0 one that says a constant, below is worse.

    Where the returns do not vary beyond single precision (deviation up to 1e-6 of their size), or nothing
    counts, there is nothing to explain: 0.
    """
    _, variance = _moments(return_ST, mask_ST)
    _, unexplained = _moments(return_ST.double() - value_ST.double(), mask_ST)
    varies = variance > 1e-12 * _moments(_known(return_ST, mask_ST) ** 2, mask_ST)[0]
    return (1 - unexplained / variance.where(varies, 1)).where(varies, 0)


def _known(x: Tensor, counts: Tensor) -> Tensor:
    """x in double precision, 0 where it does not count."""
    return x.double().where(counts, 0)


def _moments(x_ST: Tensor, mask_ST: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (dividing by n) of the counted entries; 0 and 0 where there are none."""
    n = mask_ST.sum().clamp(min=1)
    mean = _known(x_ST, mask_ST).sum() / n
    return mean, (_known(x_ST.double() - mean, mask_ST) ** 2).sum() / n


def _group_sum(x_S: Tensor, group_S: Tensor) -> Tensor:
    """For each sample the sum over its group."""
    ids_G, place_S = torch.unique(group_S, return_inverse=True)
    return x_S.new_zeros(len(ids_G)).index_add(0, place_S, x_S)[place_S]


def _from_group_mean(score_S: Tensor, group_S: Tensor, counted_S: Tensor) -> tuple[Tensor, Tensor]:
    """Each counted score minus the mean of its group, 0 for the others; and how many of the group count."""
    known_S = _known(score_S, counted_S)
    n_S = _group_sum(counted_S.double(), group_S)
    mean_S = _group_sum(known_S, group_S) / n_S.clamp(min=1)
    return (known_S - mean_S).where(counted_S, 0), n_S
