"""What the kinds that run TRL's own trainers share: defaults of TRL that are stated, and a module left as it was found.

TRL changes the module it is given: token ids of its configs, and the rate of every dropout layer.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from dressage.tokens import end_ids

STATED: dict[str, Any] = {
    "disable_dropout": True,
    "gradient_checkpointing_kwargs": {"use_reentrant": False},
    "pad_to_multiple_of": None,
}
"""The base's dropout stays off, as it was for the reference. TRL turns checkpointing off and on again around the
reference, with these keywords; reentrant, it would reach no adapter under frozen embeddings."""

AGREES = {torch.float32: 1e-3, torch.float64: 1e-3}
"""Nats by which policy and reference may differ before the first step; they share each batch."""
AGREES_ELSEWHERE = 0.1


@contextmanager
def lent(module: Any, tokenizer: Any) -> Iterator[None]:
    """The module as TRL's trainers need it, without a word of TRL's; afterwards as it was found.

    A reply ends with any token that ends one for us (TRL asks the generation config and the tokenizer only, and not
    the chat template).
    """
    words, said = module.config.get_text_config(), module.generation_config
    before = words.pad_token_id, said.pad_token_id, said.eos_token_id
    rates = {part: part.p for part in module.modules() if isinstance(part, nn.Dropout)}
    log = logging.getLogger("trl")
    level = log.level
    log.setLevel(logging.ERROR)
    said.eos_token_id = sorted(end_ids(tokenizer, said))
    try:
        yield
    finally:
        log.setLevel(level)
        words.pad_token_id, said.pad_token_id, said.eos_token_id = before
        for part, rate in rates.items():
            part.p = rate


@contextmanager
def unrounded(model: nn.Module) -> Iterator[None]:
    """Around the making of a trainer of TRL's, which rounds the adapter of a quantised base to bfloat16: afterwards it
    holds the numbers, in the precision, that it held before."""
    before = [(parameter, parameter.data) for parameter in model.parameters() if parameter.requires_grad]
    try:
        yield
    finally:
        for parameter, data in before:
            parameter.data = data


def on_one_device(arguments: Any) -> Any:
    """The arguments for one copy of the model in this process, however many GPUs it sees: TRL refuses to copy it."""
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def at_its_reference(gap: float, *, dtype: torch.dtype) -> float:
    """The largest difference (nats) between policy and reference before the first step, if it is rounding.

    Raises:
        RuntimeError: they do not start as the same model.
    """
    most = AGREES.get(dtype, AGREES_ELSEWHERE)
    if not gap <= most:
        raise RuntimeError(
            f"before the first step the policy differs from its reference by {gap:.2g} nats (at most {most:g} is "
            "rounding): they do not start as the same model, so the loss would pull to somewhere else than where the "
            "run starts from"
        )
    return gap
