"""The settings that ppo, grpo and rloo share: one loop, cut into groups by who reads them; imports no torch."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from dressage.protocols import TrainerSettings
from dressage.records import Frozen
from dressage.trainers._launched import whole_only
from dressage.trainers._lora import LoraSettings, Tracker, demand_trackers


class FixedSettings(Frozen):
    """A coefficient that stays."""

    kind: Literal["fixed"] = "fixed"
    coefficient: float = Field(0.05, ge=0, le=100)
    """β: what a nat of KL to the reference costs, in units of the grade (which is in [0, 1])."""


class AdaptiveSettings(Frozen):
    """A coefficient that is steered so that the KL stays near a target (arXiv:1909.08593)."""

    kind: Literal["adaptive"] = "adaptive"
    coefficient: float = Field(0.05, gt=0, le=100)
    """β at the start."""
    target: float = Field(6.0, gt=0)
    """KL to the reference in nats a reply."""
    horizon: int = Field(10_000, ge=1)
    """Replies over which β may change by about a fifth of itself."""


KLSettings = Annotated[FixedSettings | AdaptiveSettings, Field(discriminator="kind")]


class AlarmSettings(Frozen):
    """When a training stops by itself, because going on would spend compute on a policy nobody wants; null: never."""

    kl_at_most: float | None = Field(50.0, gt=0)
    """KL to the reference, nats a reply, mean of an update."""
    entropy_at_least: float | None = Field(0.02, ge=0)
    """Mean entropy of the next-token distribution in nats: below it the policy says one thing only."""
    reward_saturates_at: float | None = Field(None, gt=0, le=1)
    """Mean grade of an update from which there is nothing left to learn (or the judge is fooled)."""
    sampler_gap_at_most: float | None = Field(0.1, gt=0)
    """Mean difference in nats between a token's log-probability as it was drawn and as the trainer sees it before it
    learns; between two ways of computing one model in bfloat16 it is about 0.03, in float32 nothing."""
    failures_at_most: float = Field(0.3, ge=0, le=1)
    """Share of an update's replies that the judge failed to grade."""
    watch_every: int = Field(10, ge=1)
    """Updates between two looks of the watch judge (train.watch), if there is one."""
    watch_falls_by: float | None = Field(0.1, gt=0, le=1)
    """The watch judge's preference may fall by this below its best while the grades rise."""
    patience: int = Field(2, ge=1)
    """So many updates (or looks) in a row must be alarming."""


