"""Where the stages of a run stand, and whether its folder may be used by these settings."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from dressage import config
from dressage.company import processes
from dressage.fingerprints import STAGES, Stage, changed_keys, inputs_of, parts_of
from dressage.plugins import kinds, meant, settings_of
from dressage.records import content_hash
from dressage.settings import RunSettings
from dressage.stages._stage import StageError
from dressage.store import Manifest, StoreError, is_whole, manifest_of

State = Literal["done", "to do", "begun", "stale", "waits"]


class RunRefused(RuntimeError):
    """The run's folder was made by other settings; says which keys and stages, and the ways out."""


@dataclass(frozen=True)
class Standing:
    """Where one stage of a run stands."""

    stage: Stage
    state: State
    manifest: Manifest | None


@dataclass(frozen=True)
class Job:
    """What to do with a run's folder."""

    root: Path
    only: Stage | None = None
    """One stage, or null for all."""
    redo: Stage | None = None
    """Do this stage again; its old output is moved aside."""
    origin: str | None = None
    """Another run from which stages that still fit are taken over."""
    call: str = "CONFIG"
    """What stands after the verb on the command line: the config and whatever names the run; for hints."""


def folder_of(root: Path, name: str) -> Path:
    return root / name


def stage_folder(run: Path, stage: Stage, number: int = 0) -> Path:
    return run / f"round-{number}" / stage


def configured(settings: RunSettings) -> list[Stage]:
    """The stages that the YAML has, in order."""
    return [s for s in STAGES if getattr(settings, s) is not None]


def standings(settings: RunSettings, root: Path) -> list[Standing]:
    """Where each stage stands, without opening a model."""
    found: list[Standing] = []
    for stage in configured(settings):
        found.append(_standing(settings, root, stage, found))
    return found


def foreseen(settings: RunSettings, root: Path) -> list[Standing]:
    """As `standings`, on a machine that may lack what the run will need: a stage whose models have not been fetched
    waits, for nobody can tell what it would be made from."""
    found: list[Standing] = []
    for stage in configured(settings):
        try:
            found.append(_standing(settings, root, stage, found))
        except (ValueError, OSError):  # whoever runs the stage is told which model is missing, and the way out
            found.append(Standing(stage, "waits", None))
    return found


def _standing(settings: RunSettings, root: Path, stage: Stage, earlier: Sequence[Standing]) -> Standing:
    folder = folder_of(root, settings.name)
    before = {s.state for s in earlier if s.stage in inputs_of(settings, stage)}
    place = stage_folder(folder, stage)
    if before <= {"done"}:
        parts = parts_of(settings, stage, inputs_in(settings, folder, stage))
        return standing(stage, place, content_hash(parts))
    return Standing(stage, _early(settings, stage, place, before), None)


def _early(settings: RunSettings, stage: Stage, place: Path, before: set[State]) -> State:
    """Where a stage stands whose inputs are not there: what it once made is stale if its own settings, or the
    stages before it, have changed; else nobody can know yet."""
    made = _made(place)
    if made is None:
        return "waits"
    own = {k: v for k, v in parts_of(settings, stage, {}).items() if k != "inputs"}
    changed = any(made["parts"].get(k) != v for k, v in own.items())
    return "stale" if changed or "stale" in before else "waits"


def standing(stage: Stage, place: Path, fingerprint: str) -> Standing:
    made, manifest = _made(place), manifest_or_none(place)
    if made is None:
        return Standing(stage, "to do", None)
    if made["fingerprint"] != fingerprint or (manifest and manifest.fingerprint != fingerprint):
        return Standing(stage, "stale" if _left_something(place) else "to do", manifest)
    return Standing(stage, "done" if manifest else "begun", manifest)


def manifest_or_none(place: Path) -> Manifest | None:
    """A damaged manifest counts as none: it is written anew from the shards, which are kept."""
    try:
        return manifest_of(place)
    except StoreError:
        return None


def damaged(place: Path, manifest: Manifest) -> str | None:
    """The first thing in a finished stage that is not as it was committed, or null."""
    shard = next((s for s in manifest.shards if not is_whole(place, s)), None)
    if shard is not None:
        return f"shard {shard.name}"
    if manifest.stage == "train":
        from dressage.stages.train import damaged_adapter

        return damaged_adapter(place, manifest.shards[0])
    return None


OF_ITSELF = frozenset({"stage.json", "attempts.json"})
"""What a stage writes before it has done anything."""


def _left_something(place: Path) -> bool:
    """Whether a stage came to anything: one that was refused as it began keeps no other settings out."""
    files = (file for file in place.rglob("*") if file.is_file())
    return any(file.name not in OF_ITSELF and file.stat().st_size for file in files)


