"""Where a stage's time goes: seconds by activity, kept outside everything that is hashed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_counting: ContextVar[dict[str, float] | None] = ContextVar("counting", default=None)


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


@contextmanager
def spending(on: str) -> Iterator[None]:
    """Counts the time within it to an activity: loading, sampling, judging, scoring, training."""
    spent = _counting.get()
    began = time.monotonic()
    try:
        yield
    finally:
        if spent is not None:
            spent[on] = spent.get(on, 0.0) + time.monotonic() - began
