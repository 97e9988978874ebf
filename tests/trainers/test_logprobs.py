"""Log-probabilities and entropies from hidden states: values and gradients are autograd's through whole logits."""

from functools import partial

import pytest
import torch

from dressage.trainers._logprobs import token_logprobs, told_tokens


def through_logits(hidden, head, target_N, *, temperature: float):
    logprob_NV = (head(hidden) / temperature).log_softmax(-1)
    entropy_N = -(logprob_NV.exp() * logprob_NV).sum(-1)
    return logprob_NV.gather(1, target_N[:, None])[:, 0], entropy_N


@pytest.mark.parametrize("chunk", [50, 120, 10_000])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_value_and_gradient_are_autograds(chunk: int, bias: bool, temperature: float) -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 50, bias=bias).requires_grad_(False)
    hidden_ND, target_N, weight_N = torch.randn(7, 8), torch.randint(50, (7,)), torch.randn(7)
    found = []
    for compute in (
        lambda *of: through_logits(*of, temperature=temperature)[0],
        partial(token_logprobs, temperature=temperature, chunk_logits=chunk),
        lambda *of: told_tokens(*of, temperature=temperature, chunk_logits=chunk).logprob_N,
    ):
        hidden = hidden_ND.clone().requires_grad_()
        logprob_N = compute(hidden, head, target_N)
        (logprob_N * weight_N).sum().backward()
        found.append((logprob_N.detach(), hidden.grad))
    for value_N, gradient_ND in found[1:]:
        assert torch.allclose(value_N, found[0][0], atol=1e-6)
        assert torch.allclose(gradient_ND, found[0][1], atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_entropy_learns_where_it_may(temperature: float) -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 50).requires_grad_(False)
    hidden_ND, target_N = torch.randn(7, 8), torch.randint(50, (7,))
    weight_N, bonus_N = torch.randn(7), torch.randn(7)
    gradients = []
    for compute in (
        partial(through_logits, temperature=temperature),
        partial(told_tokens, temperature=temperature, entropy="learnt", chunk_logits=120),
    ):
        hidden = hidden_ND.clone().requires_grad_()
        logprob_N, entropy_N = compute(hidden, head, target_N)
        (logprob_N * weight_N + entropy_N * bonus_N).sum().backward()
        gradients.append(hidden.grad)
    assert torch.allclose(*gradients, atol=1e-6)
    seen = told_tokens(hidden_ND.requires_grad_(), head, target_N, temperature=temperature).entropy_N
    assert not seen.requires_grad
    assert torch.allclose(seen, through_logits(hidden_ND, head, target_N, temperature=temperature)[1], atol=1e-6)


def test_a_trainable_head_is_refused() -> None:
    with pytest.raises(ValueError, match="trainable"):
        token_logprobs(torch.randn(2, 8), torch.nn.Linear(8, 50), torch.tensor([1, 2]))
