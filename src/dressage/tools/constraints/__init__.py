"""Settings of the tool that checks whether a text keeps to constraints: lengths, counts, format, words, language."""

from typing import Literal

from pydantic import Field

from dressage.toolbox import ToolSettings


class Settings(ToolSettings):
    """Checks from a fixed list, decided by counting and matching; no code is generated or run."""

    kind: Literal["constraints"] = "constraints"
    sure: float = Field(0.9, gt=0.5, le=1)
    """The smallest probability at which a text counts as written in a language; below it, it cannot be told."""
