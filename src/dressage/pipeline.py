"""The loop over stages: what is done is skipped, what changed is refused or redone, a crash is resumed."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dressage import config
from dressage.accounts import Accounts
from dressage.auditing import cleared
from dressage.clock import counting
from dressage.doubts import doubts
from dressage.fingerprints import Stage, inputs_of, models_of, parts_of, with_members
from dressage.handover import move_aside, take_over
from dressage.leftovers import left_out
from dressage.practising import enough
from dressage.protocols import ModelSettings, Progress, Settings
from dressage.records import Checkpoint, content_hash
from dressage.settings import RunSettings, TrainSection
from dressage.stages._attempts import Attempts, remember
from dressage.stages._stage import OF_MODEL, Cast, Here, Outcome, StageError, whole_files
from dressage.standing import (
    Job,
    Standing,
    accept,
    configured,
    damaged,
    folder_of,
    inputs_in,
    possible,
    stage_folder,
    standing,
    standings,
)
from dressage.store import (
    Manifest,
    append_line,
    commit_json,
    commit_text,
    finish_stage,
    keep_lines,
    locked,
    manifest_of,
    quarantine,
    rows_of,
)

if TYPE_CHECKING:
    from dressage.stages._card import Origin

Log = Callable[[Mapping[str, float | int | str]], None]
Forget = Callable[[int], None]


def run(settings: RunSettings, job: Job, *, progress: Progress) -> Path:
    """Brings a run to its end, or one stage of it; what is already there is not done again.

    Raises:
        RunRefused: the folder holds a run of other settings.
        StageError, StoreError, SourceError …: each with what to do; what was committed is kept.
    """
    folder = folder_of(job.root, settings.name)
    possible(settings, job)
    if job.only is not None:  # before the folder is made: a stage that cannot be begun leaves no run behind
        inputs_in(settings, folder, job.only, call=job.call)
    with locked(folder):
        accept(settings, job, folder)
        if any(found.state != "done" for found in standings(settings, job.root)):
            _usable(settings, [stage for stage in configured(settings) if job.only in (None, stage)])
            _openable(settings, folder)
        resolved = config.dump(settings)
        if not (folder / "config.yaml").exists() or (folder / "config.yaml").read_text("utf-8") != resolved:
            commit_text(folder / "config.yaml", resolved)
        for stage in configured(settings):
            if job.only in (None, stage):
                _bring(settings, job, folder, stage, progress)
    return folder


def _usable(settings: RunSettings, stages: Sequence[Stage]) -> None:
    """Asks the models and the trainer of all the stages to come for the packages they need, before the first begins.

    Raises:
        ValueError: naming the place in the YAML, what is not installed, and the way out.
    """
    names = sorted({name for stage in stages for name in models_of(settings, stage)})
    kinds: dict[str, Settings] = {f"models.{name}": settings.models[name] for name in names}
    if settings.train is not None and "train" in stages:
        kinds["train.trainer"] = settings.train.trainer
    for place, kind in kinds.items():
        try:
            kind.usable()
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error


def _openable(settings: RunSettings, folder: Path) -> None:
    """Opens every judge once, its files, functions and tools, but no model: a wrong path shows now, not after draws.

    Raises:
        ValueError, OSError, LookupError: naming the judge's file and what is wrong with it.
    """
    accounts = Accounts(folder / "spending.jsonl")
    cast = Cast(settings.models, settings.judges, seed=settings.seed, accounts=accounts, tools=settings.tools)
    with closing(cast):
        for name in settings.judges:
            cast.judge(name)


# ---------------------------------------------------------------- one stage


def _bring(settings: RunSettings, job: Job, folder: Path, stage: Stage, progress: Progress) -> None:
    """Skips, takes over, resumes or runs a stage."""
    place = stage_folder(folder, stage)
    parts = parts_of(settings, stage, inputs_in(settings, folder, stage))
    fingerprint = content_hash(parts)
    now = standing(stage, place, fingerprint)
    if job.redo == stage or now.state == "stale":
        if aside := move_aside(place):
            progress.say(f"{stage}: the old output lies in {aside} now")
        now = Standing(stage, "to do", None)
    if now.manifest and (broken := damaged(place, now.manifest)):
        progress.say(f"{stage}: {broken} is gone or damaged; doing again what is")
        machine = {name: fact for name, fact in now.manifest.facts.items() if name.startswith(OF_MODEL)}
        remember(place, times=now.manifest.times, machine=machine)
        quarantine(place, [place / "manifest.json"])
        now = Standing(stage, "begun", None)
    if now.state == "done":
        (place / "journal.jsonl").unlink(missing_ok=True)
        progress.say(f"{stage}: already there ({place})")
        return
    if now.state == "to do" and job.origin and job.redo != stage:
        taken = take_over(job, folder, stage, fingerprint)
        if taken:
            progress.say(f"{stage}: taken over from {job.origin}")
            return
        if taken is not None:
            progress.say(f"{stage}: taken over from {job.origin} as far as it is there")
            now = Standing(stage, "begun", None)
    progress.say(f"{stage}: {'going on' if now.state == 'begun' else 'starting'}")
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
    accounts = Accounts(folder / "spending.jsonl")
    cast = Cast(settings.models, settings.judges, seed=settings.seed, accounts=accounts, tools=settings.tools)
    with counting() as spent, closing(cast):
        attempts = Attempts(place, spent=spent, machine=cast.facts)
        try:
            log, forget = _logging(folder / "metrics.jsonl", stage, attempts.note)
            here = Here(
                folder=place,
                inputs={s: stage_folder(folder, s) for s in inputs_of(settings, stage)},
                key=blank.fingerprint,
                seed=settings.seed,
                round=0,
                cast=cast,
                progress=progress,
                log=log,
                forget=forget,
                note=attempts.note,
            )
            if stage == "judge":
                cleared(settings, cast, folder / "audit", progress=progress)
            with whole_files(f"stage {stage} in {place}", [*settings.models.values(), *settings.judges.values()]):
                outcome = RUNNERS[stage](settings, here)
            machine = attempts.machine()  # of the models that are open now
        finally:
            attempts.keep()
    done = {
        "shards": outcome.shards,
        "rows_hash": content_hash([shard.rows_hash for shard in outcome.shards]),
        "facts": {**outcome.facts, **machine},
        "times": attempts.times(),
    }
    finished = blank.model_copy(update=done)
    finish_stage(place, finished)
    attempts.forget()
    (place / "journal.jsonl").unlink(missing_ok=True)
    if told := left_out(outcome.facts):
        progress.say(f"{stage}: left out: {told}")
    for doubt in doubts(place, finished):
        progress.say(f"{stage}: warning: {doubt}")


def _logging(metrics: Path, stage: Stage, note: Callable[[], None]) -> tuple[Log, Forget]:
    """How a stage writes lines of its own into the run's metrics, and takes back those after a step."""

    def log(row: Mapping[str, float | int | str]) -> None:
        append_line(metrics, {"stage": stage, "round": 0, **row})
        note()

    def forget(after: int) -> None:
        keep_lines(
            metrics,
            lambda row: row.get("stage") != stage or (isinstance(row.get("step"), int) and row["step"] <= after),
        )

    return log, forget


