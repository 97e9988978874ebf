"""The watch judge: how often it prefers the policy in training to the policy training started from, on dev prompts.

It never rewards; falling while the training judge's grades rise is over-optimisation. Each look is a shard of its own:
what it drew and how that was judged, so that a training which is killed and goes on does not look twice.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dressage.engines import judging
from dressage.engines.failing import Tally
from dressage.engines.judging import Labels
from dressage.engines.sampling import Drawn, Role, draw, drawing
from dressage.maths.stats import clustered
from dressage.protocols import Model, Sampling
from dressage.records import Candidate, Evidence, Failure, Grade, Prompt, Record, Verdict, content_hash
from dressage.settings import TrainSection
from dressage.stages._measures import within
from dressage.stages._stage import Here, StageError, Tables, drawn_by_seed
from dressage.store import Shard, commit_shard, rows_in, rows_of, shard_done

MAX_CHARS = 20_000
BEFORE, AFTER = "watch before", "watch after"


class Watched(NamedTuple):
    """Ties count ½, the interval is clustered by prompt; null where every judgement failed."""

    prefers: float | None
    low: float | None
    high: float | None
    prompts: int
    failures: int


@dataclass(frozen=True)
class Watch:
    """The dev prompts chosen by seed, and the starting policy's replies to them."""

    here: Here
    judge: str
    prompts: list[Prompt]
    sampling: Sampling
    before: dict[str, Candidate]
    max_failures: float

    def look(self, policy: Model, *names: object) -> Watched:
        """Draws a reply to each prompt from `policy` as it is now and has them compared; a look once had is kept.

        Raises:
            TooManyFailures: a larger share of this look's draws or judgements failed than train.max_failures.
        """
        name = "-".join(["watch", *map(str, names)])
        kept = shard_done(self.here.folder, name, key=_key(self.here, name))
        shard = kept or self._taken(name, policy, names)
        verdicts = list(rows_in(self.here.folder, [shard], Verdict))
        failures = list(rows_in(self.here.folder, [shard], Failure))
        return _watched(verdicts, failures)

    def _taken(self, name: str, policy: Model, names: Sequence[object]) -> Shard:
        here = self.here
        with here.progress.task("watching", 2 * len(self.prompts)) as advance:
            journal = here.journal()
            role = Role(AFTER, policy, (here.seed, "train", here.round, *names))
            drawn = draw(role, self.prompts, per_prompt=1, sampling=self.sampling, journal=journal, advance=advance)
            bench = here.cast.bench(self.judge, journal=journal, max_chars=MAX_CHARS, advance=advance)
            known = {p.id: p for p in self.prompts}
            met = [c for c in drawn.candidates if c.prompt_id in self.before]
            labels = judging.duel(bench, [(known[c.prompt_id], c, self.before[c.prompt_id]) for c in met])
        asked = len(self.prompts) * (1 if bench.judge.compares else 2)
        _count(self.judge, labels.failures, total=asked, at_most=self.max_failures)
        _count(drawing(AFTER), drawn.failures, total=len(self.prompts), at_most=self.max_failures)
        return commit_shard(here.folder, name, key=_key(here, name), tables=_tables(drawn, labels))


def _tables(drawn: Drawn, labels: Labels) -> Tables:
    failures = [*drawn.failures, *labels.failures]
    made: dict[type[Record], Sequence[Record]] = {Candidate: drawn.candidates, Grade: labels.grades}
    return {**made, Verdict: labels.verdicts, Failure: failures, Evidence: labels.evidence}


def _count(who: str, failures: Sequence[Failure], *, total: int, at_most: float) -> None:
    Tally(who, total=total, at_most=at_most, limit="train.max_failures").add(failures)


def _watched(verdicts: Sequence[Verdict], failures: Sequence[Failure]) -> Watched:
    if not verdicts:
        return Watched(None, None, None, 0, len(failures))
    wins = [(1 + (v.margin > 0) - (v.margin < 0)) / 2 for v in verdicts]
    found = within(clustered(wins, [v.prompt_id for v in verdicts]))
    return Watched(found.value, found.low, found.high, found.clusters, len(failures))


# ---------------------------------------------------------------- the looks that are kept


def _key(here: Here, name: str) -> str:
    return content_hash([here.key, name])


def looks_kept(here: Here) -> list[str]:
    """The names of the whole looks of this training, in order."""
    names = [re.sub(r"^shard-(.*)\.json$", r"\1", p.name) for p in sorted(here.folder.glob("shard-watch*.json"))]
    return [name for name in names if shard_done(here.folder, name, key=_key(here, name))]


def look_shards(here: Here, names: Sequence[str]) -> list[Shard] | None:
    """The shards of these looks, or null where one of them is missing or damaged."""
    found = [shard_done(here.folder, name, key=_key(here, name)) for name in names]
    return None if None in found else [shard for shard in found if shard]


def watch(here: Here, settings: TrainSection, *, start: Model, sampling: Sampling) -> Watch | None:
    """The watch that the YAML asks for, or null; called before training, while `start` is the policy.

    Raises:
        StageError: there are no dev prompts.
        TooManyFailures: too many of them got no reply from `start`.
    """
    if settings.watch is None:
        return None
    dev = sorted((p for p in rows_of(here.inputs["data"], Prompt) if p.split == "dev"), key=lambda p: p.id)
    chosen = drawn_by_seed(dev, settings.watch_prompts, here.seed, "watch", here.round)
    if not chosen:
        raise StageError("train.watch looks at dev prompts and there are none; give data.source a dev split")
    name = "watch-before"
    shard = shard_done(here.folder, name, key=_key(here, name))
    if shard is None:
        role = Role(BEFORE, start, (here.seed, "train", here.round))
        with here.progress.task("replies to watch by", len(chosen)) as advance:
            drawn = draw(role, chosen, per_prompt=1, sampling=sampling, journal=here.journal(), advance=advance)
        _count(drawing(BEFORE), drawn.failures, total=len(chosen), at_most=settings.max_failures)
        shard = commit_shard(here.folder, name, key=_key(here, name), tables=_tables(drawn, Labels()))
    before = {c.prompt_id: c for c in rows_in(here.folder, [shard], Candidate)}
    return Watch(here, settings.watch, chosen, sampling, before, settings.max_failures)
