"""Losses on pairs by hand-computed value, identity and property."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dressage.maths import losses

nats = st.floats(-50, 50)
ALL = (losses.dpo, losses.ipo, losses.hinge, partial(losses.robust, noise=0.2))


def of(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_at_the_reference_each_loss_is_what_its_paper_says() -> None:
    at = (of(-10, -3), of(-20, -4), of(-10, -3), of(-20, -4))
    assert losses.dpo(*at, beta=0.1).loss_B.tolist() == pytest.approx([math.log(2)] * 2)
    assert losses.ipo(*at, beta=0.1).loss_B.tolist() == pytest.approx([25.0] * 2)
    assert losses.hinge(*at, beta=0.1).loss_B.tolist() == pytest.approx([1.0] * 2)
    assert losses.robust(*at, beta=0.1, noise=0.3).loss_B.tolist() == pytest.approx([math.log(2)] * 2)
    lengths_B2 = torch.tensor([[3, 7], [12, 1]])
    normalised = losses.length_normalised(*at, beta=0.1, length_B2=lengths_B2)
    assert normalised.loss_B.tolist() == pytest.approx([math.log(2)] * 2)


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


def test_robust_by_hand() -> None:
    # margin 1: −log σ(1) = 0.31326169, −log σ(−1) = 1.31326169; (0.9 · 0.31326169 − 0.1 · 1.31326169) / 0.8
    at = (of(-8), of(-23), of(-10), of(-20))
    found = losses.robust(*at, beta=0.2, noise=0.1)
    assert found.loss_B.item() == pytest.approx(0.18826169, abs=1e-8)
    assert (found.chosen_reward_B.item(), found.rejected_reward_B.item()) == pytest.approx((0.4, -0.6))


@given(chosen=nats, rejected=nats)
def test_robust_without_noise_is_dpo(chosen: float, rejected: float) -> None:
    at = (of(chosen), of(rejected), of(-3), of(-5))
    robust, dpo = losses.robust(*at, beta=0.3, noise=0), losses.dpo(*at, beta=0.3)
    assert torch.allclose(robust.loss_B, dpo.loss_B, atol=1e-12)


@given(chosen=nats, rejected=nats, noise=st.floats(0, 0.45))
def test_robust_over_noisy_labels_is_dpo_over_clean_ones(chosen: float, rejected: float, noise: float) -> None:
    right, wrong = (of(chosen), of(rejected), of(0), of(0)), (of(rejected), of(chosen), of(0), of(0))
    seen = [losses.robust(*labelled, beta=0.3, noise=noise).loss_B.item() for labelled in (right, wrong)]
    mean = (1 - noise) * seen[0] + noise * seen[1]
    margin = 0.3 * (chosen - rejected)
    assert mean == pytest.approx(math.log1p(math.exp(-abs(margin))) + max(-margin, 0), abs=1e-9)


def test_length_normalised_by_hand() -> None:
    # 2 nats over 4 tokens and −3 over 10: ½ + 0.3 = 0.8 nats a token
    at = (of(-8), of(-23), of(-10), of(-20))
    found = losses.length_normalised(*at, beta=2, length_B2=torch.tensor([[4, 10]]))
    assert found.loss_B.item() == pytest.approx(math.log(1 + math.exp(-1.6)))
    assert (found.chosen_reward_B.item(), found.rejected_reward_B.item()) == pytest.approx((1.0, -0.6))


@given(chosen=nats, rejected=nats, length=st.integers(1, 99))
def test_equal_lengths_are_dpo_with_another_beta(chosen: float, rejected: float, length: int) -> None:
    at = (of(chosen), of(rejected), of(-3), of(-5))
    found = losses.length_normalised(*at, beta=0.3, length_B2=torch.tensor([[length, length]]))
    assert torch.allclose(found.loss_B, losses.dpo(*at, beta=0.3 / length).loss_B, atol=1e-12)


def test_dpo_beside_the_likelihood_of_the_chosen() -> None:
    # RPO: log(1 + e⁻¹) + 0.5 · 8/4; the likelihood alone moves log π(y_w) by −α/|y_w|
    chosen = of(-8).requires_grad_()
    dpo = losses.dpo(chosen, of(-23), of(-10), of(-20), beta=0.2)
    loss_B = dpo.loss_B + 0.5 * losses.nll_of_chosen(chosen, torch.tensor([4]))
    assert loss_B.item() == pytest.approx(math.log(1 + math.exp(-1)) + 1)
    loss_B.sum().backward()
    assert chosen.grad is not None
    assert chosen.grad.item() == pytest.approx(-0.2 / (1 + math.e) - 0.5 / 4)


def test_no_token_is_no_division_by_zero() -> None:
    assert losses.nll_of_chosen(of(0.0), torch.tensor([0])).item() == 0
    empty = losses.length_normalised(*[of(0.0)] * 4, beta=0.1, length_B2=torch.tensor([[0, 0]]))
    assert empty.loss_B.item() == pytest.approx(math.log(2))
