"""What a trainer learns from: preferences, pairs or examples of the user's own, or prompts; never what is held out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dressage.plugins import open_kind
from dressage.protocols import Example, Pair
from dressage.records import Candidate, Preference, Prompt
from dressage.settings import TrainSection
from dressage.sources._columns import example_of, pair_of
from dressage.sources._rows import read
from dressage.stages._stage import Here, StageError
from dressage.store import rows_of

Lesson = Pair | Example | Prompt


@dataclass(frozen=True)
class Lessons:
    """The rows, and how many were left out and why."""

    rows: Sequence[Lesson]
    left_out: dict[str, int]


def lessons(here: Here, settings: TrainSection) -> Lessons:
    """The rows of the train split, without those whose prompt the data stage holds out.

    Raises:
        StageError: nothing is left to learn from.
    """
    if settings.trainer.learns_from == "prompts":
        return Lessons(_prompts(here, least=settings.trainer.prompts_at_once()), {})
    pairs = settings.trainer.learns_from == "pairs"
    found, left_out = _own(settings, pairs) if settings.input else (_preferred(here, pairs), {})
    held_out = _held_out(here)
    kept = [row for row in found if row.prompt.split == "train" and row.prompt.id not in held_out]
    left_out |= {"rows_held_out": len(found) - len(kept)}
    if not kept:
        whence = "train.input gave" if settings.input else "the judge made"
        raise StageError(
            f"train has nothing to learn from: {whence} {len(found)} rows, {left_out['rows_held_out']} of them on "
            "prompts that are held out (dev or test); look at judge.min_margin, or at the `split` of what you bring"
        )
    return Lessons(kept, left_out)


def _prompts(here: Here, *, least: int) -> list[Lesson]:
    prompts = sorted((p for p in rows_of(here.inputs["data"], Prompt) if p.split == "train"), key=lambda p: p.id)
    if not prompts:
        raise StageError("train has no prompts to practise on; give data.source a train split")
    if len(prompts) < least:
        raise StageError(
            f"train.trainer.prompts_per_update is {least}, and the data stage left {len(prompts)} prompts of the train "
            "split; lower it, or bring more prompts and --redo data"
        )
    return list(prompts)


def _own(settings: TrainSection, pairs: bool) -> tuple[list[Pair | Example], dict[str, int]]:
    assert settings.input is not None
    source = open_kind(settings.input)
    if pairs:
        given = read(settings.input, source, convert=pair_of)
        return [Pair(*row) for row in given.made], {"rows_unreadable": len(given.bad)}
    shown = read(settings.input, source, convert=example_of)
    return [Example(*row) for row in shown.made], {"rows_unreadable": len(shown.bad)}


def _preferred(here: Here, pairs: bool) -> list[Pair | Example]:
    """The judge's preferences with the prompts and candidates they name, or the best of each as an example."""
    brought = next(rows_of(here.inputs["judge"], Candidate), None) is not None
    origin = here.inputs["judge"] if brought else here.inputs["data"]
    prompts = {p.id: p for p in rows_of(origin, Prompt)}
    candidates = {c.id: c for c in rows_of(origin, Candidate)}
    found = [
        Pair(prompts[p.prompt_id], candidates[p.chosen], candidates[p.rejected], p.margin)
        for p in rows_of(here.inputs["judge"], Preference)
    ]
    if pairs:
        return list(found)
    return [Example(p.prompt, p.chosen) for p in {pair.chosen.id: pair for pair in found}.values()]


def _held_out(here: Here) -> frozenset[str]:
    """The ids of the dev and test prompts, as they are asked and without a system message: a run puts its own before
    prompts that have none, and rows of the user's own may be without it."""
    return frozenset(_ids(here)) if "data" in here.inputs else frozenset()


def _ids(here: Here) -> Iterator[str]:
    for prompt in rows_of(here.inputs["data"], Prompt):
        if prompt.split != "train":
            yield prompt.id
            if prompt.messages[0].role == "system":
                yield Prompt.of(prompt.messages[1:], source=prompt.source, split=prompt.split).id


def fitting(lessons: Lessons, trainer: Any, backbone: Any, *, at_most: float) -> Lessons:
    """The rows that fit the context whole; none is cut, and too many misfits stop the stage."""
    limit = trainer.limit(backbone)
    kept = [row for row in lessons.rows if limit is None or trainer.tokens(row, backbone) <= limit]
    unfit = len(lessons.rows) - len(kept)
    if unfit / len(lessons.rows) > at_most:
        raise StageError(
            f"{unfit} of {len(lessons.rows)} rows are longer than the {limit} tokens that fit, more than "
            f"train.max_unfit ({at_most:g}); shorten them, take a model with a longer context, or raise the limit"
        )
    return Lessons(kept, {**lessons.left_out, "rows_unfit": unfit})
