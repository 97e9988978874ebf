"""RLOO: a reply is one action; its reward is the grade less its KL, its baseline the mean of its siblings'.

S samples · T tokens of a reply.
"""

import torch

from dressage.maths.advantages import Advantages, leave_one_out
from dressage.maths.kl import k1
from dressage.protocols import Practice
from dressage.trainers._on_policy.loop import Algorithm, OnPolicy
from dressage.trainers._on_policy.rollout import Rollout
from dressage.trainers.rloo import Settings


def open(settings: Settings, *, practice: Practice) -> OnPolicy:
    return OnPolicy(settings, practice, Algorithm(advantages=advantages))


def advantages(rollout: Rollout, beta: float) -> Advantages:
    """R = s − β Σ_t k1_t, and Â = R − mean of the others' R (arXiv:2402.14740 §2.2), the same for every token."""
    kl_S = (k1(rollout.old_logprob_ST, rollout.ref_logprob_ST) * rollout.real_ST).sum(1)
    counted_S = torch.ones(len(rollout.score_S), dtype=torch.bool)
    advantage_S = leave_one_out(rollout.score_S - beta * kl_S, rollout.group_S, counted_S)
    advantage_ST = advantage_S[:, None] * rollout.mask_ST
    return Advantages(advantage_ST, torch.zeros_like(advantage_ST))
