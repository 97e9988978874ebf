"""The policy as a function from a microbatch to the log-probabilities of its replies.

B pairs · N counted tokens · D hidden width · T tokens of a row.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dressage.trainers._logprobs import token_logprobs
from dressage.trainers.dpo.batches import Batch, Layout, PairTokens, collate

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
        """Sums over each reply, (B, 2): chosen, rejected; nats, temperature 1."""
        counted = torch.zeros(2 * len(batch.index_B), device=self.module.device)
        return counted.index_add(0, batch.reply_N, self.token_logprobs(batch)).view(-1, 2)

    def token_logprobs(self, batch: Batch) -> Tensor:
        """One for each counted token (N,); the output head sees these positions only."""
        hidden = self.module.base_model(**batch.inputs, use_cache=False).last_hidden_state
        hidden_ND = hidden.flatten(0, 1)[batch.where_N]
        return token_logprobs(hidden_ND, self.module.get_output_embeddings(), batch.target_N)


def on(device: torch.device, batch: Batch) -> Batch:
    """The same microbatch on the model's device."""
    moved = {name: tensor.to(device) for name, tensor in batch.inputs.items()}
    return Batch(moved, *(tensor.to(device) for tensor in batch[1:]))


@torch.no_grad()
def layout_for(module: Any, pairs: Sequence[PairTokens]) -> Layout:
    """`shared` where this model obeys masks and positions as given, else `apart`; tried on the shortest pair.

    Raises:
        ValueError: even plain rows differ from the module's own logits, as where something follows its output head.
    """
    module.eval()
    shortest = min(range(len(pairs)), key=lambda i: len(pairs[i].prompt + pairs[i].chosen + pairs[i].rejected))
    plain_N = _by_the_module(module, pairs[shortest])
    layouts: tuple[Layout, ...] = ("shared", "apart")
    for layout in layouts:
        batch = on(module.device, collate(pairs, [shortest], layout=layout))
        try:
            ours_N = Policy(module).token_logprobs(batch)
        except (ValueError, TypeError, RuntimeError):
            if layout == "apart":
                raise
            continue
        if float((ours_N - plain_N).abs().mean()) <= AGREES[module.dtype]:
            return layout
    raise ValueError(
        f"{type(module).__name__} does more to its logits than its output head (a soft cap, a scale), which dpo "
        "does not compute; use a model without it"
    )


def _by_the_module(module: Any, pair: PairTokens) -> Tensor:
    """The counted tokens' log-probabilities from whole logits, one plain forward a reply."""
    found = []
    for reply in (pair.chosen, pair.rejected):
        ids_1T = torch.tensor([pair.prompt + reply], device=module.device)
        logit_TV = module(input_ids=ids_1T, use_cache=False).logits[0, len(pair.prompt) - 1 : -1].float()
        found.append(logit_TV.log_softmax(-1).gather(1, ids_1T[0, len(pair.prompt) :, None])[:, 0])
    return torch.cat(found)
