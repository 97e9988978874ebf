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
from dressage.plugins import open_kind
from dressage.protocols import Example, Pair, Sampling, Trained, Workplace
from dressage.records import Candidate, Checkpoint, Preference, Prompt
from dressage.seeds import seed_for
from dressage.settings import JudgeSection, TrainSection
from dressage.sources._columns import example_of, pair_of
from dressage.sources._rows import read
from dressage.stages._practice import Rehearsal, update_shards
from dressage.stages._stage import Here, Outcome, StageError
from dressage.stages._watching import Watch, watch
from dressage.store import Shard, commit_shard, commit_text, file_hash, rows_in, rows_of, shard_done

Data = Sequence[Pair | Example | Prompt]


@dataclass(frozen=True)
class Origin:
    """What a model card must say about where an adapter comes from."""

    run: str
    policy: str
    base: str
    sampling: Sampling
    judged_by: str
    reward: JudgeSection | None
    """Who grades what an on-policy trainer draws."""


def run(here: Here, settings: TrainSection, *, origin: Origin) -> Outcome:
    """Trains once; a killed training goes on from its newest whole checkpoint."""
    if done := _done(here):
        return done
    backbone = here.cast.model(origin.policy)
    watching = watch(here, settings, start=backbone, sampling=origin.sampling)
    trainer = open_kind(settings.trainer, **_handed(here, settings, origin, watching))
    data = _data(here, settings)
    fitting, unfit = _fitting(data, trainer, backbone, settings.max_unfit)
    work = here.folder / "work"
    place = Workplace(
        folder=work,
        seed=seed_for(here.seed, "train", here.round) % 2**31,
        log=here.log,
        progress=here.progress,
        checkpoints=Checkpoints(work / "checkpoints", key=here.key, say=here.progress.say),
        rewind=here.forget,
    )
    with spending("training"):
        trained: Trained = trainer.train(fitting, backbone, place)
    facts: dict[str, JsonValue] = {**trained.facts, "rows": len(fitting), "rows_unfit": unfit}
    if watching:
        facts |= _watched(watching, backbone.wearing(trained.adapter))
    _card(trained.adapter, settings, origin, facts)
    return _kept(here, trained, backbone, {**facts, "updates": _updates(settings, trained)})


def _updates(settings: TrainSection, trained: Trained) -> int:
    """How many updates left a shard of draws and grades."""
    return trained.step if settings.trainer.learns_from == "prompts" else 0


def _handed(here: Here, settings: TrainSection, origin: Origin, watching: Watch | None) -> dict[str, Any]:
    """What a trainer needs from elsewhere: one that learns from prompts draws and has its draws graded."""
    if settings.trainer.learns_from != "prompts":
        return {}
    assert origin.reward is not None
    backbone = here.cast.model(origin.policy)
    return {"practice": Rehearsal(here, settings, origin.reward, backbone, origin.sampling, watching).practice()}


def _kept(here: Here, trained: Trained, backbone: Any, facts: dict[str, JsonValue]) -> Outcome:
    """Moves the adapter and the trainer's artifacts to their place, commits the checkpoint, clears the workplace."""
    work, adapter = here.folder / "work", here.folder / "adapter"
    shutil.rmtree(adapter, ignore_errors=True)
    trained.adapter.rename(adapter)
    for artifact in work.glob("reference.*"):
        artifact.replace(here.folder / artifact.name)
    checkpoint = Checkpoint(
        adapter="adapter",
        base=backbone.fingerprint,
        parent=str(backbone.adapter) if backbone.adapter else None,
        step=trained.step,
        files={f.name: file_hash(f) for f in sorted(adapter.iterdir()) if f.is_file()},
    )
    commit_text(here.folder / "facts.json", _json(facts))
    commit_shard(here.folder, "00000", key=here.key, tables={Checkpoint: [checkpoint]})
    shutil.rmtree(work)
    done = _done(here)
    assert done is not None
    return done


def _done(here: Here) -> Outcome | None:
    """What a finished training left, if all of it is whole: the adapter, and the draws of every update."""
    shard = shard_done(here.folder, "00000", key=here.key)
    if shard is None or damaged_adapter(here.folder, shard):
        return None
    facts = _kept_facts(here)
    drawn = update_shards(here, int(str(facts.get("updates", 0))))
    return None if drawn is None else Outcome((shard, *drawn), facts)


