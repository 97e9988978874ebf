"""The settings of a LoRA adapter (arXiv:2106.09685), shared by the trainers; imports no torch."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator

from dressage.extras import demand
from dressage.protocols import TrainerSettings
from dressage.records import Frozen
from dressage.trainers._launched import whole_only

HEADS = frozenset({"lm_head", "embed_out", "output_layer"})
"""What models call their output head; under another name it is refused when the model is there."""
Tracker = Literal["trackio", "wandb", "tensorboard", "mlflow"]
"""Who can be told of a training besides the run's own metrics; each is a package of that name, and an extra."""


def demand_trackers(names: Sequence[Tracker]) -> None:
    """Passes where all are installed.

    Raises:
        ValueError: naming one that is not, and the extra that brings it.
    """
    for name in names:
        demand(name, asked_by=f"report_to: [{name}]")


class LoraSettings(Frozen):
    """What is trained: W + (alpha / r) · B A on the targets, everything else is frozen."""

    r: int = Field(16, ge=1, le=1024)
    """Rank of the update."""
    alpha: float = Field(32, gt=0, le=4096)
    """The update is scaled by alpha / r."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before A, while training only."""
    targets: Literal["all-linear"] | Annotated[tuple[str, ...], Field(min_length=1)] = "all-linear"
    """Ends of module names, e.g. [q_proj, v_proj]; all-linear: every linear layer but the output head."""
    merge: bool = True
    """On a CPU in fp32, compute with W + (alpha / r) · B A, made once a step: faster, for a copy of the weights."""

    @field_validator("targets")
    @classmethod
    def _no_head(cls, targets: str | tuple[str, ...]) -> str | tuple[str, ...]:
        ends = () if isinstance(targets, str) else targets
        if heads := [t for t in ends if t.rpartition(".")[2] in HEADS]:
            raise ValueError(
                f"names {heads[0]}, the output head: log-probabilities are taken from its own weights, so an adapter "
                "on it would never be trained; leave it out"
            )
        return targets


class LoraTrainerSettings(TrainerSettings):
    """The base of trainers that run a LoRA adapter through transformers' Trainer."""

    learning_rate: float = Field(2e-4, ge=1e-8, le=0.1)
    """Peak rate of AdamW; LoRA bears about ten times that of full fine-tuning."""
    epochs: int = Field(1, ge=1, le=100)
    """Passes over the data."""
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = "linear"
    """How the rate goes on after the warm-up: down to zero in a line or a half cosine, or not at all."""
    warmup: float = Field(0.1, ge=0, le=1)
    """Share of the steps in which the rate rises from zero, rounded down to whole steps."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Longer gradients are shortened to this norm."""
    max_length: int | None = Field(None, ge=8)
    """Longest prompt plus reply in tokens; null: the model's context. A longer row is refused, never cut."""
    gradient_checkpointing: bool | None = None
    """Recompute activations to save memory at a third more time; null: on a GPU yes, on a CPU no."""
    lora: LoraSettings = LoraSettings()
    """The adapter that is trained."""
    save_every: int = Field(50, ge=1, le=1_000_000)
    """Optimizer steps between checkpoints: what a crash can cost; it changes nothing that is learnt."""
    report_to: tuple[Tracker, ...] = ()
    """Trackers told besides the run's own metrics, under the same names; each is an extra: dressage[wandb]."""

    def usable(self) -> None:
        """Refuses trackers that are not installed, and a launcher that asks for what is not done."""
        demand_trackers(self.report_to)
        whole_only(self.kind)
