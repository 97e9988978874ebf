"""The loop over stages: what is done is skipped, what changed is refused or redone, a crash is resumed."""

import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from dressage import config
from dressage.fingerprints import STAGES, Stage, changed_keys, inputs_of, parts_of
from dressage.protocols import Progress
from dressage.records import Checkpoint, content_hash
from dressage.settings import RunSettings
from dressage.stages._stage import Cast, Here, Outcome, StageError
from dressage.store import (
    Manifest,
    append_line,
    commit_json,
    commit_text,
    finish_stage,
    lines_of,
    locked,
    manifest_of,
    rows_of,
    sync_folder,
)

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


def folder_of(root: Path, name: str) -> Path:
    return root / name


def stage_folder(run: Path, stage: Stage, number: int = 0) -> Path:
    return run / f"round-{number}" / stage


def configured(settings: RunSettings) -> list[Stage]:
    """The stages that the YAML has, in order."""
    return [s for s in STAGES if getattr(settings, s) is not None]


def run(settings: RunSettings, job: Job, *, progress: Progress) -> Path:
    """Brings a run to its end, or one stage of it; what is already there is not done again.

    Raises:
        RunRefused: the folder holds a run of other settings.
        StageError, StoreError, SourceError …: each with what to do; what was committed is kept.
    """
    folder = folder_of(job.root, settings.name)
    with locked(folder):
        _accept(settings, job, folder)
        commit_text(folder / "config.yaml", config.dump(settings))
        for stage in configured(settings):
            if job.only in (None, stage):
                _bring(settings, job, folder, stage, progress)
    return folder


def standings(settings: RunSettings, root: Path) -> list[Standing]:
    """Where each stage stands, without opening a model."""
    folder = folder_of(root, settings.name)
    found: list[Standing] = []
    for stage in configured(settings):
        place = stage_folder(folder, stage)
        waits = any(s.stage in inputs_of(settings, stage) and s.state != "done" for s in found)
        if waits:
            state: State = "stale" if (place / "stage.json").exists() else "waits"
            found.append(Standing(stage, state, None))
            continue
        fingerprint = content_hash(parts_of(settings, stage, _inputs(settings, folder, stage)))
        found.append(_standing(stage, place, fingerprint))
    return found


def _standing(stage: Stage, place: Path, fingerprint: str) -> Standing:
    begun = _begun(place)
    manifest = manifest_of(place)
    if begun is None:
        return Standing(stage, "to do", None)
    if begun != fingerprint or (manifest and manifest.fingerprint != fingerprint):
        return Standing(stage, "stale", manifest)
    return Standing(stage, "done" if manifest else "begun", manifest)


def _begun(place: Path) -> str | None:
    path = place / "stage.json"
    return str(yaml.safe_load(path.read_text("utf-8"))["fingerprint"]) if path.exists() else None


def _inputs(settings: RunSettings, folder: Path, stage: Stage) -> dict[Stage, Manifest]:
    found = {}
    for needed in inputs_of(settings, stage):
        manifest = manifest_of(stage_folder(folder, needed))
        if manifest is None:
            raise StageError(
                f"{stage} needs {needed}, which is not finished in {folder}; "
                f"run `dressage {needed}` first, or `dressage run` for everything"
            )
        found[needed] = manifest
    return found


# ---------------------------------------------------------------- may this folder be used?


def _accept(settings: RunSettings, job: Job, folder: Path) -> None:
    """Refuses a folder made by other settings, unless what differs is to be redone."""
    kept = folder / "config.yaml"
    if not kept.exists():
        return
    changed = changed_keys(yaml.safe_load(kept.read_text("utf-8")), yaml.safe_load(config.dump(settings)))
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


def _moved(settings: RunSettings, folder: Path, stage: Stage) -> str:
    """Which parts of a fingerprint differ where no key of the YAML does (a file, a library, the code)."""
    path = stage_folder(folder, stage) / "stage.json"
    before = yaml.safe_load(path.read_text("utf-8"))["parts"]
    now = parts_of(settings, stage, _inputs(settings, folder, stage))
    return ", ".join(changed_keys(before, now)) or "the inputs"


# ---------------------------------------------------------------- one stage


def _bring(settings: RunSettings, job: Job, folder: Path, stage: Stage, progress: Progress) -> None:
    """Skips, takes over, resumes or runs a stage."""
    place = stage_folder(folder, stage)
    parts = parts_of(settings, stage, _inputs(settings, folder, stage))
    fingerprint = content_hash(parts)
    standing = _standing(stage, place, fingerprint)
    if job.redo == stage or standing.state == "stale":
        _move_aside(place)
        standing = Standing(stage, "to do", None)
    if standing.state == "done":
        (place / "journal.jsonl").unlink(missing_ok=True)
        progress.say(f"{stage}: already there ({place})")
        return
    if standing.state == "to do" and job.origin and _take_over(job, place, stage, fingerprint):
        progress.say(f"{stage}: taken over from {job.origin}")
        return
    progress.say(f"{stage}: {'going on' if standing.state == 'begun' else 'starting'}")
    commit_json(place / "stage.json", {"fingerprint": fingerprint, "parts": parts})
    _perform(
        settings,
        folder,
        stage,
        Manifest(stage=stage, fingerprint=fingerprint, parts=parts, shards=(), rows_hash="", facts={}, times={}),
        progress,
    )


