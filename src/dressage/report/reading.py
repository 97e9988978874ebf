"""Reads a run's folder for its page: config, metrics, and of each round the stages that are there."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from dressage.doubts import doubts
from dressage.reading import unfit
from dressage.records import Record
from dressage.settings import RunSettings
from dressage.store import Manifest, StoreError, lines_of, manifest_of, rows_of

R = TypeVar("R", bound=Record)

STAGES = ("data", "judge", "train", "evaluate")


@dataclass(frozen=True)
class Config:
    """The resolved YAML of a run, as text and as values; `settings` where this version can still read it."""

    text: str
    raw: Mapping[str, Any]
    settings: RunSettings | None

    def section(self, name: str) -> Mapping[str, Any]:
        """A section of the YAML, empty where the run has none."""
        found = self.raw.get(name, None)
        return found if isinstance(found, dict) else {}

    def has(self, stage: str) -> bool:
        """Whether a stage is part of the run; of a config that cannot be read nobody knows that it is not."""
        return not self.raw or self.raw.get(stage, None) is not None

    @property
    def practises(self) -> bool:
        """Whether the trainer draws for itself, so that the judge grades draws and makes no preferences."""
        train = self.settings.train if self.settings else None
        return train is not None and train.trainer.learns_from == "prompts"


@dataclass(frozen=True)
class Round:
    """A round's folder; a stage without a manifest is not finished and gives no rows."""

    name: str
    folder: Path
    manifests: Mapping[str, Manifest]
    begun: frozenset[str]
    """Stages whose folder is there without a manifest."""

    def rows(self, stage: str, record: type[R]) -> list[R]:
        return list(rows_of(self.folder / stage, record)) if stage in self.manifests else []

    @property
    def outdated(self) -> str | None:
        """Why the evaluation that is there is not the run's result, or null."""
        return unfit(self.folder, "evaluate") if "evaluate" in self.manifests else None

    @property
    def doubts(self) -> list[str]:
        """What the rows of the finished stages say against building on them."""
        found = [(stage, doubt) for stage, m in self.manifests.items() for doubt in doubts(self.folder / stage, m)]
        return [f"{stage.capitalize()}: {doubt}." for stage, doubt in found]

    @property
    def looks(self) -> list[str]:
        """The splits that finished evaluations looked at, those that were moved aside included."""
        folders = [self.folder / "evaluate", *self.folder.glob("evaluate.old-*")]
        manifests = [manifest for folder in folders if (manifest := manifest_of(folder))]
        return [str(manifest.facts["split"]) for manifest in manifests if "split" in manifest.facts]

    def facts(self, stage: str) -> Mapping[str, Any]:
        return self.manifests[stage].facts if stage in self.manifests else {}


@dataclass(frozen=True)
class Run:
    """What a page is made of."""

    folder: Path
    config: Config
    rounds: tuple[Round, ...]
    metrics: tuple[Mapping[str, Any], ...]

    @property
    def name(self) -> str:
        named = self.config.raw.get("name", self.folder.name)
        return str(named)


def read_run(folder: Path) -> Run:
    """The run in `folder`, whatever of it is there.

    Raises:
        StoreError: where the folder holds no run, or something in it is damaged.
    """
    rounds = sorted((p for p in folder.glob("round-*") if p.is_dir()), key=_number)
    if not rounds and not (folder / "config.yaml").is_file():
        raise StoreError(f"{folder} holds no run (neither config.yaml nor round-0); give a folder such as runs/demo")
    return Run(
        folder=folder,
        config=_config(folder / "config.yaml"),
        rounds=tuple(_round(path) for path in rounds),
        metrics=tuple(lines_of(folder / "metrics.jsonl")),
    )


def _number(path: Path) -> tuple[int, str]:
    digits = path.name.removeprefix("round-").partition("-")[0]
    return (int(digits) if digits.isdigit() else 10**9, path.name)


def _round(folder: Path) -> Round:
    found = {stage: manifest_of(folder / stage) for stage in STAGES}
    return Round(
        name=folder.name,
        folder=folder,
        manifests={stage: manifest for stage, manifest in found.items() if manifest is not None},
        begun=frozenset(s for s, manifest in found.items() if manifest is None and (folder / s).is_dir()),
    )


def _config(path: Path) -> Config:
    """The config; a run whose settings this version no longer knows keeps its page, with less on the judges."""
    text = path.read_text("utf-8") if path.is_file() else ""
    raw = yaml.safe_load(text)
    if not isinstance(raw, dict):
        return Config(text, {}, None)
    try:
        return Config(text, raw, RunSettings.model_validate(raw))
    except ValidationError:
        return Config(text, raw, None)


# ---------------------------------------------------------------- curves


def curves(metrics: tuple[Mapping[str, Any], ...]) -> dict[str, list[tuple[float, float]]]:
    """Of each number that training logged: its finite (step, value) points, in the order of steps.

    A step that was done again after a crash counts once, as it was done last.
    """
    found: dict[str, dict[float, float]] = {}
    for line in metrics:
        if "stage" not in line or line["stage"] != "train" or "step" not in line or not _finite(line["step"]):
            continue
        for key, value in line.items():
            if key not in ("step", "round") and _finite(value):
                found.setdefault(key, {})[float(line["step"])] = float(value)
    return {key: sorted(points.items()) for key, points in found.items()}


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
