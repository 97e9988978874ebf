"""Trackers told besides the run's own metrics: trackio, wandb, tensorboard, mlflow, through accelerate."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator


def trackers(
    names: Sequence[str], folder: Path, config: Mapping[str, Any]
) -> Callable[[Mapping[str, float], int], None]:
    """A function of (metrics, step); does nothing where no tracker is named.

    Raises:
        ImportError: a tracker's package is not there.
    """
    if not names:
        return lambda told, step: None
    accelerator = Accelerator(cpu=True, log_with=list(names), project_dir=str(folder / "trackers"))
    if len(accelerator.log_with) < len(names):
        known = {str(getattr(t, "value", t)) for t in accelerator.log_with}
        missing = [name for name in names if name not in known]
        raise ImportError(
            f"report_to names {', '.join(missing)}, which is not installed; pip install {' '.join(missing)}"
        )
    accelerator.init_trackers("dressage", config=_flat(config))
    return lambda told, step: accelerator.log(dict(told), step=step)


def _flat(config: Mapping[str, Any], above: str = "") -> dict[str, int | float | str | bool]:
    """`kl.coefficient` and the like: trackers take plain values only."""
    found: dict[str, int | float | str | bool] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{above}{key}.")
        else:
            found[f"{above}{key}"] = value if isinstance(value, int | float | str | bool) else str(value)
    return found
