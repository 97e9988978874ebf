"""The policy as a function from a microbatch of forks to what it thinks of their replies.

K replies · N counted tokens · D hidden width · T tokens of a row.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dressage.trainers._forks import Batch, Fork, Layout, laid_out
from dressage.trainers._logprobs import token_logprobs

AGREES = {torch.float32: 1e-3, torch.float64: 1e-3, torch.float16: 0.03, torch.bfloat16: 0.1}
"""Mean absolute difference in nats per token at which two ways of computing the same thing agree."""


class Policy(nn.Module):
    """What transformers' Trainer trains. Dropout of the base stays off: the reference was computed without it."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    def train(self, mode: bool = True) -> "Policy":
        """Switches on LoRA's own dropout and checkpointing, and nothing else."""
        super().train(False)
        self.training = mode
        for name, part in self.module.named_modules():
            if "lora_dropout" in name or getattr(part, "gradient_checkpointing", False):
                part.training = mode
        return self

    def forward(self, batch: Batch) -> Tensor:
        """Log-probabilities of whole replies (K,), at temperature 1, in nats."""
        replies = int(batch.reply_N[-1]) + 1
        counted_K = torch.zeros(replies, device=self.module.device)
        return counted_K.index_add(0, batch.reply_N, self.token_logprobs(batch))

    def token_logprobs(self, batch: Batch) -> Tensor:
        """One for each counted token (N,); the output head sees these positions only."""
        return token_logprobs(self.hidden(batch), self.module.get_output_embeddings(), batch.target_N)

    def hidden(self, batch: Batch) -> Tensor:
        """What the output head reads before each counted token (N, D)."""
        hidden = self.module.base_model(**batch.inputs, use_cache=False).last_hidden_state
        found: Tensor = hidden.flatten(0, 1)[batch.where_N]
        return found


@torch.no_grad()
def layout_for(module: Any, forks: Sequence[Fork]) -> Layout:
    """`shared` where this model obeys masks and positions as given, else `apart`; tried on the shortest fork.

    Raises:
        ValueError: even plain rows differ from the module's own logits, as where something follows its output head.
    """
    module.eval()
    shortest = min(forks, key=lambda fork: len(fork.prompt) + sum(map(len, fork.replies)))
    plain_N = _by_the_module(module, shortest)
    layouts: tuple[Layout, ...] = ("shared", "apart")
    for layout in layouts:
        try:
            ours_N = Policy(module).token_logprobs(laid_out([shortest], layout=layout).on(module.device))
        except (ValueError, TypeError, RuntimeError):
            if layout == "apart":
                raise
            continue
        if float((ours_N - plain_N).abs().mean()) <= AGREES[module.dtype]:
            return layout
    raise ValueError(
        f"{type(module).__name__} does more to its logits than its output head (a soft cap, a scale), which this "
        "trainer does not compute; use a model without it"
    )


def _by_the_module(module: Any, fork: Fork) -> Tensor:
    """The counted tokens' log-probabilities from whole logits, one plain forward a reply."""
    found = []
    for reply in fork.replies:
        ids_1T = torch.tensor([fork.prompt + reply], device=module.device)
        logit_TV = module(input_ids=ids_1T, use_cache=False).logits[0, len(fork.prompt) - 1 : -1].float()
        found.append(logit_TV.log_softmax(-1).gather(1, ids_1T[0, len(fork.prompt) :, None])[:, 0])
    return torch.cat(found)
