"""Parts for tests of on-policy trainers: a real local model to draw from, and rewards that are plain functions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from training_parts import prompt_of

from dressage.models.local.model import LocalModel
from dressage.protocols import Graded, Practice, Sampling, Trouble
from dressage.records import Candidate, Failure, Grade, Message, Prompt
from dressage.seeds import seed_for

HOT = Sampling(temperature=0.8, max_new_tokens=12)

Score = Callable[[Candidate], float | None]
"""A grade in [0, 1], or null for a failed judgement."""


def prompts(n: int) -> list[Prompt]:
    return [prompt_of(i) for i in range(n)]


def share_below(token: int) -> Score:
    """How much of a reply are tokens with smaller ids: a reward whose optimum, 1, is known."""

    def score(candidate: Candidate) -> float:
        return sum(t < token for t in candidate.token_ids) / len(candidate.token_ids)

    return score


def graded(candidate: Candidate, score: float | None) -> Graded:
    if score is None:
        return Failure(
            prompt_id=candidate.prompt_id,
            candidate_ids=(candidate.id,),
            judge="test",
            side="infrastructure",
            reason="no answer",
        )
    return Grade(prompt_id=candidate.prompt_id, candidate_id=candidate.id, judge="test", score=score)


@dataclass
class Gym:
    """Draws from a local model as it is, grades by a function, remembers like a run's folder."""

    model: LocalModel
    score: Score
    sampling: Sampling = HOT
    seed: int = 0
    memory: dict[int, list[tuple[Candidate, Graded]]] = field(default_factory=dict)
    drawn: list[int] = field(default_factory=list)
    """The updates for which replies were drawn, in order."""
    watch: Callable[[int], float | None] | None = None

    def practice(self) -> Practice:
        return Practice(self.sampling, self._draw, self._reward, self.memory.get, self._keep, self.watch)

    def _draw(self, asked: Sequence[Prompt], per_prompt: int, update: int) -> list[Candidate]:
        self.drawn.append(update)
        tasks = [(p, i, seed_for(self.seed, update, p.id, i)) for p in asked for i in range(per_prompt)]
        replies: list[Any] = self.model.as_is(update).complete(
            [p.messages for p, _, _ in tasks],
            sampling=self.sampling,
            seeds=[seed for _, _, seed in tasks],
            done=lambda i, answer: None,
        )
        assert not any(isinstance(r, Trouble) for r in replies)
        return [
            Candidate.of(
                prompt_id=p.id,
                messages=(Message(role="assistant", content=r.text),),
                token_ids=r.token_ids,
                mask=(True,) * len(r.token_ids),
                logprobs=r.logprobs,
                model="live",
                index=i,
                seed=seed,
                finish=r.finish,
            )
            for (p, i, seed), r in zip(tasks, replies, strict=True)
        ]

    def _reward(self, asked: Sequence[Prompt], candidates: Sequence[Candidate]) -> list[Graded]:
        assert [p.id for p in asked] == [c.prompt_id for c in candidates]
        return [graded(c, self.score(c)) for c in candidates]

    def _keep(self, update: int, rows: Sequence[tuple[Candidate, Graded]]) -> None:
        self.memory[update] = list(rows)
