"""Where the time of a command and of its stages goes: seconds by activity, kept outside everything that is hashed."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_counting: ContextVar[dict[str, float] | None] = ContextVar("counting", default=None)
_around: ContextVar[list[float] | None] = ContextVar("around", default=None)
"""The seconds of whatever `spending` lies within the current one."""


@contextmanager
def counting() -> Iterator[dict[str, float]]:
    """Collects what `spending` measures within it; `seconds` is the whole."""
    spent: dict[str, float] = {}
    token = _counting.set(spent)
    began = time.monotonic()
    try:
        yield spent
    finally:
        spent["seconds"] = time.monotonic() - began
        _counting.reset(token)
        _lap.update({"stages" if name == "seconds" else name: seconds for name, seconds in spent.items()})


@contextmanager
def spending(on: str) -> Iterator[None]:
    """Counts the time within it to an activity (loading, sampling, judging, scoring, training), less what another
    `spending` within it counts: a trainer that draws is sampling then."""
    spent, around, within = _counting.get(), _around.get(), [0.0]
    token = _around.set(within)
    began = time.monotonic()
    try:
        yield
    finally:
        took = time.monotonic() - began
        _around.reset(token)
        if around is not None:
            around[0] += took
        if spent is not None:
            spent[on] = spent.get(on, 0.0) + took - within[0]


# ---------------------------------------------------------------- a whole command


def _process_began() -> float:
    """When this process was started, on the monotonic clock; where the system does not tell, this import."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError):
        age = 0.0
    return time.monotonic() - max(age, 0.0)


_lap: Counter[str] = Counter()
_lap_began = _process_began()


def lap() -> dict[str, float]:
    """The wall time since the process was started, or since the last lap, and what was counted in it: `seconds` is
    all of it (start-up, imports, hashing and report included), `stages` what the stages took, the rest activities."""
    global _lap_began
    now = time.monotonic()
    found = {"seconds": now - _lap_began, **_lap}
    _lap_began = now
    _lap.clear()
    return found
