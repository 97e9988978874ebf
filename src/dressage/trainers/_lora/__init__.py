"""The settings of a LoRA adapter (arXiv:2106.09685), shared by the trainers; imports no torch."""

from typing import Annotated, Literal

from pydantic import Field

from dressage.records import Frozen


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