def _perform(settings: RunSettings, folder: Path, stage: Stage, blank: Manifest, progress: Progress) -> None:
    place = stage_folder(folder, stage)
    _forget_metrics(folder, stage)
    cast = Cast(settings.models, settings.judges, seed=settings.seed)
    here = Here(
        folder=place,
        inputs={s: stage_folder(folder, s) for s in inputs_of(settings, stage)},
        key=blank.fingerprint,
        seed=settings.seed,
        round=0,
        cast=cast,
        progress=progress,
        log=lambda row: append_line(folder / "metrics.jsonl", {"stage": stage, "round": 0, **row}),
    )
    began = time.monotonic()
    try:
        outcome = RUNNERS[stage](settings, here)
    finally:
        cast.close()
    rows_hash = content_hash([shard.rows_hash for shard in outcome.shards])
    finish_stage(
        place,
        blank.model_copy(
            update={
                "shards": outcome.shards,
                "rows_hash": rows_hash,
                "facts": outcome.facts,
                "times": {"seconds": round(time.monotonic() - began, 3)},
            }
        ),
    )
    (place / "journal.jsonl").unlink(missing_ok=True)


def _forget_metrics(folder: Path, stage: Stage) -> None:
    """Drops what an earlier, unfinished attempt at this stage logged."""
    path = folder / "metrics.jsonl"
    if path.exists():
        kept = [row for row in lines_of(path) if row.get("stage") != stage]
        path.unlink()
        for row in kept:
            append_line(path, row)


def _move_aside(place: Path) -> None:
    if place.exists():
        number = 1
        while (aside := place.with_name(f"{place.name}.old-{number}")).exists():
            number += 1
        place.rename(aside)


def _take_over(job: Job, place: Path, stage: Stage, fingerprint: str) -> bool:
    """Copies a finished stage of another run, if it was made from the very same things."""
    assert job.origin is not None
    theirs = stage_folder(folder_of(job.root, job.origin), stage)
    manifest = manifest_of(theirs)
    if manifest is None or manifest.fingerprint != fingerprint:
        return False
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(theirs, part, ignore=shutil.ignore_patterns("quarantine", "*.part"))
    part.rename(place)
    sync_folder(place.parent)
    return True


# ---------------------------------------------------------------- what each stage is handed


def _run_data(settings: RunSettings, here: Here) -> Outcome:
    from dressage.stages import data

    assert settings.data is not None
    return data.run(here, settings.data, policy=settings.policy)


def _run_judge(settings: RunSettings, here: Here) -> Outcome:
    from dressage.stages import judge

    assert settings.judge is not None
    return judge.run(here, settings.judge)


def _run_train(settings: RunSettings, here: Here) -> Outcome:
    from dressage.protocols import Sampling
    from dressage.stages import train

    assert settings.train is not None
    base = settings.models[settings.policy]
    by = settings.judge.by if settings.judge and not settings.train.input else "the user"
    origin = train.Origin(
        run=settings.name,
        policy=settings.policy,
        base=str(getattr(base, "path", base.identity())),
        sampling=settings.data.sampling if settings.data else Sampling(),
        judged_by=f"judge `{by}`",
    )
    return train.run(here, settings.train, origin=origin)


def _run_evaluate(settings: RunSettings, here: Here) -> Outcome:
    from dressage.stages import evaluate

    chosen = settings.evaluate
    assert chosen is not None
    assert settings.data is not None
    names = {"predecessor": chosen.predecessor or settings.policy, **{n: n for n in chosen.baselines}}
    if chosen.policy == "trained":
        (checkpoint,) = rows_of(here.inputs["train"], Checkpoint)
        trained = here.cast.model(settings.policy).wearing(here.inputs["train"] / checkpoint.adapter)
        models = {"policy": trained}
    else:
        models = {"policy": here.cast.model(chosen.policy)}
    models |= {side: here.cast.model(name) for side, name in names.items()}
    used = {settings.policy, *names.values()} | ({chosen.policy} - {"trained"})
    one_base = len({getattr(settings.models[n], "path", n) for n in used}) == 1
    sides = evaluate.Sides(
        models=models,
        sampling=chosen.sampling or settings.data.sampling,
        base=here.cast.model(settings.policy) if one_base and settings.models[settings.policy].trains else None,
        train_judge=settings.judge.by if settings.judge else None,
    )
    return evaluate.run(here, chosen, sides=sides)


RUNNERS: Mapping[Stage, Callable[[RunSettings, Here], Outcome]] = {
    "data": _run_data,
    "judge": _run_judge,
    "train": _run_train,
    "evaluate": _run_evaluate,
}
