"""REINFORCE leave-one-out (arXiv:2402.14740) with LoRA: the baseline of a reply is the mean of its siblings."""

from typing import Literal

from dressage.trainers._on_policy import GroupSettings


class Settings(GroupSettings):
    """No critic: the whole reply is one action, its reward the grade less the KL to the reference."""

    kind: Literal["rloo"] = "rloo"
