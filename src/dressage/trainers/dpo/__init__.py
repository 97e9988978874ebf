"""Direct preference optimisation (arXiv:2305.18290) with LoRA: learns from pairs, without sampling."""

from typing import Literal, Self

from pydantic import Field, model_validator

from dressage.protocols import TrainerSettings
from dressage.trainers._lora import LoraSettings


class Settings(TrainerSettings):
    """Raises the likelihood of chosen against rejected replies, relative to the policy the run started from."""

    kind: Literal["dpo"] = "dpo"
    beta: float = Field(0.1, gt=0, le=100)
    """How strongly the policy is held to the reference, per nat of log-ratio; larger stays nearer."""
    loss: Literal["sigmoid", "ipo", "hinge"] = "sigmoid"
    """What a pair costs: DPO's eq. 7 (sigmoid), IPO (arXiv:2310.12036) or the hinge."""
    weight: Literal["none", "margin"] = "none"
    """A pair's weight: one, or the judge's margin over the mean margin of all pairs."""
    reference: Literal["computed", "sampled"] = "computed"
    """Reference log-probabilities: computed before training, or those the starting policy recorded as it drew."""
    learning_rate: float = Field(2e-4, gt=0, le=1)
    """Peak rate of AdamW; LoRA bears about ten times that of full fine-tuning."""
    epochs: int = Field(1, ge=1, le=100)
    """Passes over the pairs."""
    batch_pairs: int = Field(8, ge=1, le=65536)
    """Pairs per optimizer step."""
    microbatch_pairs: int = Field(1, ge=1, le=4096)
    """Pairs in memory at once, a divisor of batch_pairs; it changes memory and speed, not what is learnt."""
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
        if self.batch_pairs % self.microbatch_pairs:
            raise ValueError(
                f"batch_pairs ({self.batch_pairs}) is not a multiple of microbatch_pairs ({self.microbatch_pairs})"
            )
        return self
