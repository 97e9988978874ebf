"""Log-probabilities of chosen tokens from hidden states: the output head on counted positions, in chunks.

N counted positions · D hidden width · V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor

CHUNK_LOGITS = 2**24
"""At most so many logits are alive at once: 64 MiB in fp32."""


def token_logprobs(hidden_ND: Tensor, head: Any, target_N: Tensor, *, chunk_logits: int = CHUNK_LOGITS) -> Tensor:
    """log softmax(head(hidden))[target], at temperature 1, in nats and fp32.

    The head is frozen, so the gradient with respect to `hidden` is all that is needed and is known as soon as
    the logits are: W[y] − softmax · W. It is made beside the value, and no (N, V) tensor is kept or remade.
    """
    if head.weight.requires_grad:
        raise ValueError("the output head is trainable, but its gradient is not computed; take it out of `targets`")
    rows = max(1, chunk_logits // len(head.weight))
    logprob_N: Tensor = _FrozenHead.apply(hidden_ND, head.weight, head.bias, target_N, rows)  # type: ignore[no-untyped-call]
    return logprob_N


class _FrozenHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, target_N: Tensor, rows: int
    ) -> Tensor:
        logprobs, slopes = [], []
        for hidden_CD, target_C in zip(torch.split(hidden_ND, rows), torch.split(target_N, rows), strict=True):
            logit_CV = torch.nn.functional.linear(hidden_CD, weight_VD, bias_V).float()
            total_C1 = logit_CV.logsumexp(-1, keepdim=True)
            logprobs.append((logit_CV.gather(1, target_C[:, None]) - total_C1)[:, 0])
            if ctx.needs_input_grad[0]:
                prob_CV = logit_CV.sub_(total_C1).exp_().to(weight_VD.dtype)
                slopes.append(weight_VD[target_C] - prob_CV @ weight_VD)
        if slopes:
            ctx.save_for_backward(torch.cat(slopes))
        return torch.cat(logprobs)

    @staticmethod
    def backward(ctx: Any, grad_N: Tensor) -> tuple[Tensor | None, ...]:
        (slope_ND,) = ctx.saved_tensors
        return (grad_N[:, None] * slope_ND).to(slope_ND.dtype), None, None, None, None