def _made(place: Path) -> dict[str, Any] | None:
    """What a stage was begun with: its fingerprint and its parts; null where it was not, or where that is damaged
    (its shards know their own keys, so nothing wrong is taken for done)."""
    try:
        found = json.loads((place / "stage.json").read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and {"fingerprint", "parts"} <= found.keys() else None


def inputs_in(settings: RunSettings, folder: Path, stage: Stage, *, call: str = "CONFIG") -> dict[Stage, Manifest]:
    """The manifests of the stages that one reads; `call` is what a hint puts after the verb.

    Raises:
        StageError: where one is not finished.
    """
    found = {}
    for needed in inputs_of(settings, stage):
        manifest = manifest_of(stage_folder(folder, needed))
        if manifest is None:
            raise StageError(
                f"{stage} needs {needed}, which is not finished in {folder}; "
                f"run `dressage {needed} {call}` first, or `dressage run {call}` for everything"
            )
        found[needed] = manifest
    return found


def possible(settings: RunSettings, job: Job) -> None:
    """Refuses a job that names a stage or a run that is not there, models that follow what the run trains, and several
    processes where one is all that is needed."""
    there_are = configured(settings)
    for stage in (job.only, job.redo):
        if stage is not None and stage not in there_are:
            raise RunRefused(f"the YAML of {settings.name!r} has no `{stage}:`; it has {', '.join(there_are)}")
    for name, adapter in _adapters(settings):
        if Path(adapter).expanduser().resolve().is_relative_to(folder_of(job.root, settings.name).resolve()):
            raise RunRefused(
                f"{name} wears {adapter}, an adapter of this very run: it would follow what is being trained. "
                "Copy the adapter elsewhere, or give this run another --name"
            )
    if (launched := processes()) > 1:
        _shared(settings, job, launched)
    if job.origin is not None and not (folder_of(job.root, job.origin) / "config.yaml").exists():
        there = sorted(p.parent.name for p in job.root.glob("*/config.yaml"))
        raise RunRefused(f"--from {job.origin}: there is no such run in {job.root}{meant(job.origin, there)}")


def _shared(settings: RunSettings, job: Job, launched: int) -> None:
    """Refuses processes that would have nothing to do."""
    can = [kind for kind in kinds("trainers") if getattr(settings_of("trainers", kind), "shared", False)]
    if settings.train is None or job.only not in (None, "train"):
        why = "and this job trains nothing"
    elif not settings.train.trainer.shared:
        why = f"and train.trainer.kind {settings.train.trainer.kind} trains in one"
    else:
        return
    raise RunRefused(
        f"a launcher started {launched} processes, {why}; several share a training by {', '.join(can)}. Start it "
        f"without the launcher: dressage {job.only or 'run'} {job.call}"
    )


def _adapters(settings: RunSettings) -> Iterator[tuple[str, str]]:
    """The adapter folders that models and judges name."""
    for where, shelf in (("models", settings.models), ("judges", settings.judges)):
        for name, kind in shelf.items():
            if adapter := getattr(kind, "adapter", None):
                yield f"{where}.{name}", adapter


def accept(settings: RunSettings, job: Job, folder: Path) -> None:
    """Refuses a folder made by other settings, unless what differs is to be redone."""
    kept = folder / "config.yaml"
    there = kept.exists()  # where it is gone, what stages were made of says whether they fit
    changed = changed_keys(_plain(kept.read_text("utf-8")), _plain(config.dump(settings))) if there else []
    stale = [s.stage for s in standings(settings, job.root) if s.state == "stale"]
    if job.redo is not None:
        stale = [s for s in stale if STAGES.index(s) < STAGES.index(job.redo)]
    if not stale:
        return
    why = f"these keys differ: {', '.join(changed)}" if changed else f"{_moved(settings, folder, stale[0])} changed"
    raise RunRefused(
        f"{folder} was made with other settings; {why}; stages that no longer fit: {', '.join(stale)}. "
        f"Either --redo {stale[0]} (the old output is moved aside), or --name NEW --from {settings.name} "
        "(takes over every stage that still fits)"
    )


def _plain(text: str) -> Any:
    """A dumped config; one that was damaged differs from every other."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _moved(settings: RunSettings, folder: Path, stage: Stage) -> str:
    """Which parts of a fingerprint differ where no key of the YAML does (a file, a library, the code)."""
    made = _made(stage_folder(folder, stage))
    known = {s: manifest_or_none(stage_folder(folder, s)) for s in inputs_of(settings, stage)}
    now = parts_of(settings, stage, {s: m for s, m in known.items() if m is not None})
    return ", ".join(changed_keys(made["parts"] if made else None, now)) or "the inputs"