class OnPolicySettings(TrainerSettings):
    """The base of trainers that draw from the policy as it learns."""

    learns_from = "prompts"
    shared = True

    updates: int = Field(50, ge=1, le=1_000_000)
    """Rounds of: draw, grade, learn."""
    prompts_per_update: int = Field(16, ge=1, le=65536)
    """Prompts drawn for an update; epochs over the prompts are shuffled anew."""
    per_prompt: int = Field(4, ge=1, le=256)
    """Replies drawn to each of them."""
    epochs: int = Field(1, ge=1, le=64)
    """Passes over an update's replies."""
    minibatches: int = Field(1, ge=1, le=4096)
    """Optimizer steps in one pass; each takes whole prompts with all their replies."""
    microbatch_prompts: int = Field(1, ge=1, le=4096)
    """Prompts (with all their replies) in memory at once; it changes memory and speed only."""
    average_over: Literal["tokens", "sequences"] = "tokens"
    """What weighs the same in a minibatch: every token, or every reply whatever its length."""
    learning_rate: float = Field(3e-5, ge=1e-8, le=0.1)
    """Peak rate of AdamW; LoRA bears about ten times that of full fine-tuning."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the rate goes on after the warm-up: not at all, or down to zero in a line or a half cosine."""
    warmup: float = Field(0.0, ge=0, lt=1)
    """Share of the optimizer steps in which the rate rises from zero."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Longer gradients are shortened to this norm."""
    clip: float = Field(0.2, gt=0, lt=1)
    """ε: how far the ratio of new to old probability may move a token's loss, downwards (and upwards)."""
    clip_high: float | None = Field(None, gt=0, le=10)
    """The same upwards, where it differs (arXiv:2503.14476); null: as downwards."""
    entropy: float = Field(0.0, ge=0, le=1)
    """Bonus for a nat of entropy a token."""
    truncated: Literal["keep", "penalise", "mask"] = "keep"
    """A reply that reached its token limit: graded as it is, graded less, or left out of the update."""
    truncation_penalty: float = Field(0.5, ge=0, le=10)
    """What `truncated: penalise` takes off the grade."""
    reward_scale: Literal["none", "batch"] = "none"
    """`batch`: grades are divided by their deviation in the update; their mean stays."""
    kl: KLSettings = FixedSettings()
    """What holds the policy near its reference."""
    alarms: AlarmSettings = AlarmSettings()
    """When to stop by itself."""
    save_every: int = Field(5, ge=1)
    """Updates between two checkpoints; what was drawn and graded since is kept anyway."""
    gradient_checkpointing: bool | None = None
    """Recompute activations to save memory at a third more time; null: on a GPU yes, on a CPU no."""
    lora: LoraSettings = LoraSettings()
    """The adapter that is trained."""
    report_to: tuple[Tracker, ...] = ()
    """Trackers told besides the run's own metrics, under the same names; each is an extra: dressage[wandb]."""

    def usable(self) -> None:
        """Refuses trackers that are not installed, and a launcher that asks for what is not done."""
        demand_trackers(self.report_to)
        whole_only(self.kind)

    def draws(self) -> int:
        return self.updates * self.prompts_per_update * self.per_prompt

    def rounds(self) -> int:
        return self.updates

    def prompts_at_once(self) -> int:
        """With fewer a prompt would stand twice in an update, and the update be smaller than it says."""
        return self.prompts_per_update

    def steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.updates * self.epochs * self.minibatches

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        if self.minibatches > self.prompts_per_update:
            raise ValueError(
                f"minibatches ({self.minibatches}) is more than prompts_per_update ({self.prompts_per_update}): a "
                "minibatch takes at least one prompt with its replies; lower minibatches"
            )
        replies = self.prompts_per_update * self.per_prompt
        if isinstance(self.kl, AdaptiveSettings) and replies >= 5 * self.kl.horizon:
            raise ValueError(f"kl.horizon ({self.kl.horizon}) is too short for updates of {replies} replies; raise it")
        if self.lora.dropout:
            raise ValueError(
                "lora.dropout must be 0: with dropout a reply's probability while learning is not the one it was "
                "drawn with, and the ratio of the two is what is learnt from"
            )
        return self

    @model_validator(mode="after")
    def _is_read(self) -> Self:
        penalty = type(self).model_fields["truncation_penalty"].default
        if self.truncated != "penalise" and self.truncation_penalty != penalty:
            raise ValueError(
                f"truncation_penalty is read by `truncated: penalise` only, and truncated is {self.truncated}"
            )
        can_ring(self.alarms, updates=self.updates)
        limit = self.alarms.kl_at_most
        if isinstance(self.kl, AdaptiveSettings) and limit is not None and self.kl.target >= limit:
            raise ValueError(
                f"kl.target ({self.kl.target:g}) is not below alarms.kl_at_most ({limit:g}): steered there, the "
                "training would stop itself; lower the one or raise the other"
            )
        return self


def can_ring(alarms: AlarmSettings, *, updates: int) -> None:
    """Refuses a patience that outlasts the training: no alarm could then stop it.

    Raises:
        ValueError: it was set so.
    """
    if alarms.patience > updates and alarms.patience != AlarmSettings.model_fields["patience"].default:
        raise ValueError(
            f"alarms.patience ({alarms.patience}) is more than the training has updates ({updates}), so no alarm could "
            "ring; lower it, or set the limits that shall not ring to null"
        )


class GroupSettings(OnPolicySettings):
    """The base of trainers whose baseline is the other replies to the same prompt."""

    per_prompt: int = Field(4, ge=2, le=256)
    """Replies drawn to each prompt; their mean is what each is compared with."""

    @field_validator("per_prompt", mode="before")
    @classmethod
    def _has_siblings(cls, given: object) -> object:
        if given == 1:
            raise ValueError("must be 2 at least: a reply is compared with its siblings; raise it, or take kind: ppo")
        return given
