"""Supervised fine-tuning with LoRA: imitates the replies of examples."""

from typing import Literal, Self

from pydantic import Field, model_validator

from dressage.protocols import TrainerSettings
from dressage.trainers._lora import LoraSettings


class Settings(TrainerSettings):
    """Raises the likelihood of the replies, token by token; prompts are read and not learnt."""

    learns_from = "examples"

    kind: Literal["sft"] = "sft"
    learning_rate: float = Field(2e-4, gt=0, le=1)
    """Peak rate of AdamW; LoRA bears about ten times that of full fine-tuning."""
    epochs: int = Field(1, ge=1, le=100)
    """Passes over the examples."""
    batch_examples: int = Field(8, ge=1, le=65536)
    """Examples per optimizer step; each of their reply tokens weighs the same."""
    microbatch_examples: int = Field(1, ge=1, le=4096)
    """Examples in memory at once, a divisor of batch_examples; it changes memory and speed only."""
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
    report_to: tuple[Literal["trackio", "wandb", "tensorboard", "mlflow"], ...] = ()
    """Trackers told besides the run's own metrics, through transformers."""

    @model_validator(mode="after")
    def _whole_microbatches(self) -> Self:
        if self.batch_examples % self.microbatch_examples:
            raise ValueError(
                f"batch_examples ({self.batch_examples}) is not a multiple of "
                f"microbatch_examples ({self.microbatch_examples})"
            )
        return self
