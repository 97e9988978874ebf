"""Advantages: by hand, against slow plain Python, by identity; and what is masked is never read."""

import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dressage.maths.advantages import (
    explained_variance,
    gae,
    group_centred,
    group_standardised,
    leave_one_out,
    rescaled,
    token_rewards,
    whitened,
)

NAN = math.nan


def of(rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def mask(rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.bool)


# ---------------------------------------------------------------- token by token


def test_gae_by_hand() -> None:
    # γ = ½, λ = ½; the second token does not count:
    # t=3: δ = 4 − 2 = 2, Â = 2; t=1: δ = 1 + ½·2 − 3 = −1, Â = −1 + ¼·2 = −½
    found = gae(of([[1, NAN, 4, 9]]), of([[3, NAN, 2, NAN]]), mask([[1, 0, 1, 0]]), gamma=0.5, lam=0.5)
    assert found.advantage_ST.tolist() == [[-0.5, 0, 2, 0]]
    assert found.return_ST.tolist() == [[2.5, 0, 4, 0]]


step = st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.booleans())
batch = st.integers(1, 6).flatmap(lambda t: st.lists(st.lists(step, min_size=t, max_size=t), min_size=1, max_size=4))
share = st.floats(0, 1)


def slow_gae(row, gamma: float, lam: float) -> list[float]:
    """Â_t = Σ_l (γλ)^l δ_{t+l} over the counted tokens, which stand side by side."""
    rewards, values = [r for r, _, c in row if c], [v for _, v, c in row if c]
    n = len(rewards)
    delta = [rewards[t] + gamma * (values[t + 1] if t + 1 < n else 0) - values[t] for t in range(n)]
    sums = iter([sum((gamma * lam) ** (u - t) * delta[u] for u in range(t, n)) for t in range(n)])
    return [next(sums) if c else 0.0 for _, _, c in row]


def tensors(rows):
    """Reward, value and mask; where nothing counts there is a NaN to be stumbled over."""
    reward_ST, value_ST = (of([[s[k] if s[2] else NAN for s in row] for row in rows]) for k in (0, 1))
    return reward_ST, value_ST, mask([[s[2] for s in row] for row in rows])


@given(batch, share, share)
def test_gae_is_the_sum_of_its_paper(rows, gamma, lam) -> None:
    reward_ST, value_ST, mask_ST = tensors(rows)
    found = gae(reward_ST, value_ST, mask_ST, gamma=gamma, lam=lam)
    expected = [slow_gae(row, gamma, lam) for row in rows]
    for row, advantage, returns in zip(rows, expected, found.return_ST.tolist(), strict=True):
        there = [a + v if c else 0 for a, (_, v, c) in zip(advantage, row, strict=True)]
        assert returns == pytest.approx(there, abs=1e-9)
    assert torch.allclose(found.advantage_ST, of(expected), atol=1e-9)


@given(batch, share)
def test_lambda_1_is_what_came_minus_what_was_expected(rows, gamma) -> None:
    reward_ST, value_ST, mask_ST = tensors(rows)
    found = gae(reward_ST, value_ST, mask_ST, gamma=gamma, lam=1)
    for row, returns in zip(rows, found.return_ST.tolist(), strict=True):
        rewards = [r for r, _, c in row if c]
        counted = [x for x, (_, _, c) in zip(returns, row, strict=True) if c]
        tails = [sum(gamma ** (u - t) * rewards[u] for u in range(t, len(rewards))) for t in range(len(rewards))]
        assert counted == pytest.approx(tails, abs=1e-9)


def test_lambda_0_is_one_step() -> None:
    found = gae(of([[1, 2, 3]]), of([[10, 20, 30]]), mask([[1, 1, 1]]), gamma=0.9, lam=0)
    assert found.advantage_ST.tolist() == [pytest.approx([1 + 18 - 10, 2 + 27 - 20, 3 - 30])]


def test_a_perfect_critic_leaves_no_advantage() -> None:
    found = gae(of([[0, 0, 1]]), of([[1, 1, 1]]), mask([[1, 1, 1]]), gamma=1, lam=0.95)
    assert found.advantage_ST.tolist() == [[0, 0, 0]]


def test_no_gradient_passes() -> None:
    value_ST = of([[1.0, 2.0]]).requires_grad_()
    found = gae(of([[1, 1]]), value_ST, mask([[1, 1]]), gamma=1, lam=1)
    assert not found.advantage_ST.requires_grad
    assert not found.return_ST.requires_grad


