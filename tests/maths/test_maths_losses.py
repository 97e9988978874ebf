"""Losses and KL estimators by hand-computed value, identity and property."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dressage.maths import kl, losses

nats = st.floats(-50, 50)
ALL = (losses.dpo, losses.ipo, losses.hinge)


def of(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_at_the_reference_each_loss_is_what_its_paper_says() -> None:
    at = (of(-10, -3), of(-20, -4), of(-10, -3), of(-20, -4))
    assert losses.dpo(*at, beta=0.1).loss_B.tolist() == pytest.approx([math.log(2)] * 2)
    assert losses.ipo(*at, beta=0.1).loss_B.tolist() == pytest.approx([25.0] * 2)
    assert losses.hinge(*at, beta=0.1).loss_B.tolist() == pytest.approx([1.0] * 2)


def test_by_hand() -> None:
    # chosen rose by 2 nats, rejected fell by 3: h = 5
    at = (of(-8), of(-23), of(-10), of(-20))
    assert losses.dpo(*at, beta=0.2).loss_B.item() == pytest.approx(math.log(1 + math.exp(-1.0)))
    assert losses.ipo(*at, beta=0.2).loss_B.item() == pytest.approx((5 - 2.5) ** 2)
    assert losses.hinge(*at, beta=0.1).loss_B.item() == pytest.approx(0.5)
    rewards = losses.dpo(*at, beta=0.2)
    assert (rewards.chosen_reward_B.item(), rewards.rejected_reward_B.item()) == pytest.approx((0.4, -0.6))


def test_gradient_of_dpo_by_hand() -> None:
    chosen = of(-8).requires_grad_()
    losses.dpo(chosen, of(-23), of(-10), of(-20), beta=0.2).loss_B.sum().backward()
    assert chosen.grad is not None
    assert chosen.grad.item() == pytest.approx(-0.2 / (1 + math.e))


@pytest.mark.parametrize("loss", ALL)
@given(chosen=nats, rejected=nats, ref_chosen=nats, ref_rejected=nats, shift=nats)
def test_only_the_difference_of_log_ratios_matters(loss, chosen, rejected, ref_chosen, ref_rejected, shift) -> None:
    one = loss(of(chosen), of(rejected), of(ref_chosen), of(ref_rejected), beta=0.3).loss_B
    moved = loss(of(chosen + shift), of(rejected + shift), of(ref_chosen), of(ref_rejected), beta=0.3).loss_B
    assert torch.allclose(one, moved, atol=1e-8, rtol=1e-8)


@given(chosen=nats, rejected=nats)
def test_swapping_a_pair_mirrors_its_margin(chosen: float, rejected: float) -> None:
    zero = of(0)
    here = losses.dpo(of(chosen), of(rejected), zero, zero, beta=1.0)
    there = losses.dpo(of(rejected), of(chosen), zero, zero, beta=1.0)
    # log σ(m) − log σ(−m) = m
    assert (there.loss_B - here.loss_B).item() == pytest.approx(chosen - rejected, abs=1e-9)


def test_kl_estimators_agree_with_the_exact_sum() -> None:
    policy, ref = of(0.5, 0.3, 0.2), of(0.2, 0.2, 0.6)
    exact = sum(p * math.log(p / q) for p, q in zip(policy.tolist(), ref.tolist(), strict=True))
    for estimate in (kl.k1, kl.k3):
        assert (policy * estimate(policy.log(), ref.log())).sum().item() == pytest.approx(exact)


@given(a=nats, b=nats)
def test_k3_is_never_negative(a: float, b: float) -> None:
    assert kl.k3(of(a), of(b)).item() >= -1e-12
