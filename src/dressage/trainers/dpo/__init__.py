"""Direct preference optimisation (arXiv:2305.18290) with LoRA: learns from pairs, without sampling."""

from typing import Literal, Self

from pydantic import Field, model_validator

from dressage.trainers._lora import LoraTrainerSettings


class Settings(LoraTrainerSettings):
    """Raises the likelihood of chosen against rejected replies, relative to the policy the run started from."""

    code_version = 2

    kind: Literal["dpo"] = "dpo"
    beta: float = Field(0.1, gt=0, le=100)
    """How strongly the policy is held to the reference, per nat of log-ratio; larger stays nearer."""
    loss: Literal["sigmoid", "ipo", "hinge"] = "sigmoid"
    """What a pair costs: DPO's eq. 7 (sigmoid), IPO (arXiv:2310.12036) or the hinge."""
    weight: Literal["none", "margin"] = "none"
    """A pair's weight: one, or the judge's margin over the mean margin of all pairs."""
    reference: Literal["computed", "sampled"] = "computed"
    """Reference log-probabilities: computed before training, or those the starting policy recorded as it drew."""
    batch_pairs: int = Field(8, ge=1, le=65536)
    """Pairs per optimizer step."""
    microbatch_pairs: int = Field(1, ge=1, le=4096)
    """Pairs in memory at once, a divisor of batch_pairs; it changes memory and speed, not what is learnt."""

    @model_validator(mode="after")
    def _whole_microbatches(self) -> Self:
        if self.batch_pairs % self.microbatch_pairs:
            raise ValueError(
                f"batch_pairs ({self.batch_pairs}) is not a multiple of microbatch_pairs ({self.microbatch_pairs})"
            )
        return self
