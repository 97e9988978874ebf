"""Settings of the tool that lays two answers side by side."""

from typing import Literal

from pydantic import Field

from dressage.toolbox import ToolSettings


class Settings(ToolSettings):
    """What differs between two texts: lengths, numbers, names, statements, words. It does not say which is right."""

    kind: Literal["compare"] = "compare"
    alike: float = Field(0.4, gt=0, le=1)
    """Two sentences say something about the same when they share this part of all their content words."""
    items: int = Field(12, ge=1, le=200)
    """Numbers, names, statements and changes of each sort that are told; the others are counted."""
