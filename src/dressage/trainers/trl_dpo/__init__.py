"""TRL's DPOTrainer with all its losses and our guards: learns from pairs, without sampling."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dressage.trainers._lora import LoraTrainerSettings

Loss = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
]
SMOOTHED = frozenset({"robust", "exo_pair", "aot", "aot_unpaired"})
"""The losses that read label_smoothing; the others would ignore it without a word."""
SORTED = frozenset({"aot", "aot_unpaired"})
"""The losses that sort the pairs which are in memory at once."""
OF_DIFFERENCES = frozenset({"sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft"})
"""The losses that another f-divergence can stand in."""


class Settings(LoraTrainerSettings):
    """Names and meanings are TRL's; for sigmoid, ipo, hinge and robust our own `dpo` is faster and takes weights."""

    kind: Literal["trl_dpo"] = "trl_dpo"
    beta: float = Field(0.1, gt=0, le=100)
    """How strongly the policy is held to the reference; for ipo its τ."""
    loss_type: Annotated[tuple[Loss, ...], Field(min_length=1)] = ("sigmoid",)
    """One loss or several, e.g. [sigmoid, sft]; their weighted sum is learnt."""
    loss_weights: tuple[Annotated[float, Field(gt=0, le=1000)], ...] | None = None
    """A weight for each loss; null: 1 each."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """For robust (below 0.5), aot and aot_unpaired: how likely a label is wrong; for exo_pair its ε (above 0)."""
    f_divergence_type: Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"] = "reverse_kl"
    """What measures the distance to the reference (f-DPO, arXiv:2309.16240)."""
    f_alpha_divergence_coef: float = Field(0.5, gt=-10, lt=10)
    """α of alpha_divergence."""
    discopop_tau: float = Field(0.05, gt=0, le=100)
    """τ of discopop (arXiv:2406.08414)."""
    ld_alpha: float | None = Field(None, ge=0, le=1)
    """Weight of the tokens beyond the shorter reply's length (LD-DPO, arXiv:2409.06411); null: as the others."""
    use_weighting: bool = False
    """Pairs weighted by how likely the policy finds them (WPO, arXiv:2406.11827)."""
    batch_pairs: int = Field(8, ge=1, le=65536)
    """Pairs per optimizer step."""
    microbatch_pairs: int = Field(1, ge=1, le=4096)
    """Pairs in memory at once, a divisor of batch_pairs. What is learnt depends on it with aot, which sorts them, and
    with sft, whose mean is over their tokens; else it changes memory and speed only."""

    @model_validator(mode="after")
    def _whole_microbatches(self) -> Self:
        if self.batch_pairs % self.microbatch_pairs:
            raise ValueError(
                f"batch_pairs ({self.batch_pairs}) is not a multiple of microbatch_pairs ({self.microbatch_pairs})"
            )
        return self

    @model_validator(mode="after")
    def _losses_that_go_together(self) -> Self:
        chosen = set(self.loss_type)
        if len(chosen) < len(self.loss_type):
            raise ValueError("loss_type names a loss twice; say it once and raise its weight in loss_weights")
        if chosen == {"sft"}:
            raise ValueError("loss_type is sft alone, which looks at no rejected reply; use kind: sft, or add a loss")
        if self.loss_weights is not None and len(self.loss_weights) != len(self.loss_type):
            raise ValueError(f"loss_weights has {len(self.loss_weights)} numbers for {len(self.loss_type)} losses")
        if "f_alpha_divergence_coef" in self._changed() and self.f_divergence_type != "alpha_divergence":
            raise ValueError("f_alpha_divergence_coef is read by f_divergence_type: alpha_divergence only")
        if self.f_divergence_type != "reverse_kl" and (odd := sorted(chosen - OF_DIFFERENCES)):
            raise ValueError(f"f_divergence_type {self.f_divergence_type} has no meaning for {', '.join(odd)}")
        if "discopop_tau" in self._changed() and "discopop" not in chosen:
            raise ValueError("discopop_tau is read by loss_type discopop only")
        return self

    @model_validator(mode="after")
    def _numbers_that_are_read(self) -> Self:
        chosen = set(self.loss_type)
        if self.label_smoothing and not chosen & SMOOTHED:
            raise ValueError(
                f"label_smoothing is read by {', '.join(sorted(SMOOTHED))} only; {', '.join(self.loss_type)} would "
                "ignore it: take loss_type robust, or leave it out"
            )
        if "exo_pair" in chosen and not self.label_smoothing:
            raise ValueError("exo_pair needs label_smoothing above 0, e.g. 1e-3")
        if "robust" in chosen and self.label_smoothing >= 0.5:
            raise ValueError("robust needs label_smoothing below 0.5: at 0.5 the labels say nothing")
        if chosen & SORTED and self.use_weighting:
            raise ValueError(
                "use_weighting goes with no aot loss: those sort the pairs, so weights would change owners"
            )
        if chosen & SORTED and self.microbatch_pairs == 1:
            raise ValueError("aot losses sort the pairs in memory at once, and microbatch_pairs is 1: raise it")
        if self.lora.dropout:
            raise ValueError("lora.dropout must be 0: TRL switches every dropout off, this one too, without a word")
        return self

    def _changed(self) -> set[str]:
        """The settings that are not as they come."""
        return {name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default}