def damaged_adapter(folder: Path, shard: Shard) -> str | None:
    """The first file of the trained adapter that is gone or not what it was, or null."""
    (checkpoint,) = rows_in(folder, [shard], Checkpoint)
    for name, digest in checkpoint.files.items():
        path = folder / checkpoint.adapter / name
        if not path.is_file() or file_hash(path) != digest:
            return str(path)
    return None


def _json(facts: Mapping[str, JsonValue]) -> str:
    return json.dumps(facts, indent=1, sort_keys=True) + "\n"


def _kept_facts(here: Here) -> dict[str, JsonValue]:
    path = here.folder / "facts.json"
    facts: dict[str, JsonValue] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return facts


# ---------------------------------------------------------------- what is learnt from


def _data(here: Here, settings: TrainSection) -> Data:
    learns = settings.trainer.learns_from
    if learns == "prompts":
        prompts = sorted((p for p in rows_of(here.inputs["data"], Prompt) if p.split == "train"), key=lambda p: p.id)
        if not prompts:
            raise StageError("train has no prompts to practise on; give data.source a train split")
        return prompts
    if settings.input is not None:
        source = open_kind(settings.input)
        if learns == "pairs":
            rows = read(settings.input, source, convert=pair_of).made
            found: list[Pair | Example] = [Pair(*row) for row in rows]
        else:
            found = [Example(*row) for row in read(settings.input, source, convert=example_of).made]
    else:
        pairs = _preferred(here)
        best = {pair.chosen.id: pair for pair in pairs}
        found = list(pairs) if learns == "pairs" else [Example(p.prompt, p.chosen) for p in best.values()]
    if not found:
        raise StageError("train has nothing to learn from: no preference was made, or train.input is empty")
    return found


def _preferred(here: Here) -> list[Pair]:
    """The judge's preferences with the prompts and candidates they name."""
    brought = next(rows_of(here.inputs["judge"], Candidate), None) is not None
    origin = here.inputs["judge"] if brought else here.inputs["data"]
    prompts = {p.id: p for p in rows_of(origin, Prompt)}
    candidates = {c.id: c for c in rows_of(origin, Candidate)}
    return [
        Pair(prompts[p.prompt_id], candidates[p.chosen], candidates[p.rejected], p.margin)
        for p in rows_of(here.inputs["judge"], Preference)
    ]


def _fitting(data: Data, trainer: Any, backbone: Any, at_most: float) -> tuple[list[Pair | Example | Prompt], int]:
    """The rows that fit the context whole; none is cut, and too many misfits stop the stage."""
    limit = trainer.limit(backbone)
    fitting = [row for row in data if limit is None or trainer.tokens(row, backbone) <= limit]
    unfit = len(data) - len(fitting)
    if unfit / len(data) > at_most:
        raise StageError(
            f"{unfit} of {len(data)} rows are longer than the {limit} tokens that fit, more than "
            f"train.max_unfit ({at_most:g}); shorten them, take a model with a longer context, or raise the limit"
        )
    return fitting, unfit


# ---------------------------------------------------------------- the card


def _watched(watching: Watch, policy: Any) -> dict[str, JsonValue]:
    """What the watch judge says after training."""
    found = watching.look(policy)
    return {
        "watch_judge": watching.judge,
        "watch_prefers_trained": found.prefers,
        "watch_prompts": found.prompts,
        "watch_failures": found.failures,
    }


def _card(adapter: Path, settings: TrainSection, origin: Origin, facts: Mapping[str, JsonValue]) -> None:
    """The model card: what data, judge and settings made this adapter."""
    trainer = settings.trainer.model_dump(mode="json")
    lines = [
        "---",
        f"base_model: {origin.base}",
        "library_name: peft",
        "tags: [dressage, lora]",
        "---",
        f"# Adapter of run `{origin.run}`",
        "",
        f"LoRA adapter on `{origin.base}`, trained by dressage with `{settings.trainer.kind}`; "
        f"its labels come from {origin.judged_by}.",
        "It loads with `peft.PeftModel.from_pretrained(base_model, this_folder)`.",
        "",
        "| fact | value |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in facts.items()),
        "",
        "Trainer settings:",
        "",
        "```json",
        _json(trainer).strip(),
        "```",
        "",
        "The run's folder has the prompts, candidates, labels and the resolved config. Nothing here says that "
        "the adapter is safe or better: see the run's report for who preferred it, on what, and at what price.",
    ]
    commit_text(adapter / "README.md", "\n".join(lines) + "\n")
