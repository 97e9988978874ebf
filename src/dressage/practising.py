"""Whether a training could do what the YAML asks: a reward, draws that differ, prompts enough, looks in time."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from dressage.records import Split
from dressage.settings import RunSettings
from dressage.strict_yaml import KeyPath

SPLITS: tuple[Split, ...] = ("train", "dev", "test")


class TooFewPrompts(ValueError):
    """A stage to come would find fewer prompts of a split than it needs; says which, and the ways out."""


def compares(run: RunSettings, name: str) -> bool:
    """Whether a judge decides between two; a panel is as its members."""
    judge = run.judges[name]
    return judge.two_at_once() or any(compares(run, member) for member in judge.members())


def practice(run: RunSettings) -> Iterator[tuple[KeyPath, str]]:
    """What a training needs of the other sections."""
    if run.train is None:
        return
    if run.train.trainer.learns_from == "prompts":
        yield from _draws_for_itself(run)
        yield from _rewarded(run)
        yield from _watched(run)
        return
    if run.train.opponent:
        yield (
            ("train", "opponent"),
            f"is for trainers that draw for themselves; {run.train.trainer.kind} does not; leave it out",
        )
    if run.train.input is None and run.judge is not None and run.judge.input is None:
        yield from _can_differ(run)
    brought = {
        "train.input": run.train.input,
        "judge.input": run.judge and run.judge.input,
        "data.also": run.data and run.data.also,
    }
    if getattr(run.train.trainer, "reference", None) == "sampled" and (
        others := next(filter(brought.get, brought), "")
    ):
        yield (
            ("train", "trainer", "reference"),
            f"is sampled, and {others} brings replies of others, of which the policy recorded no log-probabilities; "
            "set reference: computed",
        )


def _can_differ(run: RunSettings) -> Iterator[tuple[KeyPath, str]]:
    """A better and a worse reply to a prompt: both are needed, for the best of n too."""
    assert run.train is not None
    if run.data is None or not run.data.per_prompt:
        return  # told elsewhere: there are no candidates at all
    kind, alone = run.train.trainer.kind, not run.data.also
    if alone and run.data.per_prompt == 1:
        yield (
            ("data", "per_prompt"),
            f"is 1: {kind} learns from the better of two replies or more to a prompt; raise it, or name a second "
            "model in data.also",
        )
    elif alone and run.data.sampling.temperature == 0:
        yield (
            ("data", "sampling", "temperature"),
            f"is 0, so all {run.data.per_prompt} replies to a prompt are the same and none is better; raise it",
        )


def _draws_for_itself(run: RunSettings) -> Iterator[tuple[KeyPath, str]]:
    """It needs prompts, and scores as it samples."""
    assert run.train is not None
    kind = run.train.trainer.kind
    if run.train.input is not None:
        yield ("train", "input"), f"gives rows, and {kind} draws for itself from data's prompts; leave it out"
    if run.data is None:
        yield ("train",), f"{kind} draws from prompts: add `data:` with a source and per_prompt: 0"
    elif run.data.per_prompt:
        yield (
            ("data", "per_prompt"),
            f"is {run.data.per_prompt}, and {kind} draws for itself: set data.per_prompt: 0 (data then only prepares "
            "prompts)",
        )
    if run.data and run.data.sampling.top_p < 1:
        yield (
            ("data", "sampling", "top_p"),
            f"is {run.data.sampling.top_p:g}: {kind} scores replies under the whole distribution, so it must draw "
            "from the whole (top_p: 1); lower the temperature instead",
        )
    if run.data and run.data.sampling.temperature == 0:
        yield ("data", "sampling", "temperature"), f"is 0: {kind} learns from differences between draws; raise it"


def _rewarded(run: RunSettings) -> Iterator[tuple[KeyPath, str]]:
    """It needs a judge that grades one reply, or one that compares and somebody to compare with."""
    assert run.train is not None
    kind = run.train.trainer.kind
    if run.judge is None:
        yield ("train",), f"{kind} needs a reward: add `judge:` with by: NAME"
    elif compares(run, run.judge.by) and run.train.opponent is None:
        yield (
            ("judge", "by"),
            f"{run.judge.by!r} compares two replies, and {kind} needs a grade of one; set train.opponent: reference "
            "(the grade is then the probability of beating a reply of the policy training starts from), or take a "
            "judge that grades",
        )
    elif not compares(run, run.judge.by) and run.train.opponent is not None:
        yield ("train", "opponent"), f"is for judges that compare; {run.judge.by!r} grades; leave it out"


def _watched(run: RunSettings) -> Iterator[tuple[KeyPath, str]]:
    """A watch judge that is to stop a training must look often enough to: the first look only says where it stood."""
    assert run.train is not None
    alarms = getattr(run.train.trainer, "alarms", None)
    if run.train.watch is None or alarms is None or alarms.watch_falls_by is None:
        return
    updates, looks = run.train.trainer.rounds(), alarms.patience + 1
    if alarms.watch_every * looks > updates:
        lower = f"lower it to {updates // looks} or less, or " if updates >= looks else ""
        yield (
            ("train", "trainer", "alarms", "watch_every"),
            f"is {alarms.watch_every}, and train.watch can stop a training at its look {looks} (alarms.patience + 1) "
            f"at the earliest, and there are {updates} updates: {lower}set alarms.watch_falls_by: null, and it only "
            "looks on",
        )


# ---------------------------------------------------------------- prompts


class Need(NamedTuple):
    """How many prompts of a split the stages to come ask for, and what to say where there are fewer."""

    split: Split
    least: int
    said: str
    way_out: str


def needs(run: RunSettings) -> Iterator[Need]:
    """What the data stage must give, so that no later stage stands there with nothing to do."""
    if run.data is None:
        return
    more = "give data.source more of that split (`split`, data.at_most)"
    if run.train is not None and run.train.trainer.learns_from == "prompts":
        kind, count = run.train.trainer.kind, run.train.trainer.prompts_at_once()
        said = f"train.trainer.prompts_per_update is {count}" if count > 1 else f"{kind} practises on prompts"
        yield Need("train", count, said, f"lower it, or {more}" if count > 1 else more)
    elif run.data.per_prompt and run.judge is not None and run.judge.input is None:
        yield Need("train", 1, "candidates are drawn and judged on the train split", more)
    if run.train is not None and run.train.watch:
        yield Need("dev", 1, "train.watch looks at the dev split", more)
    if run.evaluate is not None:
        yield Need(run.evaluate.split, 1, f"evaluate.split is {run.evaluate.split}", f"name another split, or {more}")


def enough(run: RunSettings, found: Mapping[Split, int]) -> None:
    """Asked before anything is drawn, of the prompts that a source gives.

    Raises:
        TooFewPrompts: fewer than a stage to come needs.
    """
    for need in needs(run):
        there = found.get(need.split, 0)
        if there < need.least:
            every = ", ".join(f"{found.get(split, 0)} {split}" for split in SPLITS)
            raise TooFewPrompts(
                f"{need.said}, and data gives {there or 'no'} such prompt{'s' * (there != 1)} ({every}); {need.way_out}"
            )
