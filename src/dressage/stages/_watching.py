"""The watch judge: how often it prefers the policy in training to the policy training started from, on dev prompts.

It never rewards; falling while the training judge's grades rise is over-optimisation.
"""

from dataclasses import dataclass
from typing import NamedTuple

from dressage.engines import judging
from dressage.engines.sampling import Role, draw
from dressage.protocols import Model, Sampling
from dressage.records import Candidate, Prompt
from dressage.settings import TrainSection
from dressage.stages._stage import Here, StageError, drawn_by_seed
from dressage.store import rows_of

MAX_CHARS = 20_000


class Watched(NamedTuple):
    """Ties count ½; null where every judgement failed."""

    prefers: float | None
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

    def look(self, policy: Model, *names: object) -> Watched:
        """Draws a reply to each prompt from `policy` as it is now and has them compared."""
        with self.here.progress.task("watching", 2 * len(self.prompts)) as advance:
            journal = self.here.journal()
            role = Role("watch after", policy, (self.here.seed, "train", self.here.round, *names))
            drawn = draw(
                role, self.prompts, per_prompt=1, sampling=self.sampling, journal=journal, advance=advance
            ).candidates
            bench = self.here.cast.bench(self.judge, journal=journal, max_chars=MAX_CHARS, advance=advance)
            known = {p.id: p for p in self.prompts}
            labels = judging.duel(
                bench,
                [(known[c.prompt_id], c, self.before[c.prompt_id]) for c in drawn if c.prompt_id in self.before],
            )
        wins = [(1 + (v.margin > 0) - (v.margin < 0)) / 2 for v in labels.verdicts]
        return Watched(sum(wins) / len(wins) if wins else None, len(wins), len(labels.failures))


def watch(here: Here, settings: TrainSection, *, start: Model, sampling: Sampling) -> Watch | None:
    """The watch that the YAML asks for, or null; called before training, while `start` is the policy.

    Raises:
        StageError: there are no dev prompts.
    """
    if settings.watch is None:
        return None
    dev = sorted((p for p in rows_of(here.inputs["data"], Prompt) if p.split == "dev"), key=lambda p: p.id)
    chosen = drawn_by_seed(dev, settings.watch_prompts, here.seed, "watch", here.round)
    if not chosen:
        raise StageError("train.watch looks at dev prompts and there are none; give data.source a dev split")
    role = Role("watch before", start, (here.seed, "train", here.round))
    with here.progress.task("replies to watch by", len(chosen)) as advance:
        drawn = draw(role, chosen, per_prompt=1, sampling=sampling, journal=here.journal(), advance=advance)
    return Watch(here, settings.watch, chosen, sampling, {c.prompt_id: c for c in drawn.candidates})
