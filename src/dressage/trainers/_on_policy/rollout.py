"""What an update learns from: the graded replies of an update as tensors.

G prompts (forks) · S samples (graded replies, prompt by prompt) · T tokens of a reply, padded on the right ·
N tokens of some samples, laid end to end.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dressage.maths.advantages import rescaled
from dressage.protocols import Graded
from dressage.records import Candidate, Grade, Prompt
from dressage.tokens import prompt_ids
from dressage.trainers._forks import Fork
from dressage.trainers._on_policy import OnPolicySettings


class Rollout(NamedTuple):
    """Graded replies. `value_ST` is there where a critic is."""

    forks: tuple[Fork, ...]
    group_S: Tensor
    """Which fork a sample belongs to; samples stand fork by fork."""
    score_S: Tensor
    """The grade as it rewards: less a penalty, rescaled."""
    real_ST: Tensor
    """True where a token was drawn."""
    mask_ST: Tensor
    """True where a drawn token counts in the update."""
    old_logprob_ST: Tensor
    """Under the policy that drew it, at the sampling temperature, as the sampler recorded it."""
    ref_logprob_ST: Tensor
    value_ST: Tensor | None

    def samples(self, forks: Sequence[int]) -> list[int]:
        """The samples of these forks, in their order."""
        first = [0]
        for fork in self.forks:
            first.append(first[-1] + len(fork.replies))
        return [s for g in forks for s in range(first[g], first[g + 1])]

    def flat(self, x_ST: Tensor, samples: Sequence[int]) -> Tensor:
        """The drawn tokens of these samples laid end to end (N,), as a laid-out batch has them."""
        rows = list(samples)
        return x_ST[rows][self.real_ST[rows]]


def rollout_of(
    rows: Sequence[tuple[Candidate, Graded]],
    prompts: Mapping[str, Prompt],
    settings: OnPolicySettings,
    *,
    tokenizer: Any,
) -> Rollout | None:
    """The graded replies as tensors, the reference's numbers still zero; null where nothing was graded.

    A reply whose judgement failed is left out: it has no reward, and 0 would be one.

    Raises:
        ValueError: a reply has no log-probabilities of its own.
    """
    graded = [(c, g) for c, g in rows if isinstance(g, Grade)]
    if not graded:
        return None
    by_prompt: dict[str, list[tuple[Candidate, Grade]]] = {}
    for candidate, grade in graded:
        by_prompt.setdefault(candidate.prompt_id, []).append((candidate, grade))
    replies = [one for group in by_prompt.values() for one in group]
    real_ST = _ragged([[True] * len(c.token_ids) for c, _ in replies], dtype=torch.bool)
    counts_S = torch.tensor([settings.truncated != "mask" or c.finish != "length" for c, _ in replies])
    return Rollout(
        forks=tuple(
            Fork(tuple(prompt_ids(tokenizer, prompts[p].messages)), tuple(c.token_ids for c, _ in group))
            for p, group in by_prompt.items()
        ),
        group_S=torch.tensor([n for n, group in enumerate(by_prompt.values()) for _ in group]),
        score_S=_rewards(replies, settings),
        real_ST=real_ST,
        mask_ST=real_ST & counts_S[:, None],
        old_logprob_ST=_ragged([_recorded(c) for c, _ in replies], dtype=torch.float32),
        ref_logprob_ST=torch.zeros(real_ST.shape),
        value_ST=None,
    )


def _rewards(replies: Sequence[tuple[Candidate, Grade]], settings: OnPolicySettings) -> Tensor:
    penalty = settings.truncation_penalty if settings.truncated == "penalise" else 0.0
    score_S = torch.tensor([g.score - penalty * (c.finish == "length") for c, g in replies])
    if settings.reward_scale == "batch":
        score_S = rescaled(score_S[:, None], torch.ones(len(replies), 1, dtype=torch.bool))[:, 0]
    return score_S


def _recorded(candidate: Candidate) -> Sequence[float]:
    if candidate.logprobs is None or len(candidate.logprobs) != len(candidate.token_ids):
        raise ValueError(
            f"candidate {candidate.id} has no log-probability for each of its {len(candidate.token_ids)} tokens, and "
            "an on-policy trainer learns from their ratio; the policy must be drawn from by a model that gives them "
            "(kind: local)"
        )
    return candidate.logprobs


def _ragged(rows: Sequence[Sequence[Any]], *, dtype: torch.dtype) -> Tensor:
    """Rows of different lengths as one tensor, padded with zeros on the right."""
    padded = torch.zeros(len(rows), max(len(row) for row in rows), dtype=dtype)
    for padded_T, row in zip(padded, rows, strict=True):
        padded_T[: len(row)] = torch.tensor(row, dtype=dtype)
    return padded
