"""The loop over stages: what is done is skipped, what changed is refused or redone, a crash is resumed."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from dressage import config
from dressage.accounts import Accounts
from dressage.clock import counting
from dressage.fingerprints import Stage, inputs_of, parts_of
from dressage.protocols import Progress
from dressage.records import Checkpoint, content_hash
from dressage.settings import RunSettings
from dressage.stages._stage import Cast, Here, Outcome, StageError
from dressage.standing import (
    Job,
    Standing,
    accept,
    configured,
    folder_of,
    inputs_in,
    manifest_or_none,
    possible,
    stage_folder,
    standing,
)
from dressage.store import (
    Manifest,
    append_line,
    commit_json,
    commit_text,
    finish_stage,
    is_whole,
    keep_lines,
    lines_of,
    locked,
    manifest_of,
    quarantine,
    rows_of,
    sync_folder,
)


def run(settings: RunSettings, job: Job, *, progress: Progress) -> Path:
    """Brings a run to its end, or one stage of it; what is already there is not done again.

    Raises:
        RunRefused: the folder holds a run of other settings.
        StageError, StoreError, SourceError …: each with what to do; what was committed is kept.
    """
    folder = folder_of(job.root, settings.name)
    possible(settings, job)
    with locked(folder):
        accept(settings, job, folder)
        resolved = config.dump(settings)
        if not (folder / "config.yaml").exists() or (folder / "config.yaml").read_text("utf-8") != resolved:
            commit_text(folder / "config.yaml", resolved)
        for stage in configured(settings):
            if job.only in (None, stage):
                _bring(settings, job, folder, stage, progress)
    return folder


# ---------------------------------------------------------------- one stage


def _bring(settings: RunSettings, job: Job, folder: Path, stage: Stage, progress: Progress) -> None:
    """Skips, takes over, resumes or runs a stage."""
    place = stage_folder(folder, stage)
    parts = parts_of(settings, stage, inputs_in(settings, folder, stage))
    fingerprint = content_hash(parts)
    now = standing(stage, place, fingerprint)
    if job.redo == stage or now.state == "stale":
        _move_aside(place)
        now = Standing(stage, "to do", None)
    if now.manifest and (broken := _damaged(place, now.manifest)):
        progress.say(f"{stage}: {broken} is gone or damaged; doing again what is")
        quarantine(place, [place / "manifest.json"])
        now = Standing(stage, "begun", None)
    if now.state == "done":
        (place / "journal.jsonl").unlink(missing_ok=True)
        progress.say(f"{stage}: already there ({place})")
        return
    if now.state == "to do" and job.origin and _take_over(job, folder, stage, fingerprint):
        progress.say(f"{stage}: taken over from {job.origin}")
        return
    progress.say(f"{stage}: {'going on' if now.state == 'begun' else 'starting'}")
    commit_json(place / "stage.json", {"fingerprint": fingerprint, "parts": parts})
    _perform(
        settings,
        folder,
        stage,
        Manifest(stage=stage, fingerprint=fingerprint, parts=parts, shards=(), rows_hash="", facts={}, times={}),
        progress,
    )


def _damaged(place: Path, manifest: Manifest) -> str | None:
    """The first thing in a finished stage that is not as it was committed, or null."""
    shard = next((s for s in manifest.shards if not is_whole(place, s)), None)
    if shard is not None:
        return f"shard {shard.name}"
    if manifest.stage == "train":
        from dressage.stages.train import damaged_adapter

        return damaged_adapter(place, manifest.shards[0])
    return None


def _perform(settings: RunSettings, folder: Path, stage: Stage, blank: Manifest, progress: Progress) -> None:
    place = stage_folder(folder, stage)
    metrics = folder / "metrics.jsonl"
    accounts = Accounts(folder / "spending.jsonl")
    cast = Cast(settings.models, settings.judges, seed=settings.seed, accounts=accounts)
    here = Here(
        folder=place,
        inputs={s: stage_folder(folder, s) for s in inputs_of(settings, stage)},
        key=blank.fingerprint,
        seed=settings.seed,
        round=0,
        cast=cast,
        progress=progress,
        log=lambda row: append_line(metrics, {"stage": stage, "round": 0, **row}),
        forget=lambda after: keep_lines(
            metrics,
            lambda row: row.get("stage") != stage or (isinstance(row.get("step"), int) and row["step"] <= after),
        ),
    )
    with counting() as spent:
        try:
            outcome = RUNNERS[stage](settings, here)
            machine = cast.facts()
        finally:
            cast.close()
    rows_hash = content_hash([shard.rows_hash for shard in outcome.shards])
    finish_stage(
        place,
        blank.model_copy(
            update={
                "shards": outcome.shards,
                "rows_hash": rows_hash,
                "facts": {**outcome.facts, **machine},
                "times": {name: round(seconds, 3) for name, seconds in spent.items()},
            }
        ),
    )
    (place / "journal.jsonl").unlink(missing_ok=True)


def _move_aside(place: Path) -> None:
    if place.exists():
        number = 1
        while (aside := place.with_name(f"{place.name}.old-{number}")).exists():
            number += 1
        place.rename(aside)


def _take_over(job: Job, folder: Path, stage: Stage, fingerprint: str) -> bool:
    """Copies a finished, undamaged stage of another run with its metrics, if it was made from the very same things."""
    assert job.origin is not None
    origin = folder_of(job.root, job.origin)
    place, theirs = stage_folder(folder, stage), stage_folder(origin, stage)
    manifest = manifest_or_none(theirs)
    if manifest is None or manifest.fingerprint != fingerprint or _damaged(theirs, manifest):
        return False
    keep_lines(folder / "metrics.jsonl", lambda row: row.get("stage") != stage)
    for row in lines_of(origin / "metrics.jsonl"):
        if row.get("stage") == stage:
            append_line(folder / "metrics.jsonl", row)
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(theirs, part, ignore=shutil.ignore_patterns("quarantine", "*.part"))
    shutil.rmtree(place, ignore_errors=True)  # at most a stage.json that could not be read
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
    brought = settings.train.input is not None or settings.judge is None
    origin = train.Origin(
        run=settings.name,
        policy=settings.policy,
        base=str(getattr(base, "path", base.identity())),
        sampling=settings.data.sampling if settings.data else Sampling(),
        judged_by="pairs of the user's own" if brought or settings.judge is None else f"judge `{settings.judge.by}`",
        reward=settings.judge,
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
        manifest = manifest_of(here.inputs["train"])
        if manifest and (broken := _damaged(here.inputs["train"], manifest)):
            raise StageError(f"{broken} of train is gone or damaged; run `dressage train` again: it is trained anew")
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
