"""Log-probabilities of chosen tokens from hidden states: the output head on counted positions, in chunks.

N counted positions · C of a chunk · D hidden width · V vocabulary.
"""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

CHUNK_LOGITS = 2**24
"""At most so many logits are alive at once: 64 MiB in fp32."""


Entropy = Literal["none", "seen", "learnt"]
"""Not computed; computed; computed with its gradient, which costs one more product with the head."""


class Told(NamedTuple):
    """What the policy says of the tokens it was given, in nats."""

    logprob_N: Tensor
    entropy_N: Tensor
    """Of the whole next-token distribution."""


class _How(NamedTuple):
    temperature: float
    chunk_logits: int
    entropy: Entropy


def token_logprobs(
    hidden_ND: Tensor, head: Any, target_N: Tensor, *, temperature: float = 1.0, chunk_logits: int = CHUNK_LOGITS
) -> Tensor:
    """log softmax(head(hidden) / temperature)[target], in nats and fp32.

    The head is frozen, so the gradient with respect to `hidden` is all that is needed and is known as soon as
    the logits are: (W[y] − softmax · W) / temperature. It is made beside the value, and no (N, V) tensor is kept
    or remade.
    """
    return _through(hidden_ND, head, target_N, _How(temperature, chunk_logits, "none"))[0]


def told_tokens(
    hidden_ND: Tensor,
    head: Any,
    target_N: Tensor,
    *,
    temperature: float = 1.0,
    entropy: Literal["seen", "learnt"] = "seen",
    chunk_logits: int = CHUNK_LOGITS,
) -> Told:
    """As `token_logprobs`, with the entropy H of each distribution; its gradient in the logits is −p (log p + H)."""
    return Told(*_through(hidden_ND, head, target_N, _How(temperature, chunk_logits, entropy)))


def _through(hidden_ND: Tensor, head: Any, target_N: Tensor, how: _How) -> tuple[Tensor, Tensor]:
    if head.weight.requires_grad:
        raise ValueError("the output head is trainable, but its gradient is not computed; take it out of `targets`")
    found: tuple[Tensor, Tensor] = _FrozenHead.apply(hidden_ND, head.weight, head.bias, target_N, how)  # type: ignore[no-untyped-call]
    return found


class _FrozenHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, target_N: Tensor, how: _How
    ) -> tuple[Tensor, Tensor]:
        temperature, entropy = how.temperature, how.entropy
        rows = max(1, how.chunk_logits // len(weight_VD))
        logprobs, entropies, slopes, bends = [], [], [], []
        for hidden_CD, target_C in zip(torch.split(hidden_ND, rows), torch.split(target_N, rows), strict=True):
            logprob_CV = torch.nn.functional.linear(hidden_CD, weight_VD, bias_V).float()
            if temperature != 1:
                logprob_CV /= temperature
            logprob_CV -= logprob_CV.logsumexp(-1, keepdim=True)
            logprobs.append(logprob_CV.gather(1, target_C[:, None])[:, 0])
            if entropy == "none" and not ctx.needs_input_grad[0]:
                continue
            # Without the entropy the logits are not needed again, and their room is used for the probabilities.
            prob_CV = logprob_CV.exp_() if entropy == "none" else logprob_CV.exp()
            if entropy != "none":
                entropies.append(-(prob_CV * logprob_CV).sum(-1))
            if ctx.needs_input_grad[0]:
                pull_CD = prob_CV.to(weight_VD.dtype) @ weight_VD
                slopes.append((weight_VD[target_C] - pull_CD) / temperature)
            if ctx.needs_input_grad[0] and entropy == "learnt":
                turn_CV = prob_CV.mul_(logprob_CV.add_(entropies[-1][:, None])).to(weight_VD.dtype)
                bends.append(-(turn_CV @ weight_VD) / temperature)
        if slopes:
            ctx.save_for_backward(torch.cat(slopes), torch.cat(bends) if bends else None)
        entropy_N = torch.cat(entropies) if entropies else torch.empty(0)
        if entropy != "learnt":
            ctx.mark_non_differentiable(entropy_N)
        return torch.cat(logprobs), entropy_N

    @staticmethod
    def backward(ctx: Any, grad_N: Tensor, grad_entropy_N: Tensor | None) -> tuple[Tensor | None, ...]:
        slope_ND, bend_ND = ctx.saved_tensors
        gradient_ND = grad_N[:, None] * slope_ND
        if bend_ND is not None and grad_entropy_N is not None:
            gradient_ND = gradient_ND + grad_entropy_N[:, None] * bend_ND
        return gradient_ND.to(slope_ND.dtype), None, None, None, None
