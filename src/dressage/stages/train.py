"""Learn from labels. Reads preferences, rows of your own or prompts, and the policy; writes adapter, checkpoint."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from dressage.checkpoints import Checkpoints
from dressage.clock import spending
from dressage.company import company
from dressage.plugins import open_kind
from dressage.protocols import Sampling, Trained, Workplace
from dressage.records import Checkpoint, content_hash
from dressage.seeds import seed_for
from dressage.settings import JudgeSection, TrainSection
from dressage.stages._card import Origin, write_card
from dressage.stages._lessons import fitting, lessons
from dressage.stages._practice import Learnt, Rehearsal, update_shards
from dressage.stages._stage import Here, Outcome, StageError, whole_files
from dressage.stages._watching import Watch, look_shards, looks_kept, watch
from dressage.store import Shard, commit_json, commit_shard, file_hash, rows_in, shard_done


@dataclass(frozen=True)
class Policy:
    """Who learns, and what an on-policy trainer draws and is graded by."""

    name: str
    sampling: Sampling
    reward: JudgeSection | None


def run(here: Here, settings: TrainSection, *, policy: Policy, origin: Origin) -> Outcome:
    """Trains once; a killed training goes on from its newest whole checkpoint. Of several processes this is the
    leader's part: it draws, has graded, watches and writes."""
    if done := _done(here):
        return done
    backbone = here.cast.model(policy.name)
    watching = watch(here, settings, start=backbone, sampling=policy.sampling)
    trainer = open_kind(settings.trainer, **_handed(here, settings, policy, watching))
    learnt = fitting(lessons(here, settings), trainer, backbone, at_most=settings.max_unfit)
    company().say({"place": str(here.folder.resolve()), "key": here.key, "model": _model(backbone)})
    trained = _together(here, trainer, learnt.rows, backbone, policy.name)
    facts: dict[str, JsonValue] = {**trained.facts, "rows": len(learnt.rows), **learnt.left_out}
    if company().size > 1:  # sums of several processes are rounded otherwise than those of one
        facts["processes"] = company().size
    if watching:
        facts |= _watched(watching, backbone.wearing(trained.adapter))
    write_card(trained.adapter, origin, settings.trainer.model_dump(mode="json"), facts)
    looks: list[JsonValue] = [*looks_kept(here)]
    return _kept(here, trained, backbone, {**facts, "updates": _updates(settings, trained), "looks": looks})


def assist(here: Here, settings: TrainSection, *, policy: Policy, model: Mapping[str, str]) -> None:
    """A follower's part: its share of the learning. It draws nothing, asks no judge and writes nothing.

    Raises:
        StageError: its `model` is not the leader's, so their gradients would not add up.
    """
    backbone = here.cast.model(policy.name)
    if (mine := _model(backbone)) != dict(model):
        raise StageError(
            f"the leading process trains {dict(model)}, and this one has {mine}: name a dtype in `models:`"
        )
    trainer = open_kind(settings.trainer, practice=Learnt(here, policy.sampling).practice())
    learnt = fitting(lessons(here, settings), trainer, backbone, at_most=settings.max_unfit)
    _together(here, trainer, learnt.rows, backbone, policy.name)


def _together(here: Here, trainer: Any, rows: Sequence[Any], backbone: Any, name: str) -> Trained:
    """The training itself, the same in every process."""
    work = here.folder / "work"
    place = Workplace(
        folder=work,
        seed=seed_for(here.seed, "train", here.round) % 2**31,
        log=here.log,
        progress=here.progress,
        checkpoints=Checkpoints(work / "checkpoints", key=here.key, say=here.progress.say),
        rewind=here.forget,
        name=here.folder.resolve().parents[1].name,
        trackers=here.folder / "trackers",
    )
    company().meet()  # every process has its model: none waits for one that has failed before
    with spending("training"), whole_files(f"training of {name!r}"), company().together():
        trained: Trained = trainer.train(rows, backbone, place)
    return trained