def test_token_rewards_by_hand() -> None:
    mask_ST = mask([[1, 1, 0, 1, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    kl_ST = of([[1, -2, NAN, 3, NAN], [5, NAN, NAN, NAN, NAN], [1, 1, 1, 1, 1]])
    found = token_rewards(of([0.75, 0.5, NAN]), kl_ST, mask_ST, coefficient=0.1)
    assert found[0].tolist() == pytest.approx([-0.1, 0.2, 0, 0.45, 0])
    assert found[1].tolist() == pytest.approx([0, 0, 0, 0, 0])
    assert found[2].tolist() == [0] * 5


def test_without_a_penalty_all_the_reward_is_the_score() -> None:
    mask_ST = mask([[1, 1, 1], [1, 0, 1], [0, 1, 0]])
    found = token_rewards(of([0.2, 0.3, 0.4]), torch.rand(3, 3).double(), mask_ST, coefficient=0)
    assert found.sum(1).tolist() == pytest.approx([0.2, 0.3, 0.4])
    assert found[2].tolist() == pytest.approx([0, 0.4, 0])


# ---------------------------------------------------------------- from the other samples of a group


def test_groups_by_hand() -> None:
    # group 7: 0 and 1, beside one that failed; group 3: 1, 2, 6; group 5: alone; group 9: all failed
    score_S = of([0, 1, 1, NAN, 2, 6, 4, NAN])
    group_S = torch.tensor([7, 3, 7, 7, 3, 3, 5, 9])
    counted_S = mask([1, 1, 1, 0, 1, 1, 1, 0])
    at = (score_S, group_S, counted_S)
    assert group_centred(*at).tolist() == pytest.approx([-0.5, -2, 0.5, 0, -1, 3, 0, 0])
    # the others: 1 | 4 | 0 | – | 3.5 | 1.5 | nobody | –
    assert leave_one_out(*at).tolist() == pytest.approx([-1, -3, 1, 0, -1.5, 4.5, 0, 0])
    # deviations, by n − 1: sqrt(½) = 0.70710678 and sqrt((4 + 1 + 9) / 2) = 2.64575131
    two, three = 0.70710678 + 1e-4, 2.64575131 + 1e-4
    expected = [-0.5 / two, -2 / three, 0.5 / two, 0, -1 / three, 3 / three, 0, 0]
    assert group_standardised(*at).tolist() == pytest.approx(expected, rel=1e-8)


samples = st.lists(st.tuples(st.floats(0, 1), st.integers(-2, 2), st.booleans()), min_size=1, max_size=20)


def columns(rows):
    scores, groups, counted = zip(*rows, strict=True)
    there = [s if c else NAN for s, c in zip(scores, counted, strict=True)]
    return of(there), torch.tensor(groups), mask(counted)


@given(samples)
def test_groups_are_what_plain_python_says(rows) -> None:
    standardised, centred, others = [], [], []
    for i, (score, group, counted) in enumerate(rows):
        peers = [s for j, (s, g, c) in enumerate(rows) if g == group and c and j != i]
        if not (counted and peers):
            score, peers = 0.0, [0.0]
        everyone = [*peers, score]
        centred.append(score - statistics.fmean(everyone))
        others.append(score - statistics.fmean(peers))
        standardised.append(centred[-1] / (statistics.stdev(everyone) + 1e-4))
    assert group_centred(*columns(rows)).tolist() == pytest.approx(centred, abs=1e-9)
    assert leave_one_out(*columns(rows)).tolist() == pytest.approx(others, abs=1e-9)
    assert group_standardised(*columns(rows)).tolist() == pytest.approx(standardised, abs=1e-6)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_leaving_one_out_is_centring_scaled_up(scores) -> None:
    n = len(scores)
    at = (of(scores), torch.zeros(n, dtype=torch.long), torch.ones(n, dtype=torch.bool))
    assert torch.allclose(leave_one_out(*at), group_centred(*at) * n / (n - 1), atol=1e-12)


ESTIMATORS = pytest.mark.parametrize("estimator", [group_standardised, group_centred, leave_one_out])


@ESTIMATORS
@given(score=st.floats(-100, 100, width=32), n=st.integers(1, 9))
def test_equal_scores_say_nothing_at_all(estimator, score, n) -> None:
    score_S = torch.full((n,), score, dtype=torch.float32)
    found_S = estimator(score_S, torch.zeros(n, dtype=torch.long), torch.ones(n, dtype=torch.bool))
    assert found_S.dtype == torch.float32
    assert found_S.tolist() == [0] * n


@ESTIMATORS
@given(rows=samples, shift=st.floats(-5, 5))
def test_a_group_sums_to_nothing_and_knows_no_zero(estimator, rows, shift) -> None:
    score_S, group_S, counted_S = columns(rows)
    found_S = estimator(score_S, group_S, counted_S)
    assert all(abs(found_S[group_S == g].sum()) < 1e-6 for g in group_S.unique())
    assert torch.allclose(estimator(score_S + shift, group_S, counted_S), found_S, atol=1e-6)


# ---------------------------------------------------------------- scaling


def test_whitening_by_hand() -> None:
    # 1, 3, 5 count: mean 3, variance 8/3
    x_ST, mask_ST = of([[1, NAN, 3], [5, 100, 100]]), mask([[1, 0, 1], [1, 0, 0]])
    two = 2 / math.sqrt(8 / 3)
    assert whitened(x_ST, mask_ST).flatten().tolist() == pytest.approx([-two, 0, 0, two, 0, 0])
    assert rescaled(x_ST, mask_ST).flatten().tolist() == pytest.approx([3 - two, 0, 3, 3 + two, 0, 0])


@given(st.lists(st.floats(-9, 9), min_size=2, max_size=20).filter(lambda x: statistics.pstdev(x) > 0.1))
def test_whitened_is_standard_on_the_mask_and_padding_changes_nothing(values) -> None:
    x_ST, mask_ST = of([values]), torch.ones(1, len(values), dtype=torch.bool)
    for scaled, mean in ((whitened, 0.0), (rescaled, statistics.fmean(values))):
        found = scaled(x_ST, mask_ST)[0].tolist()
        assert statistics.fmean(found) == pytest.approx(mean, abs=1e-9)
        assert statistics.pstdev(found) == pytest.approx(1, abs=1e-5)
        padding = torch.full((1, 7), NAN, dtype=torch.float64)
        padded = scaled(torch.cat([x_ST, padding], 1), torch.cat([mask_ST, torch.zeros(1, 7, dtype=torch.bool)], 1))
        assert padded[0].tolist() == pytest.approx([*found, *[0] * 7])


@pytest.mark.parametrize("counts", [[0, 0, 0], [0, 1, 0], [1, 1, 1]])
@pytest.mark.parametrize("value", [0.0, 0.1, -1234.567])
def test_what_does_not_vary_has_no_nan(counts, value) -> None:
    x_ST, mask_ST = torch.full((1, 3), value), mask([counts])
    assert whitened(x_ST, mask_ST).tolist() == [[0, 0, 0]]
    assert rescaled(x_ST, mask_ST)[0].tolist() == pytest.approx([value * c for c in counts])


def test_the_same_score_for_everyone_is_no_encouragement() -> None:
    mask_ST = mask([[1, 1, 1, 0], [1, 1, 1, 1]])
    reward_ST = token_rewards(of([5, 5]), of([[0] * 4] * 2), mask_ST, coefficient=0.1)
    advantage_ST, _ = gae(reward_ST, of([[0] * 4] * 2), mask_ST, gamma=1, lam=0.95)
    assert advantage_ST[0].tolist() == pytest.approx([5 * 0.95**2, 5 * 0.95, 5, 0])
    assert whitened(advantage_ST, mask_ST).sum().item() == pytest.approx(0, abs=1e-9)


# ---------------------------------------------------------------- the critic


def test_explained_variance_by_hand() -> None:
    returns_ST, mask_ST = of([[0, 2, NAN]]), mask([[1, 1, 0]])
    # R − V is 0, 1: variance ¼ of a variance of 1
    assert explained_variance(of([[0, 1, NAN]]), returns_ST, mask_ST).item() == pytest.approx(0.75)
    assert explained_variance(of([[0, 2, 7]]), returns_ST, mask_ST).item() == 1
    assert explained_variance(of([[9, 9, 7]]), returns_ST, mask_ST).item() == 0
    assert explained_variance(of([[2, 0, 7]]), returns_ST, mask_ST).item() == pytest.approx(-3)


@pytest.mark.parametrize("counts", [[0, 0, 0], [0, 1, 0], [1, 1, 1]])
def test_returns_that_do_not_vary_have_nothing_to_explain(counts) -> None:
    value_ST = torch.tensor([[0.5, 0.1, -0.3]])
    for rounding in (0.0, 3e-8):
        returns_ST = torch.tensor([[0.7, 0.7 + rounding, 0.7 - rounding]])
        found = explained_variance(value_ST, returns_ST, mask([counts]))
        assert found.shape == ()
        assert found.item() == 0
