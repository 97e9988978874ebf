"""What an on-policy trainer is handed: draws from its policy, grades of any judge, and a memory of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from dressage.engines import judging
from dressage.engines.failing import Tally, grades_of_broken
from dressage.engines.hearing import Bench
from dressage.engines.sampling import Role, draw, drawing
from dressage.protocols import Graded, Practice, Sampling
from dressage.records import Candidate, Failure, Grade, Prompt, content_hash
from dressage.settings import JudgeSection, TrainSection
from dressage.stages._stage import Here, StageError
from dressage.stages._watching import Watch
from dressage.store import Shard, commit_shard, rows_in, shard_done


def update_name(update: int) -> str:
    """The name of the shard that holds what an update drew."""
    return f"update-{update:05d}"


def update_key(here: Here, update: int) -> str:
    return content_hash([here.key, "update", update])


def update_shards(here: Here, updates: int) -> list[Shard] | None:
    """The shards of all updates, or null where one of them is missing or damaged."""
    found = [shard_done(here.folder, update_name(u), key=update_key(here, u)) for u in range(1, updates + 1)]
    return None if None in found else [shard for shard in found if shard]


def rows_kept(here: Here, update: int) -> list[tuple[Candidate, Graded]] | None:
    """What an update drew and how it was graded, or null where that is not kept."""
    shard = shard_done(here.folder, update_name(update), key=update_key(here, update))
    if shard is None:
        return None
    graded: dict[str, Graded] = {f.candidate_ids[0]: f for f in rows_in(here.folder, [shard], Failure)}
    graded |= {g.candidate_id: g for g in rows_in(here.folder, [shard], Grade)}
    return [(c, graded[c.id]) for c in rows_in(here.folder, [shard], Candidate)]


@dataclass(frozen=True)
class Learnt:
    """What the followers of a training are handed: the leader draws and has graded, they read what it kept."""

    here: Here
    sampling: Sampling

    def practice(self) -> Practice:
        return Practice(
            sampling=self.sampling,
            draw=self._leaders,
            reward=self._leaders,
            kept=lambda update: rows_kept(self.here, update),
            keep=self._leaders,
        )

    def _leaders(self, *asked: object) -> NoReturn:
        raise StageError("only the leading process of a training draws, has graded and writes")


@dataclass
class Rehearsal:
    """Draws, grades and remembers for one training; `backbone` is the model whose active adapter learns."""

    here: Here
    settings: TrainSection
    judge: JudgeSection
    backbone: Any
    sampling: Sampling
    watch: Watch | None

    def __post_init__(self) -> None:
        journal = self.here.journal()
        self._journal = journal
        self._bench: Bench = self.here.cast.bench(
            self.judge.by, journal=journal, max_chars=self.judge.max_chars, advance=lambda n: None
        )
        # The limit on failures holds over the whole training, as it does over a whole judge stage.
        draws = self.settings.trainer.draws()
        self._tally = Tally(self.judge.by, total=draws, at_most=self.judge.max_failures, limit="judge.max_failures")
        at_most = self.settings.max_failures
        self._undrawn = Tally(drawing("policy"), total=draws, at_most=at_most, limit="train.max_failures")
        self._replies: dict[str, Candidate] = {}

    def practice(self) -> Practice:
        return Practice(
            sampling=self.sampling,
            draw=self.draw,
            reward=self.reward,
            kept=self.kept,
            keep=self.keep,
            watch=self.look if self.watch else None,
        )

    def draw(self, prompts: Sequence[Prompt], per_prompt: int, update: int) -> list[Candidate]:
        """Replies of the policy as it is now; a prompt that gives none is simply not in the update.

        Raises:
            TooManyFailures: more than train.max_failures of all draws of this training.
        """
        live = self.backbone.as_is(self.here.key, update)
        role = Role("policy", live, (self.here.seed, "train", self.here.round, "update", update))
        drawn = draw(
            role, prompts, per_prompt=per_prompt, sampling=self.sampling, journal=self._journal, advance=lambda n: None
        )
        self._undrawn.add(drawn.failures)
        return drawn.candidates

    def reward(self, prompts: Sequence[Prompt], candidates: Sequence[Candidate]) -> list[Graded]:
        """A grade or a failure a candidate; what a reply broke itself has the grade of `judge.broken_response`.

        Raises:
            TooManyFailures: more than judge.max_failures of all draws of this training.
        """
        items = list(zip(prompts, candidates, strict=True))
        if self._bench.judge.compares:
            answers = self._against_the_reference(items)
        else:
            labels = judging.grade(self._bench, items)
            grades = labels.grades + grades_of_broken(labels.failures, labels.grades, rule=self.judge.broken_response)
            answers = {f.candidate_ids[0]: f for f in labels.failures} | {g.candidate_id: g for g in grades}
        self._tally.add(a for a in answers.values() if isinstance(a, Failure))
        return [answers[c.id] for c in candidates]

    def _against_the_reference(self, items: Sequence[judging.Item]) -> dict[str, Graded]:
        """A comparing judge grades by the probability that a reply beats one of the policy training started from."""
        if self.settings.opponent is None:
            raise StageError(
                f"judge {self.judge.by!r} compares two replies, and {self.settings.trainer.kind} needs a grade of "
                "one; set train.opponent: reference (the grade is then the probability of beating a reply of the "
                "policy training starts from), or take a judge that grades"
            )
        missing = list({p.id: p for p, _ in items if p.id not in self._replies}.values())
        role = Role("opponent", self.backbone, (self.here.seed, "train", self.here.round))
        drawn = draw(role, missing, per_prompt=1, sampling=self.sampling, journal=self._journal, advance=lambda n: None)
        self._replies |= {c.prompt_id: c for c in drawn.candidates}
        duels = [(p, c, self._replies[p.id]) for p, c in items if p.id in self._replies]
        labels = judging.duel(self._bench, duels)
        failed = {c: f for f in labels.failures for c in f.candidate_ids}
        found: dict[str, Graded] = {
            c.id: failed.get(c.id) or _no_opponent(self.judge.by, p, c) for p, c in items
        }  # what has a verdict is overwritten
        for v in labels.verdicts:
            words = tuple(vote.words for vote in v.votes)
            found[v.first] = Grade(
                prompt_id=v.prompt_id,
                candidate_id=v.first,
                judge=v.judge,
                score=v.p,
                raw=v.margin,
                normalised="probability of beating the reference's reply",
                words=words,
                usage=v.usage,
            )
        return found

    def kept(self, update: int) -> list[tuple[Candidate, Graded]] | None:
        """What an earlier attempt at this update drew, and how it was graded."""
        rows = rows_kept(self.here, update)
        self._tally.add(answer for _, answer in rows or [] if isinstance(answer, Failure))
        return rows

    def keep(self, update: int, rows: Sequence[tuple[Candidate, Graded]]) -> None:
        commit_shard(
            self.here.folder,
            update_name(update),
            key=update_key(self.here, update),
            tables={
                Candidate: [c for c, _ in rows],
                Grade: [g for _, g in rows if isinstance(g, Grade)],
                Failure: [f for _, f in rows if isinstance(f, Failure)],
            },
        )

    def look(self, update: int) -> float | None:
        """How often the watch judge prefers the policy as it is now."""
        assert self.watch is not None
        return self.watch.look(self.backbone.as_is(self.here.key, update), "update", update).prefers


def _no_opponent(judge: str, prompt: Prompt, candidate: Candidate) -> Failure:
    return Failure(
        prompt_id=prompt.id,
        candidate_ids=(candidate.id,),
        judge=judge,
        side="infrastructure",
        reason="no opponent",
        detail="the reference gave no reply to compare with, or the pair was left out",
    )
