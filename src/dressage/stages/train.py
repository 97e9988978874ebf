"""Learn from preferences. Reads preferences (or your own pairs) and the policy; writes an adapter, a checkpoint."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from dressage.clock import spending
from dressage.engines import judging
from dressage.engines.sampling import Role, draw
from dressage.plugins import open_kind
from dressage.protocols import Example, Pair, Sampling, Trained, Workplace
from dressage.records import Candidate, Checkpoint, Preference, Prompt
from dressage.seeds import seed_for
from dressage.settings import TrainSection
from dressage.sources._columns import example_of, pair_of
from dressage.sources._rows import read
from dressage.stages._stage import Here, Outcome, StageError, drawn_by_seed
from dressage.store import Shard, commit_shard, commit_text, file_hash, rows_in, rows_of, shard_done


@dataclass(frozen=True)
class Origin:
    """What a model card must say about where an adapter comes from."""

    run: str
    policy: str
    base: str
    sampling: Sampling
    judged_by: str


def run(here: Here, settings: TrainSection, *, origin: Origin) -> Outcome:
    """Trains once; a killed training starts again from its beginning."""
    if (shard := shard_done(here.folder, "00000", key=here.key)) and not damaged_adapter(here.folder, shard):
        return Outcome((shard,), _kept_facts(here))
    here.forget()
    backbone = here.cast.model(origin.policy)
    trainer = open_kind(settings.trainer)
    data = _data(here, settings)
    fitting, unfit = _fitting(data, trainer, backbone, settings.max_unfit)
    work = here.folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    place = Workplace(work, seed_for(here.seed, "train", here.round) % 2**31, here.log, here.progress)
    with spending("training"):
        trained: Trained = trainer.train(fitting, backbone, place)
    facts: dict[str, JsonValue] = {**trained.facts, "rows": len(fitting), "rows_unfit": unfit}
    if settings.watch:
        facts |= _watched(here, settings, origin, trained.adapter)
    adapter = here.folder / "adapter"
    _card(trained.adapter, settings, origin, facts)
    shutil.rmtree(adapter, ignore_errors=True)
    trained.adapter.rename(adapter)
    for artifact in work.glob("reference.*"):
        artifact.replace(here.folder / artifact.name)
    shutil.rmtree(work)
    checkpoint = Checkpoint(
        adapter="adapter",
        base=backbone.fingerprint,
        parent=str(backbone.adapter) if backbone.adapter else None,
        step=trained.step,
        files={f.name: file_hash(f) for f in sorted(adapter.iterdir()) if f.is_file()},
    )
    commit_text(here.folder / "facts.json", _json(facts))
    shard = commit_shard(here.folder, "00000", key=here.key, tables={Checkpoint: [checkpoint]})
    return Outcome((shard,), facts)


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


def _data(here: Here, settings: TrainSection) -> Sequence[Pair | Example]:
    learns = settings.trainer.learns_from
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


def _fitting(
    data: Sequence[Pair | Example], trainer: Any, backbone: Any, at_most: float
) -> tuple[list[Pair | Example], int]:
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


# ---------------------------------------------------------------- watching, and the card


def _watched(here: Here, settings: TrainSection, origin: Origin, adapter: Path) -> dict[str, JsonValue]:
    """How often the watch judge prefers the trained policy on dev prompts: falling while the reward rises
    is over-optimisation."""
    assert settings.watch is not None
    dev = sorted((p for p in rows_of(here.inputs["data"], Prompt) if p.split == "dev"), key=lambda p: p.id)
    chosen = drawn_by_seed(dev, settings.watch_prompts, here.seed, "watch", here.round)
    if not chosen:
        raise StageError("train.watch looks at dev prompts and there are none; give data.source a dev split")
    before = here.cast.model(origin.policy)
    journal = here.journal()
    sides = {"watch before": before, "watch after": before.wearing(adapter)}
    with here.progress.task("watching", 3 * len(chosen)) as advance:
        replies = []
        for name, model in sides.items():
            role = Role(name, model, (here.seed, "train", here.round))
            drawn = draw(role, chosen, per_prompt=1, sampling=origin.sampling, journal=journal, advance=advance)
            replies.append({c.prompt_id: c for c in drawn.candidates})
        bench = here.cast.bench(settings.watch, journal=journal, max_chars=20_000, advance=advance)
        duels = [(p, replies[1][p.id], replies[0][p.id]) for p in chosen if p.id in replies[0] and p.id in replies[1]]
        labels = judging.duel(bench, duels)
    wins = [(1 + (v.margin > 0) - (v.margin < 0)) / 2 for v in labels.verdicts]
    return {
        "watch_judge": settings.watch,
        "watch_prefers_trained": sum(wins) / len(wins) if wins else None,
        "watch_prompts": len(wins),
        "watch_failures": len(labels.failures),
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
