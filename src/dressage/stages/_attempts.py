"""What all attempts at a stage have taken and which machine they ran on, kept beside everything that is hashed."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import JsonValue

from dressage.store import commit_json

EVERY_SECONDS = 5.0
"""So often it is written down at most; a kill loses no more than that."""

Facts = Mapping[str, JsonValue]


class Attempts:
    """Adds this attempt at a stage to those before it; a stage that is killed and goes on loses neither."""

    def __init__(self, place: Path, *, spent: Mapping[str, float], machine: Callable[[], Facts]) -> None:
        self._path = place / "attempts.json"
        self._spent, self._machine = spent, machine
        self._before = _read(self._path)
        self._began = time.monotonic()
        self._kept: float | None = None

    def note(self) -> None:
        """Called as work is done; writes now and then."""
        if self._kept is None or time.monotonic() - self._kept >= EVERY_SECONDS:
            self.keep()

    def keep(self) -> None:
        """Writes down what there is so far."""
        remember(self._path.parent, times=self.times(), machine=self.machine())
        self._kept = time.monotonic()

    def times(self) -> dict[str, float]:
        """Seconds by activity over all attempts; `seconds` is the whole."""
        now = {**self._spent, "seconds": time.monotonic() - self._began}
        before = self._before["times"]
        return {name: round(before.get(name, 0.0) + now.get(name, 0.0), 3) for name in {**before, **now}}

    def machine(self) -> dict[str, JsonValue]:
        """What the models said of themselves; the last attempt that opened one counts."""
        return {**self._before["machine"], **self._machine()}

    def forget(self) -> None:
        """The manifest has it all now."""
        self._path.unlink(missing_ok=True)


def remember(place: Path, *, times: Mapping[str, float], machine: Facts) -> None:
    """Leaves what was taken so far for the next attempt at the stage."""
    commit_json(place / "attempts.json", {"times": dict(times), "machine": dict(machine)})


def _read(path: Path) -> dict[str, dict[str, float]]:
    try:
        found = json.loads(path.read_text("utf-8"))
        return {"times": dict(found["times"]), "machine": dict(found["machine"])}
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # these numbers are for people: nothing hangs on them
        return {"times": {}, "machine": {}}
