"""Log-probabilities of the pairs under the policy that training starts from; written once as reference.safetensors.

P pairs of the data.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dressage.protocols import Backbone, Pair, Progress
from dressage.records import Candidate, content_hash
from dressage.trainers._forks import Layout
from dressage.trainers._lora.adapter import frozen
from dressage.trainers._pairs import PairTokens
from dressage.trainers._plan import Plan
from dressage.trainers._policy import Policy
from dressage.trainers.dpo.batches import collate

NAME = "reference.safetensors"


def computed(
    pairs: Sequence[PairTokens], plan: Plan, *, backbone: Backbone, layout: Layout, progress: Progress
) -> Tensor:
    """Sums over each reply (P, 2), one forward pass over the data.

    In the microbatches of the first epoch: floating point depends on what shares a batch, so the first steps of
    training can be held to exactly these numbers.
    """
    logprob_P2 = torch.zeros(len(pairs), 2)
    with frozen(backbone.module, backbone.adapter) as module, torch.no_grad():
        policy = Policy(module).eval()
        with progress.task("reference", len(pairs)) as advance:
            for indices in plan.of(0):
                batch = collate(pairs, indices, layout=layout).on(module.device)
                logprob_P2[indices] = policy(batch).view(-1, 2).float().cpu()
                advance(len(indices))
    return logprob_P2


def sampled(pairs: Sequence[Pair], *, start: str) -> Tensor:
    """Sums over each reply (P, 2) of what the starting policy recorded when it drew them, at temperature 1.

    Raises:
        ValueError: a reply was drawn by another model, or its log-probabilities were not recorded.
    """
    return torch.tensor([[_recorded(reply, start) for reply in (p.chosen, p.rejected)] for p in pairs])


def _recorded(reply: Candidate, start: str) -> float:
    if reply.model != start:
        raise ValueError(
            f"candidate {reply.id} was drawn by {reply.model}, not by the policy that training starts from ({start}), "
            "so its log-probabilities are not the reference's; set `reference: computed`"
        )
    if reply.logprobs_at_1 is None or len(reply.logprobs_at_1) != len(reply.token_ids) or not reply.token_ids:
        raise ValueError(
            f"candidate {reply.id} has no log-probability at temperature 1 for each of its {len(reply.token_ids)} "
            "tokens; set `reference: computed`"
        )
    return sum(reply.logprobs_at_1)


def kept(path: Path, key: str) -> Tensor | None:
    """What an earlier attempt at the same training wrote, or null; what is damaged is computed again."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            named = file.metadata()["key"]
            logprob_P2 = torch.stack([file.get_tensor("chosen"), file.get_tensor("rejected")], dim=1)
    except SafetensorError:
        return None
    return logprob_P2 if named == _sealed(key, logprob_P2) else None


def keep(path: Path, key: str, logprob_P2: Tensor) -> None:
    """Writes the artifact, whole or not at all."""
    chosen_P, rejected_P = (column.contiguous() for column in logprob_P2.unbind(1))
    unfinished = path.with_suffix(".tmp")
    named = {"key": _sealed(key, logprob_P2)}  # one entry only: safetensors writes several in any order
    save_file({"chosen": chosen_P, "rejected": rejected_P}, unfinished, metadata=named)
    unfinished.replace(path)


def _sealed(key: str, logprob_P2: Tensor) -> str:
    """The key with the numbers themselves, so that a flipped bit is another name."""
    return content_hash([key, hashlib.sha256(logprob_P2.contiguous().numpy().tobytes()).hexdigest()])


def key_of(pairs: Sequence[PairTokens], *content: Any) -> str:
    """Names the reference by all that its numbers depend on."""
    return content_hash([[p.prompt, p.chosen, p.rejected] for p in pairs] + list(content))