def _model(backbone: Any) -> dict[str, str]:
    """What must be the same in all processes."""
    return {"fingerprint": backbone.fingerprint, "dtype": str(backbone.module.dtype)}


def _updates(settings: TrainSection, trained: Trained) -> int:
    """How many updates left a shard of draws and grades."""
    return trained.step if settings.trainer.learns_from == "prompts" else 0


def _handed(here: Here, settings: TrainSection, policy: Policy, watching: Watch | None) -> dict[str, Any]:
    """What a trainer needs from elsewhere: one that learns from prompts draws and has its draws graded."""
    if settings.trainer.learns_from != "prompts":
        return {}
    assert policy.reward is not None
    backbone = here.cast.model(policy.name)
    return {"practice": Rehearsal(here, settings, policy.reward, backbone, policy.sampling, watching).practice()}


def _kept(here: Here, trained: Trained, backbone: Any, facts: dict[str, JsonValue]) -> Outcome:
    """Moves the adapter and the trainer's artifacts to their place, commits the checkpoint, clears the workplace."""
    work, adapter = here.folder / "work", here.folder / "adapter"
    shutil.rmtree(adapter, ignore_errors=True)
    trained.adapter.rename(adapter)
    for artifact in work.glob("reference.*"):
        artifact.replace(here.folder / artifact.name)
    files = [f for f in sorted(adapter.iterdir()) if f.is_file()]
    checkpoint = Checkpoint(
        adapter="adapter",
        base=backbone.fingerprint,
        parent=str(backbone.adapter) if backbone.adapter else None,
        step=trained.step,
        config=_config_hash(adapter / CONFIG),
        files={f.name: file_hash(f) for f in files if f.name not in NAMING},
        beside={f.name: file_hash(f) for f in files if f.name in NAMING},
    )
    commit_json(here.folder / "facts.json", facts)
    commit_shard(here.folder, "00000", key=here.key, tables={Checkpoint: [checkpoint]})
    shutil.rmtree(work)
    done = _done(here)
    assert done is not None
    return done


CARD, CONFIG = "README.md", "adapter_config.json"
NAMING = frozenset({CARD, CONFIG})
"""Files that name the run and where the base lies: two equal trainings may differ in them."""


def _config_hash(path: Path) -> str:
    """What peft must know of the adapter, whatever the folder of its base is called."""
    content = json.loads(path.read_text("utf-8"))
    return content_hash({key: value for key, value in content.items() if key != "base_model_name_or_path"})


def _done(here: Here) -> Outcome | None:
    """What a finished training left, if all of it is whole: adapter, draws of every update, looks of the watch."""
    shard = shard_done(here.folder, "00000", key=here.key)
    if shard is None or damaged_adapter(here.folder, shard):
        return None
    if (facts := _kept_facts(here)) is None:
        return None
    drawn = update_shards(here, int(str(facts["updates"])))
    seen = look_shards(here, facts["looks"])
    return None if drawn is None or seen is None else Outcome((shard, *drawn, *seen), facts)


def damaged_adapter(folder: Path, shard: Shard) -> str | None:
    """The first file of the trained adapter that is gone or not what it was, or null."""
    (checkpoint,) = rows_in(folder, [shard], Checkpoint)
    for name, digest in {**checkpoint.files, **checkpoint.beside}.items():
        path = folder / checkpoint.adapter / name
        if not path.is_file() or file_hash(path) != digest:
            return str(path)
    return None


def _kept_facts(here: Here) -> dict[str, Any] | None:
    """What was said of a training beside its checkpoint; null where that is damaged."""
    try:
        facts = json.loads((here.folder / "facts.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) and {"updates", "looks"} <= facts.keys() else None


def _watched(watching: Watch, policy: Any) -> dict[str, JsonValue]:
    """What the watch judge says after training."""
    found = watching.look(policy)
    return {
        "watch_judge": watching.judge,
        "watch_prefers_trained": found.prefers,
        "watch_prefers_low": found.low,
        "watch_prefers_high": found.high,
        "watch_prompts": found.prompts,
        "watch_failures": found.failures,
    }
