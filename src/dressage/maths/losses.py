"""Losses on log-probabilities, each the equation of its paper; no devices, no settings, no logging.

Shapes: B pairs of a batch; B2 their two replies, the chosen one first. Log-probabilities are sums over the
tokens of a reply, in nats; lengths count the same tokens.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class PairLoss(NamedTuple):
    """One loss a pair, and what the policy has learnt about each reply: its implicit rewards."""

    loss_B: Tensor
    chosen_reward_B: Tensor
    """beta · log [policy / reference] of the chosen reply, detached; in `length_normalised` a token's."""
    rejected_reward_B: Tensor
    """The same of the rejected reply, detached."""


LossOfPairs = Callable[..., PairLoss]
"""(chosen_B, rejected_B, ref_chosen_B, ref_rejected_B, *, beta) → PairLoss; `partial` fills in what else one needs."""


def dpo(chosen_B: Tensor, rejected_B: Tensor, ref_chosen_B: Tensor, ref_rejected_B: Tensor, *, beta: float) -> PairLoss:
    """Eq. 7 of arXiv:2305.18290, a pair: L = −log σ(β [log π(y_w)/ref(y_w) − log π(y_l)/ref(y_l)])."""
    chosen_reward_B = beta * (chosen_B - ref_chosen_B)
    rejected_reward_B = beta * (rejected_B - ref_rejected_B)
    loss_B = -F.logsigmoid(chosen_reward_B - rejected_reward_B)
    return PairLoss(loss_B, chosen_reward_B.detach(), rejected_reward_B.detach())


def ipo(chosen_B: Tensor, rejected_B: Tensor, ref_chosen_B: Tensor, ref_rejected_B: Tensor, *, beta: float) -> PairLoss:
    """Eq. 17 of arXiv:2310.12036, a pair: L = (h − 1/(2β))², h = log π(y_w)/ref(y_w) − log π(y_l)/ref(y_l).

    β is the paper's τ; h is over whole replies, as the paper writes it, not a mean over tokens.
    """
    chosen_ratio_B, rejected_ratio_B = chosen_B - ref_chosen_B, rejected_B - ref_rejected_B
    loss_B = (chosen_ratio_B - rejected_ratio_B - 1 / (2 * beta)) ** 2
    return PairLoss(loss_B, beta * chosen_ratio_B.detach(), beta * rejected_ratio_B.detach())


def hinge(
    chosen_B: Tensor, rejected_B: Tensor, ref_chosen_B: Tensor, ref_rejected_B: Tensor, *, beta: float
) -> PairLoss:
    """The hinge in place of the logistic loss (arXiv:2305.10425): L = max(0, 1 − β h), h as in `ipo`."""
    chosen_reward_B = beta * (chosen_B - ref_chosen_B)
    rejected_reward_B = beta * (rejected_B - ref_rejected_B)
    loss_B = F.relu(1 - (chosen_reward_B - rejected_reward_B))
    return PairLoss(loss_B, chosen_reward_B.detach(), rejected_reward_B.detach())


def robust(
    chosen_B: Tensor, rejected_B: Tensor, ref_chosen_B: Tensor, ref_rejected_B: Tensor, *, beta: float, noise: float
) -> PairLoss:
    """rDPO, arXiv:2403.00409: L = [(1 − ε) l(m) − ε l(−m)] / (1 − 2ε), l(m) = −log σ(m), m the margin of `dpo`.

    ε in [0, ½) is the share of pairs whose label is the wrong way round. Over such labels L has the mean that
    `dpo` has over the right ones; one pair's may be negative.
    """
    chosen_reward_B = beta * (chosen_B - ref_chosen_B)
    rejected_reward_B = beta * (rejected_B - ref_rejected_B)
    margin_B = chosen_reward_B - rejected_reward_B
    as_labelled_B, flipped_B = -F.logsigmoid(margin_B), -F.logsigmoid(-margin_B)
    loss_B = ((1 - noise) * as_labelled_B - noise * flipped_B) / (1 - 2 * noise)
    return PairLoss(loss_B, chosen_reward_B.detach(), rejected_reward_B.detach())


def length_normalised(
    chosen_B: Tensor,
    rejected_B: Tensor,
    ref_chosen_B: Tensor,
    ref_rejected_B: Tensor,
    *,
    beta: float,
    length_B2: Tensor,
) -> PairLoss:
    """`dpo` on log-ratios a token (Tülu 3, arXiv:2411.15124; `sigmoid_norm` in TRL).

        L = −log σ(β [log π(y_w)/ref(y_w) / |y_w| − log π(y_l)/ref(y_l) / |y_l|])

    β is larger than in `dpo` by about the length of a reply for the same pull.
    """
    chosen_length_B, rejected_length_B = length_B2.clamp(min=1).unbind(1)
    chosen_reward_B = beta * (chosen_B - ref_chosen_B) / chosen_length_B
    rejected_reward_B = beta * (rejected_B - ref_rejected_B) / rejected_length_B
    loss_B = -F.logsigmoid(chosen_reward_B - rejected_reward_B)
    return PairLoss(loss_B, chosen_reward_B.detach(), rejected_reward_B.detach())


def nll_of_chosen(chosen_B: Tensor, chosen_length_B: Tensor) -> Tensor:
    """−log π(y_w) / |y_w|: α times this beside `dpo` is eq. 1 of arXiv:2404.19733 (RPO).

    A mean a reply; TRL's `sft` is one over all tokens of the batch.
    """
    return -chosen_B / chosen_length_B.clamp(min=1)
