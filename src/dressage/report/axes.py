"""Axes of a chart: scales from numbers to pixels, and round ticks."""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Scale(NamedTuple):
    """Maps [low, high] to the pixels [start, end]."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def step_for(low: float, high: float, at_most: int) -> float:
    """The smallest of 1, 2, 5 × 10^k that cuts [low, high] into at most `at_most` pieces."""
    rough = (high - low) / at_most
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))


def ticks(low: float, high: float, at_most: int = 5) -> list[float]:
    """Round numbers within [low, high]."""
    step = step_for(low, high, at_most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, last + 1)]


def domain(values: Sequence[float], *, at_most: int = 5) -> tuple[float, float]:
    """Round ends around the values; a single value gets room on both sides."""
    low, high = min(values), max(values)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        room = abs(high) * 0.5 or 0.5
        low, high = low - room, high + room
    while True:
        step = step_for(low, high, at_most)
        ends = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        if step_for(*ends, at_most) <= step * (1 + 1e-9):  # else the wider range wants wider steps
            return ends
        low, high = ends
