"""Losses of on-policy learning, entry by entry, and the weights with which entries become one number.

Any shape: a loss of a microbatch is (weight · loss).sum(), and those of a minibatch add up if their weights
were taken over the whole of it. Log-probabilities are in nats, at the temperature of sampling, and finite
also where the weight is 0. Gradient passes through `logprob` and `value` only.

    B  samples of a minibatch      T  response tokens      mask_BT  True where a token counts
"""

from typing import NamedTuple

import torch
from torch import Tensor

from dressage.maths import kl


class PolicyLoss(NamedTuple):
    """One loss an entry; the other two are detached and for the log."""

    loss: Tensor
    ratio: Tensor
    """ρ = π / π_old, unclipped; 1 at the first minibatch of the first epoch."""
    clipped: Tensor
    """True where the clip decided: no gradient comes from there."""


class ValueLoss(NamedTuple):
    """One loss an entry; `clipped` is True where the clip decided."""

    loss: Tensor
    clipped: Tensor


def clipped_policy(
    logprob: Tensor, old_logprob: Tensor, advantage: Tensor, *, epsilon: float, epsilon_high: float | None = None
) -> PolicyLoss:
    """Eq. 7 of arXiv:1707.06347: L = −min(ρ Â, clip(ρ, 1 − ε, 1 + ε) Â), ρ = exp(log π − log π_old).

    The upper end is 1 + ε_high where that is given (clip-higher, arXiv:2503.14476).
    """
    log_ratio = logprob - old_logprob.detach()
    ratio = log_ratio.detach().exp()
    bounded = ratio.clamp(1 - epsilon, 1 + (epsilon if epsilon_high is None else epsilon_high))
    clipped = bounded * advantage < ratio * advantage
    # A clipped ratio may be infinite, and 0 · ∞ in its backward is no 0: its exponential is not in the graph.
    kept = torch.where(clipped, bounded, log_ratio.masked_fill(clipped, 0).exp())
    return PolicyLoss(-kept * advantage.detach(), ratio, clipped)


def clipped_value(value: Tensor, old_value: Tensor, returns: Tensor, *, epsilon: float) -> ValueLoss:
    """L = ½ max((V − R)², (clip(V, V_old − ε, V_old + ε) − R)²), the critic of lm-human-preferences (arXiv:1909.08593).

    ε is on the scale of the return. Where the held value is the farther one from R, V is already nearer to it than
    these epochs may bring it: no gradient.
    """
    old_value, returns = old_value.detach(), returns.detach()
    bounded = value.clamp(old_value - epsilon, old_value + epsilon)
    plain, held = (value - returns) ** 2, (bounded - returns) ** 2
    return ValueLoss(torch.max(plain, held) / 2, (held > plain).detach())


def kl_penalty(logprob: Tensor, old_logprob: Tensor, ref_logprob: Tensor) -> Tensor:
    """ρ · k3 (arXiv:2512.02556): over draws of π_old its mean is KL(π ‖ ref), and so is the gradient of its mean.

    The gradient passes through ρ too; k3 alone has that of KL(ref ‖ π). TRL's GRPO: `use_bias_correction_kl`.
    """
    ratio = (logprob - old_logprob.detach()).exp()
    return ratio * kl.k3(logprob, ref_logprob.detach())


def weights_over_tokens(mask_BT: Tensor) -> Tensor:
    """1 / (all counted tokens) each: long samples weigh more. They sum to 1, or to 0 where nothing counts."""
    return mask_BT / mask_BT.sum().clamp(min=1)


def weights_over_sequences(mask_BT: Tensor) -> Tensor:
    """1 / (samples that count · the sample's counted tokens): each sample weighs the same. They sum to 1, or to 0."""
    length_B = mask_BT.sum(1)
    return mask_BT / (length_B.clamp(min=1) * (length_B > 0).sum().clamp(min=1))[:, None]
