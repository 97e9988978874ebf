"""Group-relative policy optimisation (arXiv:2402.03300) with LoRA: a reply is compared with its siblings."""

from typing import Literal

from dressage.trainers._on_policy import GroupSettings


class Settings(GroupSettings):
    """No critic: the advantage is how much better a reply is than the others to its prompt. The KL to the reference
    is in the loss (ratio × k3, arXiv:2512.02556: k3 alone pulls to the wrong KL)."""

    kind: Literal["grpo"] = "grpo"
    scale: Literal["deviation", "none"] = "deviation"
    """Differences from the group's mean are divided by its deviation (GRPO), or not (Dr. GRPO, arXiv:2503.20783)."""
