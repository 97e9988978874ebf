"""Proximal policy optimisation (arXiv:1707.06347, arXiv:1909.08593) with LoRA: a critic says what to expect."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dressage.records import Frozen
from dressage.trainers._lora import LoraSettings
from dressage.trainers._on_policy import OnPolicySettings


class _CriticSettings(Frozen):
    """What both critics have."""

    learning_rate: float = Field(1e-3, gt=0, le=1)
    """Rate of the critic's own AdamW; a head alone bears much more than an adapter: its features have length 1."""
    warmup_updates: int = Field(2, ge=0)
    """Updates in which only the critic learns: an advantage over a critic that knows nothing is noise."""
    clip: float = Field(0.2, gt=0)
    """How far a value may move from the one before the update, in units of the return."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Longer gradients are shortened to this norm."""


class HeadSettings(_CriticSettings):
    """A linear head on the policy's own hidden states, which it does not change: cheap."""

    kind: Literal["head"] = "head"


class AdapterSettings(_CriticSettings):
    """An adapter of its own with a linear head: sees what the policy does not, at one more pass each time."""

    kind: Literal["adapter"] = "adapter"
    learning_rate: float = Field(1e-4, gt=0, le=1)
    """Rate of the critic's own AdamW."""
    lora: LoraSettings = LoraSettings()
    """The critic's adapter."""


class Settings(OnPolicySettings):
    """The KL to the reference is taken off the reward token by token; a critic's values make advantages (GAE)."""

    code_version = 2

    kind: Literal["ppo"] = "ppo"
    per_prompt: int = Field(1, ge=1, le=256)
    """Replies drawn to each prompt."""
    epochs: int = Field(2, ge=1, le=64)
    """Passes over an update's replies."""
    gamma: float = Field(1.0, gt=0, le=1)
    """What a later token's reward is worth."""
    lam: float = Field(0.95, ge=0, le=1)
    """λ of GAE (arXiv:1506.02438): 1 trusts the return, 0 the critic."""
    critic: Annotated[HeadSettings | AdapterSettings, Field(discriminator="kind")] = HeadSettings()
    """Who says what to expect."""

    @model_validator(mode="after")
    def _policy_learns_too(self) -> Self:
        warmup = self.critic.warmup_updates
        if warmup >= self.updates:
            raise ValueError(
                f"critic.warmup_updates ({warmup}) leaves none of {self.updates} updates in which the policy learns; "
                "lower it or raise updates"
            )
        if isinstance(self.critic, AdapterSettings) and self.critic.lora.dropout:
            raise ValueError("critic.lora.dropout must be 0: what the critic expects would change with the noise")
        return self
