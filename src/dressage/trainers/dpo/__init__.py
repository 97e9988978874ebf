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
    loss: Literal["sigmoid", "ipo", "hinge", "robust", "length_normalised"] = "sigmoid"
    """What a pair costs: DPO's eq. 7 (sigmoid), IPO (arXiv:2310.12036), the hinge, DPO for labels of which a share
    is wrong (robust, arXiv:2403.00409), or on log-ratios a token (length_normalised, arXiv:2411.15124)."""
    label_noise: float = Field(0.0, ge=0, lt=0.5)
    """For `loss: robust`: the share of pairs whose label is the wrong way round."""
    sft: float = Field(0.0, ge=0, le=100)
    """How much the chosen reply's negative log-likelihood a token weighs beside the loss (RPO, arXiv:2404.19733)."""
    margin: float = Field(0.0, ge=0, le=100)
    """Implicit rewards shall differ by this times the judge's margin (arXiv:2402.10571); for sigmoid and hinge."""
    weight: Literal["none", "margin"] = "none"
    """A pair's weight: one, or the judge's margin over the mean margin of all pairs."""
    reference: Literal["computed", "sampled"] = "computed"
    """Reference log-probabilities: computed before training, or those the starting policy recorded as it drew."""
    batch_pairs: int = Field(8, ge=1, le=65536)
    """Pairs per optimizer step."""
    microbatch_pairs: int = Field(1, ge=1, le=4096)
    """Pairs in memory at once, a divisor of batch_pairs; it changes memory and speed, not what is learnt."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.batch_pairs % self.microbatch_pairs:
            raise ValueError(
                f"batch_pairs ({self.batch_pairs}) is not a multiple of microbatch_pairs ({self.microbatch_pairs})"
            )
        if self.label_noise and self.loss != "robust":
            raise ValueError(f"label_noise is read by `loss: robust` only, and the loss is {self.loss}")
        if self.margin and self.loss not in ("sigmoid", "hinge"):
            raise ValueError(f"margin is for the losses sigmoid and hinge, and the loss is {self.loss}")
        return self
