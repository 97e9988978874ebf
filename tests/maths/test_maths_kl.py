"""KL: estimators against exact sums, their gradients by enumeration, controllers by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dressage.maths import kl

nats = st.floats(-50, 50)
PI, REF = (0.5, 0.3, 0.15, 0.05), (0.2, 0.2, 0.35, 0.25)
LOG = [math.log(p / q) for p, q in zip(PI, REF, strict=True)]
EXACT = sum(p * log for p, log in zip(PI, LOG, strict=True))
REVERSE = [p * (log - EXACT) for p, log in zip(PI, LOG, strict=True)]
"""∇KL(π ‖ ref) over the logits of π = softmax(θ): ∂/∂θ_i = π_i (log π_i/ref_i − KL)."""
FORWARD = [p - q for p, q in zip(PI, REF, strict=True)]
"""∇KL(ref ‖ π): ∂/∂θ_i = π_i − ref_i."""


def of(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def expected_gradient_as_loss(estimate) -> list[float]:
    """Σ_y π(y) ∇ estimate(y), the sum over everything that can be drawn; π(y) itself is a constant."""
    logits = of(*PI).log().requires_grad_()
    logprob = logits.log_softmax(0)
    (of(*PI) * estimate(logprob, of(*REF).log())).sum().backward()
    assert logits.grad is not None
    return logits.grad.tolist()


def expected_gradient_as_reward(estimate) -> list[float]:
    """Σ_y π(y) estimate(y) ∇ log π(y): the penalty as a policy gradient sees it in the reward."""
    logits = of(*PI).log().requires_grad_()
    logprob = logits.log_softmax(0)
    (of(*PI) * estimate(logprob.detach(), of(*REF).log()) * logprob).sum().backward()
    assert logits.grad is not None
    return logits.grad.tolist()


def test_estimators_by_hand() -> None:
    # π/ref = 2
    two = (of(0.4).log(), of(0.2).log())
    assert kl.k1(*two).item() == pytest.approx(0.693147, abs=1e-6)
    assert kl.k2(*two).item() == pytest.approx(0.240227, abs=1e-6)
    assert kl.k3(*two).item() == pytest.approx(0.5 - 1 + 0.693147, abs=1e-6)


def test_k1_and_k3_are_unbiased_and_k2_is_not() -> None:
    for estimate in (kl.k1, kl.k3):
        assert (of(*PI) * estimate(of(*PI).log(), of(*REF).log())).sum().item() == pytest.approx(EXACT)
    k2 = (of(*PI) * kl.k2(of(*PI).log(), of(*REF).log())).sum().item()
    assert k2 == pytest.approx(sum(p * log**2 / 2 for p, log in zip(PI, LOG, strict=True)))
    assert abs(k2 - EXACT) > 0.01


def test_swapped_draws_estimate_the_other_direction() -> None:
    other = sum(q * math.log(q / p) for p, q in zip(PI, REF, strict=True))
    for estimate in (kl.k1, kl.k3):
        assert (of(*REF) * estimate(of(*REF).log(), of(*PI).log())).sum().item() == pytest.approx(other)


def test_gradients_as_a_loss() -> None:
    assert expected_gradient_as_loss(kl.k1) == pytest.approx([0] * 4, abs=1e-12)
    assert expected_gradient_as_loss(kl.k2) == pytest.approx(REVERSE)
    assert expected_gradient_as_loss(kl.k3) == pytest.approx(FORWARD)
    assert max(abs(f - r) for f, r in zip(FORWARD, REVERSE, strict=True)) > 0.05


def test_gradients_in_the_reward() -> None:
    assert expected_gradient_as_reward(kl.k1) == pytest.approx(REVERSE)
    biased = expected_gradient_as_reward(kl.k3)
    assert max(abs(b - r) for b, r in zip(biased, REVERSE, strict=True)) > 0.05


@given(a=nats, b=nats)
def test_k2_and_k3_are_never_negative(a: float, b: float) -> None:
    assert kl.k2(of(a), of(b)).item() >= 0
    assert kl.k3(of(a), of(b)).item() >= -1e-12


@given(a=nats)
def test_a_policy_at_its_reference_has_none(a: float) -> None:
    assert [estimate(of(a), of(a)).item() for estimate in (kl.k1, kl.k2, kl.k3)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("mean_kl", "expected"),
    [
        (6.0, 0.2),  # at the target
        (6.6, 0.2 * (1 + 0.1 * 0.0256)),
        (5.4, 0.2 * (1 - 0.1 * 0.0256)),
        (60.0, 0.201024),  # e is cut at 0.2
        (0.0, 0.198976),  # and at −0.2
        (-3.0, 0.198976),
    ],
)
def test_an_adaptive_coefficient_by_hand(mean_kl: float, expected: float) -> None:
    before = kl.AdaptiveKL(0.2, target=6, horizon=10_000)
    after = before.after(mean_kl, 256)
    assert after.coefficient == pytest.approx(expected, rel=1e-12)
    assert (after.target, after.horizon, before.coefficient) == (6, 10_000, 0.2)


@given(mean_kl=st.floats(-1e6, 1e6), episodes=st.integers(0, 499))
def test_an_adaptive_coefficient_stays_positive_and_moves_towards_the_target(mean_kl: float, episodes: int) -> None:
    after = kl.AdaptiveKL(0.1, target=3, horizon=100).after(mean_kl, episodes).coefficient
    assert after > 0
    assert (after - 0.1) * (mean_kl - 3) >= 0


def test_what_no_coefficient_answers_is_refused() -> None:
    controller = kl.AdaptiveKL(0.1, target=3, horizon=100)
    for broken in (math.nan, math.inf):
        with pytest.raises(ValueError, match="mean KL"):
            controller.after(broken, 10)
    with pytest.raises(ValueError, match="horizon"):
        controller.after(3.0, 500)


def test_a_fixed_coefficient_stays() -> None:
    assert kl.FixedKL(0.05).after(1e9, 10_000) == kl.FixedKL(0.05)
