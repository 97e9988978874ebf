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


def ticks(low: float, high: float, at_most: int = 5, *, least: float = 0.0) -> list[float]:
    """Round numbers within [low, high], at least so far apart."""
    step = max(step_for(low, high, at_most), least)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, last + 1)]


def is_constant(values: Sequence[float]) -> bool:
    """Whether all values are one but for rounding."""
    low, high = min(values), max(values)
    return high - low <= 1e-6 * max(abs(low), abs(high))


def domain(values: Sequence[float], *, at_most: int = 5, share: bool = False) -> tuple[float, float]:
    """Round ends around the values, not below zero where no value is; a single value gets room on both sides. Shares
    lie in [0, 1], and a single one is shown on all of it."""
    if share and is_constant(values):
        return 0.0, 1.0
    least, most = min(values), max(values)
    if -1e-4 * most <= least < 0:  # rounding around zero needs no room below it
        least = 0.0
    low, high = _around(least, most, at_most, constant=is_constant(values))
    return (max(low, 0.0) if least >= 0 else low), (min(high, 1.0) if share else high)


def _around(low: float, high: float, at_most: int, *, constant: bool) -> tuple[float, float]:
    if constant:
        room = abs(high) * 0.5 or 0.5
        low, high = high - room, high + room
    while True:
        step = step_for(low, high, at_most)
        ends = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        if step_for(*ends, at_most) <= step * (1 + 1e-9):  # else the wider range wants wider steps
            return ends
        low, high = ends
