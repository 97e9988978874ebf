"""A scalar reward model (arXiv:1706.03741, 2009.01325) with LoRA: learns to score replies from pairs."""

from typing import Literal, Self

from pydantic import Field, model_validator

from dressage.trainers._lora import LoraTrainerSettings


class Settings(LoraTrainerSettings):
    """An adapter and a linear head on the last token of prompt and reply; chosen replies shall score higher."""

    kind: Literal["reward"] = "reward"
    margin: float = Field(0.0, ge=0, le=100)
    """Scores shall differ by this times the judge's margin (arXiv:2307.09288 eq. 2); 0: by nothing in particular."""
    held_out: float = Field(0.1, ge=0, le=0.9)
    """Share of the prompts, drawn by their content, whose pairs only measure what was learnt."""
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
