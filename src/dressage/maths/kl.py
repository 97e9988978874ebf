"""Estimators of KL(π ‖ ref) from log-probabilities of what π drew, and controllers of the coefficient on it.

Schulman, joschu.net/blog/kl-approx. Any shape: tokens or whole replies. Where the draws come from the reference
instead, swap the arguments and the estimate is of KL(ref ‖ π).

The gradient of an estimator's mean is not that of what it estimates. Drawn on policy and used as a loss, k1 has
none, k2 that of KL(π ‖ ref), k3 that of KL(ref ‖ π); k1 in the reward gives that of KL(π ‖ ref).
"""

import math
from dataclasses import dataclass, replace

from torch import Tensor


def k1(logprob: Tensor, ref_logprob: Tensor) -> Tensor:
    """log π/ref: unbiased; a single value may be negative, a mean that stays negative is an alarm."""
    return logprob - ref_logprob


def k2(logprob: Tensor, ref_logprob: Tensor) -> Tensor:
    """½ (log π/ref)²: biased, never negative, of low variance."""
    return (logprob - ref_logprob) ** 2 / 2


def k3(logprob: Tensor, ref_logprob: Tensor) -> Tensor:
    """u − 1 − log u with u = ref/π: unbiased, never negative, of lower variance while the two are near."""
    log_u = ref_logprob - logprob
    return log_u.expm1() - log_u


@dataclass(frozen=True)
class FixedKL:
    """A coefficient that stays."""

    coefficient: float

    def after(self, mean_kl: float, episodes: int) -> "FixedKL":
        """The same, whatever was measured."""
        return self


@dataclass(frozen=True)
class AdaptiveKL:
    """A coefficient that holds the KL of a reply, Σ_t k1 in nats, near a target."""

    coefficient: float
    target: float
    horizon: float
    """Episodes; it must be more than a fifth of those between two updates, or the coefficient would reach 0."""

    def after(self, mean_kl: float, episodes: int) -> "AdaptiveKL":
        """§2.2 of arXiv:1909.08593: e = clip(KL/target − 1, −0.2, 0.2), β ← β (1 + e · n/horizon).

        Raises:
            ValueError: a KL that is not finite, or more episodes than the horizon allows.
        """
        if not math.isfinite(mean_kl):
            raise ValueError(f"the mean KL is {mean_kl}; no coefficient answers that, stop and look at the policy")
        if episodes >= 5 * self.horizon:
            raise ValueError(f"a KL horizon of {self.horizon} episodes is too short for updates of {episodes}")
        error = min(max(mean_kl / self.target - 1, -0.2), 0.2)
        return replace(self, coefficient=self.coefficient * (1 + error * episodes / self.horizon))
