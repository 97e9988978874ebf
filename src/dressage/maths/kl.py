"""Estimators of KL(π ‖ ref) from log-probabilities of what π drew (Schulman, joschu.net/blog/kl-approx).

Any shape: tokens or whole replies. Where the draws come from the reference instead, swap the arguments
and the estimate is of KL(ref ‖ π).
"""

from torch import Tensor


def k1(logprob: Tensor, ref_logprob: Tensor) -> Tensor:
    """log π/ref: unbiased; a single value may be negative, a mean that stays negative is an alarm."""
    return logprob - ref_logprob


def k3(logprob: Tensor, ref_logprob: Tensor) -> Tensor:
    """u − 1 − log u with u = ref/π: unbiased, never negative, of lower variance while the two are near."""
    log_u = ref_logprob - logprob
    return log_u.expm1() - log_u
