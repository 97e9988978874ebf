"""Losses on log-probabilities, each the equation of its paper; no devices, no settings, no logging.

Shapes: B pairs of a batch. Log-probabilities are sums over the tokens of a reply, in nats.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class PairLoss(NamedTuple):
    """One loss a pair, and what the policy has learnt about each reply: its implicit rewards."""

    loss_B: Tensor
    chosen_reward_B: Tensor
    """beta · log [policy / reference] of the chosen reply, detached."""
    rejected_reward_B: Tensor
    """The same of the rejected reply, detached."""


LossOfPairs = Callable[..., PairLoss]
"""(chosen_B, rejected_B, ref_chosen_B, ref_rejected_B, *, beta) → PairLoss."""


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
