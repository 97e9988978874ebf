"""Trackers that see a training beside the run's own metrics: trackio, wandb, tensorboard, mlflow, through accelerate.

They are told what metrics.jsonl is told, under the same names and steps; what they say to a server, and where, is
theirs to decide (WANDB_MODE, MLFLOW_TRACKING_URI …). A training that goes on after a crash is a new run there, of the
same name; the steps since its last checkpoint are told again.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from accelerate import PartialState, tracking

from dressage.protocols import Workplace
from dressage.trainers._lora import Tracker, demand_trackers

PROJECT = "dressage"
"""What all runs are filed under: the project, or the experiment, of a tracker that has such."""


class Tracked(Protocol):
    """The settings of a trainer that can be watched so."""

    @property
    def report_to(self) -> Sequence[Tracker]: ...
    def model_dump(self, *, mode: str) -> dict[str, Any]: ...


@contextmanager
def tracked(workplace: Workplace, settings: Tracked) -> Iterator[Workplace]:
    """The workplace, whose every line of metrics goes to the trackers in `report_to` as well; closed at the end.

    Of several processes only the leading one has trackers.

    Raises:
        ValueError: a tracker's package is not installed.
    """
    if not settings.report_to or os.environ.get("RANK", "0") != "0":  # which a launcher of several processes sets
        yield workplace
        return
    demand_trackers(settings.report_to)
    with ExitStack() as at_the_end:
        opened: list[Any] = []

        def log(line: Mapping[str, float | int | str]) -> None:
            workplace.log(line)
            if not opened:  # at the first line: a training that does not get so far leaves no empty run behind
                opened.extend(_opened(workplace, settings, at_the_end))
            numbers = {name: x for name, x in line.items() if name != "step" and isinstance(x, int | float)}
            for tracker in opened:
                tracker.log(numbers, step=line.get("step"))

        yield replace(workplace, log=log)


def _opened(workplace: Workplace, settings: Tracked, at_the_end: ExitStack) -> Iterator[Any]:
    PartialState()  # accelerate's log asks for it; where there are several processes, they have met by now
    folder = workplace.trackers or workplace.folder / "trackers"
    folder.mkdir(parents=True, exist_ok=True)
    for name in settings.report_to:
        tracker = _tracker(name, workplace.name, folder)
        tracker.start()
        at_the_end.callback(tracker.finish)
        tracker.store_init_configuration(_flat(settings.model_dump(mode="json")))
        yield tracker


def _tracker(name: Tracker, run: str, folder: Path) -> Any:
    """One of accelerate's, not started; what it writes itself is in the folder, unless its variables say otherwise."""
    match name:
        case "tensorboard":
            return tracking.TensorBoardTracker(run, folder)
        case "wandb":
            place = {} if os.environ.get("WANDB_DIR") else {"dir": str(folder)}
            return tracking.WandBTracker(PROJECT, name=run, **place)
        case "trackio":
            return tracking.TrackioTracker(PROJECT, name=run)
        case "mlflow":
            if not os.environ.get("MLFLOW_TRACKING_URI"):
                import mlflow

                # Its own default is a database, for which mlflow-skinny has no code; files it writes only if told so.
                os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
                mlflow.set_tracking_uri((folder / "mlflow").resolve().as_uri())
            return tracking.MLflowTracker(PROJECT, run_name=run)


def _flat(config: Mapping[str, Any], above: str = "") -> dict[str, int | float | str | bool]:
    """`kl.coefficient` and the like: trackers take plain values only."""
    found: dict[str, int | float | str | bool] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{above}{key}.")
        else:
            found[f"{above}{key}"] = value if isinstance(value, int | float | str | bool) else str(value)
    return found