# ---------------------------------------------------------------- what each stage is handed


def _run_data(settings: RunSettings, here: Here) -> Outcome:
    from dressage.stages import data

    assert settings.data is not None
    return data.run(here, settings.data, policy=settings.policy, enough=partial(enough, settings))


def _run_judge(settings: RunSettings, here: Here) -> Outcome:
    from dressage.stages import judge

    assert settings.judge is not None
    return judge.run(here, settings.judge, learnt_from="judge" in _read_by_train(settings))


def _read_by_train(settings: RunSettings) -> tuple[Stage, ...]:
    return inputs_of(settings, "train") if settings.train else ()


def _run_train(settings: RunSettings, here: Here) -> Outcome:
    from dressage.protocols import Sampling
    from dressage.stages import train

    assert settings.train is not None
    policy = train.Policy(
        settings.policy, sampling=settings.data.sampling if settings.data else Sampling(), reward=settings.judge
    )
    return train.run(here, settings.train, policy=policy, origin=_origin(settings, settings.train))


def _origin(settings: RunSettings, chosen: TrainSection) -> "Origin":
    """What the model card must say of where an adapter comes from."""
    from dressage.stages._card import Origin

    base, judge = settings.models[settings.policy], settings.judge
    labelled = judge if chosen.input is None else None
    source = chosen.input or (labelled.input if labelled else None) or (settings.data.source if settings.data else None)
    own = f"{chosen.trainer.learns_from}" if chosen.input else "candidates" if labelled and labelled.input else None
    judges = with_members(settings, [labelled.by]) if labelled else ()
    return Origin(
        run=settings.name,
        base=str(getattr(base, "path", base.identity())),
        source=source.model_dump(mode="json") if source else None,
        own=own,
        judges={name: settings.judges[name].model_dump(mode="json") for name in judges},
    )


def _run_evaluate(settings: RunSettings, here: Here) -> Outcome:
    from dressage.stages import evaluate

    chosen = settings.evaluate
    assert chosen is not None
    assert settings.data is not None
    names = {"predecessor": chosen.predecessor or settings.policy, **{n: n for n in chosen.baselines}}
    if chosen.policy == "trained":
        (checkpoint,) = rows_of(here.inputs["train"], Checkpoint)
        manifest = manifest_of(here.inputs["train"])
        if manifest and (broken := damaged(here.inputs["train"], manifest)):
            raise StageError(f"{broken} of train is gone or damaged; run `dressage train` again: it is trained anew")
        trained = here.cast.model(settings.policy).wearing(here.inputs["train"] / checkpoint.adapter)
        models = {"policy": trained}
    else:
        models = {"policy": here.cast.model(chosen.policy)}
    models |= {side: here.cast.model(name) for side, name in names.items()}
    used = {settings.policy, *names.values()} | ({chosen.policy} - {"trained"})
    one_base = len({_base(settings.models[n], n) for n in used}) == 1
    sides = evaluate.Sides(
        models=models,
        sampling=chosen.sampling or settings.data.sampling,
        base=here.cast.model(settings.policy) if one_base and settings.models[settings.policy].trains else None,
        train_judge=settings.judge.by if settings.judge else None,
        broken_response=settings.judge.broken_response if settings.judge else None,
    )
    return evaluate.run(here, chosen, sides=sides)


def _base(model: ModelSettings, name: str) -> tuple[object, ...]:
    """Equal for models that stand on the same weights; one without files stands alone."""
    return getattr(model, "path", name), getattr(model, "revision", None)


RUNNERS: Mapping[Stage, Callable[[RunSettings, Here], Outcome]] = {
    "data": _run_data,
    "judge": _run_judge,
    "train": _run_train,
    "evaluate": _run_evaluate,
}
