"""Supervised fine-tuning with LoRA: imitates the replies of examples."""

from typing import Literal, Self

from pydantic import Field, model_validator

from dressage.trainers._lora import LoraTrainerSettings


class Settings(LoraTrainerSettings):
    """Raises the likelihood of the replies, token by token; prompts are read and not learnt."""

    learns_from = "examples"
    code_version = 3

    kind: Literal["sft"] = "sft"
    batch_examples: int = Field(8, ge=1, le=65536)
    """Examples per optimizer step; each of their reply tokens weighs the same."""
    microbatch_examples: int = Field(1, ge=1, le=4096)
    """Examples in memory at once, a divisor of batch_examples; it changes memory and speed only."""

    @model_validator(mode="after")
    def _whole_microbatches(self) -> Self:
        if self.batch_examples % self.microbatch_examples:
            raise ValueError(
                f"batch_examples ({self.batch_examples}) is not a multiple of "
                f"microbatch_examples ({self.microbatch_examples})"
            )
        return self
