"""Losses of on-policy learning: by hand, against their equation in plain Python, and where no gradient may come."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dressage.maths.policy_losses import (
    clipped_policy,
    clipped_value,
    kl_penalty,
    weights_over_sequences,
    weights_over_tokens,
)

PI, REF = (0.5, 0.3, 0.15, 0.05), (0.2, 0.2, 0.35, 0.25)
LOG = [math.log(p / q) for p, q in zip(PI, REF, strict=True)]
EXACT = sum(p * log for p, log in zip(PI, LOG, strict=True))
REVERSE = [p * (log - EXACT) for p, log in zip(PI, LOG, strict=True)]
"""∇KL(π ‖ ref) over the logits of π: π_i (log π_i/ref_i − KL)."""


def of(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def gradient(loss: torch.Tensor, of_what: torch.Tensor) -> list[float]:
    loss.sum().backward()
    assert of_what.grad is not None
    return of_what.grad.tolist()


def policy(ratio: float, advantage: float, *, epsilon: float = 0.2, epsilon_high: float | None = None):
    """Loss, gradient over log π, and whether it was clipped, at one ratio."""
    logprob = of(ratio).log().requires_grad_()
    found = clipped_policy(logprob, of(0), of(advantage), epsilon=epsilon, epsilon_high=epsilon_high)
    assert not found.ratio.requires_grad
    assert found.ratio.item() == pytest.approx(ratio)
    return found.loss.item(), gradient(found.loss, logprob)[0], found.clipped.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope", "clipped"),
    [
        (1.0, 3.0, -3.0, -3.0, False),
        (1.1, 2.0, -2.2, -2.2, False),
        (1.5, 2.0, -2.4, 0.0, True),  # good, and already likelier
        (0.5, 2.0, -1.0, -1.0, False),  # good, and less likely than before: still pulled up
        (0.5, -2.0, 1.6, 0.0, True),  # bad, and already rarer
        (1.5, -2.0, 3.0, 3.0, False),  # bad, and likelier than before: still pushed down
        (1.5, 0.0, 0.0, 0.0, False),
    ],
)
def test_the_clipped_policy_by_hand(ratio, advantage, loss, slope, clipped) -> None:
    found = policy(ratio, advantage)
    assert found == (pytest.approx(loss), pytest.approx(slope), clipped)
    if clipped:
        assert found[1] == 0


def test_a_higher_upper_end_is_the_upper_end_only() -> None:
    assert policy(1.25, 1.0, epsilon_high=0.28) == (pytest.approx(-1.25), pytest.approx(-1.25), False)
    assert policy(1.5, 1.0, epsilon_high=0.28) == (pytest.approx(-1.28), 0, True)
    assert policy(0.75, -1.0, epsilon_high=0.28) == (pytest.approx(0.8), 0, True)


@given(log_ratio=st.floats(-5, 5), advantage=st.floats(-10, 10), low=st.floats(0.01, 0.9), high=st.floats(0.01, 3))
def test_the_clipped_policy_is_its_equation(log_ratio, advantage, low, high) -> None:
    ratio = math.exp(log_ratio)
    expected = -min(ratio * advantage, min(max(ratio, 1 - low), 1 + high) * advantage)
    found = clipped_policy(of(log_ratio), of(0), of(advantage), epsilon=low, epsilon_high=high)
    assert found.loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_at_ratio_1_it_is_the_plain_policy_gradient() -> None:
    # ∇ −Σ_t Â_t log π(y_t) over the logits: Σ_t Â_t (π − 1[y_t])
    logits = of(0.3, -0.2, 0.9).requires_grad_()
    drawn, advantage = torch.tensor([0, 2, 2]), of(1.5, -0.5, 2.0)
    logprob = logits.log_softmax(0)[drawn]
    # the old log-probability may be the very same tensor: no gradient passes through it
    found = clipped_policy(logprob, logprob, advantage, epsilon=0.2)
    assert found.ratio.tolist() == [1, 1, 1]
    total = sum(math.exp(x) for x in (0.3, -0.2, 0.9))
    p = [math.exp(x) / total for x in (0.3, -0.2, 0.9)]
    expected = [3.0 * p[0] - 1.5, 3.0 * p[1], 3.0 * p[2] - 1.5]
    assert gradient(found.loss, logits) == pytest.approx(expected)


def test_without_a_clip_it_is_importance_sampling() -> None:
    logprob = of(-1.0, -4.0).requires_grad_()
    found = clipped_policy(logprob, of(-3.0, -1.0), of(2.0, -1.0), epsilon=1e9)
    assert found.loss.tolist() == pytest.approx([-2 * math.exp(2), math.exp(-3)])
    assert gradient(found.loss, logprob) == pytest.approx([-2 * math.exp(2), math.exp(-3)])
    assert not found.clipped.any()


def test_a_ratio_beyond_all_numbers_is_clipped_like_any_other() -> None:
    logprob = torch.tensor([0.0, -500.0], requires_grad=True)
    found = clipped_policy(logprob, torch.tensor([-500.0, 0.0]), torch.tensor([1.0, -1.0]), epsilon=0.2)
    assert found.loss.tolist() == pytest.approx([-1.2, 0.8])
    assert gradient(found.loss, logprob) == [0, 0]


@pytest.mark.parametrize(
    ("value", "returns", "loss", "slope", "clipped"),
    [
        (0.1, 2.0, 0.5 * 1.9**2, -1.9, False),  # within 0 ± 0.2
        (1.0, 2.0, 0.5 * 1.8**2, 0.0, True),  # went to R faster than it may
        (1.0, -1.0, 2.0, 2.0, False),  # went the wrong way
        (1.0, 0.5, 0.125, 0.5, False),  # went past R
        (-0.5, -1.0, 0.5 * 0.8**2, 0.0, True),
    ],
)
def test_the_clipped_value_by_hand(value, returns, loss, slope, clipped) -> None:
    at = of(value).requires_grad_()
    found = clipped_value(at, of(0), of(returns), epsilon=0.2)
    assert found.loss.item() == pytest.approx(loss)
    assert found.clipped.item() is clipped
    assert gradient(found.loss, at)[0] == pytest.approx(slope, abs=0)


@given(value=st.floats(-9, 9), old=st.floats(-9, 9), returns=st.floats(-9, 9), epsilon=st.floats(0.01, 5))
def test_the_clipped_value_is_its_equation(value, old, returns, epsilon) -> None:
    held = min(max(value, old - epsilon), old + epsilon)
    expected = max((value - returns) ** 2, (held - returns) ** 2) / 2
    found = clipped_value(of(value), of(old), of(returns), epsilon=epsilon)
    assert found.loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert found.loss.item() >= (value - returns) ** 2 / 2 - 1e-12


def test_a_value_that_has_not_moved_is_not_clipped() -> None:
    values = torch.linspace(-3, 3, 101)
    assert not clipped_value(values, values + 1e-3, torch.full((101,), 7.7), epsilon=0.2).clipped.any()


@pytest.mark.parametrize("old", [PI, REF, (0.25, 0.25, 0.25, 0.25)])
def test_the_kl_penalty_has_value_and_gradient_of_the_reverse_kl(old) -> None:
    # on policy (old = π) and off policy: the sum over everything that π_old can draw
    logits = of(*PI).log().requires_grad_()
    penalty = of(*old) * kl_penalty(logits.log_softmax(0), of(*old).log(), of(*REF).log())
    assert penalty.sum().item() == pytest.approx(EXACT)
    assert gradient(penalty, logits) == pytest.approx(REVERSE, abs=1e-12)


def test_the_kl_penalty_by_hand() -> None:
    # ρ = 0.4/0.2 = 2, u = 0.1/0.4 = ¼: 2 (¼ − 1 + ln 4)
    found = kl_penalty(of(0.4).log(), of(0.2).log(), of(0.1).log())
    assert found.item() == pytest.approx(2 * (1.386294 - 0.75), abs=1e-5)


MASK = torch.tensor([[1, 1, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)


def test_weights_by_hand() -> None:
    assert weights_over_tokens(MASK).flatten().tolist() == pytest.approx([0.25, 0.25, 0, 0.25, 0, 0.25] + [0] * 6)
    assert weights_over_sequences(MASK).flatten().tolist() == pytest.approx([1 / 6, 1 / 6, 0, 1 / 6, 0, 0.5] + [0] * 6)


weigh = pytest.mark.parametrize("weights", [weights_over_tokens, weights_over_sequences])


@weigh
@given(rows=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=6))
def test_weights_sum_to_one_or_to_nothing(weights, rows) -> None:
    mask_BT = torch.tensor(rows)
    found_BT = weights(mask_BT)
    assert (found_BT >= 0).all()
    assert ((found_BT > 0) == mask_BT).all()
    assert found_BT.sum().item() == pytest.approx(float(any(map(any, rows))))


@weigh
def test_microbatches_add_up(weights) -> None:
    x_BT, weight_BT = torch.arange(12.0).view(3, 4), weights(MASK)
    parts = sum((w * x).sum() for w, x in zip(weight_BT.split(1), x_BT.split(1), strict=True))
    assert float(parts) == pytest.approx((weight_BT * x_BT).sum().item())


def test_equal_lengths_make_the_two_weights_one() -> None:
    mask_BT = torch.tensor([[1, 1, 0], [0, 1, 1]], dtype=torch.bool)
    assert torch.equal(weights_over_tokens(mask_BT), weights_over_sequences(mask_BT))
