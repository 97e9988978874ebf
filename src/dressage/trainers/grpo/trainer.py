"""GRPO: a reply's advantage is how far its grade is from the mean of its siblings'; the KL is in the loss.

S samples · T tokens of a reply.
"""

from functools import partial

import torch

from dressage.maths.advantages import Advantages, group_centred, group_standardised
from dressage.maths.policy_losses import kl_penalty
from dressage.protocols import Practice
from dressage.trainers._on_policy.loop import Algorithm, OnPolicy
from dressage.trainers._on_policy.rollout import Rollout
from dressage.trainers.grpo import Settings

SCALES = {"deviation": group_standardised, "none": group_centred}


def open(settings: Settings, *, practice: Practice) -> OnPolicy:
    return OnPolicy(
        settings,
        practice,
        Algorithm(advantages=partial(advantages, scale=settings.scale), penalty=kl_penalty),
    )


def advantages(rollout: Rollout, beta: float, *, scale: str) -> Advantages:
    """The same for every token of a reply (arXiv:2402.03300 §4.1.2); β is not in it but in the loss."""
    counted_S = torch.ones(len(rollout.score_S), dtype=torch.bool)
    advantage_S = SCALES[scale](rollout.score_S, rollout.group_S, counted_S)
    advantage_ST = advantage_S[:, None] * rollout.mask_ST
    return Advantages(advantage_ST, torch.zeros_like(advantage_ST))
