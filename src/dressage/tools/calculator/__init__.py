"""Settings of the calculator: exact arithmetic, percent, comparisons, dates."""

from typing import Literal

from dressage.toolbox import ToolSettings


class Settings(ToolSettings):
    """Works out one expression exactly, as long as its numbers stay below 13,000 bits; runs no code."""

    kind: Literal["calculator"] = "calculator"
