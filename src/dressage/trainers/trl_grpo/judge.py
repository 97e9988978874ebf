"""The reward function that TRL awaits: completions become candidates, our judge grades them, failures become None."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from dressage.protocols import Graded, Practice
from dressage.records import Candidate, Finish, Grade, Message, Prompt, content_hash
from dressage.tokens import reply_text, wellformed
from dressage.trainers._on_policy.telling import about

Rows = list[tuple[Candidate, Graded]]


@dataclass(frozen=True)
class Judge:
    """Grades a generation within a deadline, and keeps what was drawn and graded as the run's records."""

    practice: Practice
    prompts: Mapping[str, Prompt]
    tokenizer: Any
    ends: frozenset[int]
    """The tokens that end a reply; one that ends with no such token reached its limit."""
    policy: str
    """Names the training; with the update it names the policy that drew."""
    steps_per_update: int
    timeout: float

    @property
    def __name__(self) -> str:
        """What TRL calls it in its metrics."""
        return "judge"

    async def __call__(
        self,
        *,
        completion_ids: Sequence[Sequence[int]],
        prompt_id: Sequence[str],
        trainer_state: Any,
        log_metric: Callable[[str, float], None],
        **others: Any,
    ) -> list[float | None]:
        """A reward for each completion; None leaves it out of its group's mean and gives it no advantage."""
        update = trainer_state.global_step // self.steps_per_update + 1
        drawn = self._candidates(completion_ids, prompt_id, update)
        rows = await self._within_the_deadline(lambda: self.graded(drawn, update), update)
        for name, value in about(rows).items():
            log_metric(name, value)
        return [g.score if isinstance(g, Grade) else None for _, g in rows]

    def graded(self, drawn: Sequence[Candidate], update: int) -> Rows:
        """Each with its grade or failure. What an earlier attempt drew alike, token by token, keeps its grade.

        That is all of an update where the training goes on exactly, as on a CPU in fp32. Elsewhere TRL draws other
        replies, which are judged anew; their labels then stand in place of the earlier ones.
        """
        before = self.practice.kept(update) or []
        known: dict[Any, Graded] = {(c.id, c.token_ids): g for c, g in before if isinstance(g, Grade)}
        asked = [c for c in drawn if (c.id, c.token_ids) not in known]
        answers = self.practice.reward([self.prompts[c.prompt_id] for c in asked], asked) if asked else []
        if len(answers) != len(asked):
            raise ValueError(f"the reward gave {len(answers)} answers to {len(asked)} replies; it owes one each")
        known |= {(c.id, c.token_ids): g for c, g in zip(asked, answers, strict=True)}
        rows = [(c, known[c.id, c.token_ids]) for c in drawn]
        if rows != before:
            self.practice.keep(update, rows)
        return rows

    def _candidates(
        self, completions: Sequence[Sequence[int]], prompt_ids: Sequence[str], update: int
    ) -> list[Candidate]:
        """TRL gives no seed, and no log-probability of what it drew."""
        model = content_hash([self.policy, "update", update])
        count: Counter[str] = Counter()
        drawn = []
        for ids, prompt_id in zip(completions, prompt_ids, strict=True):
            finish: Finish = "stop" if ids and ids[-1] in self.ends else "length"
            text = wellformed(reply_text(self.tokenizer, ids))
            drawn.append(
                Candidate.of(
                    prompt_id=prompt_id,
                    messages=(Message(role="assistant", content=text),),
                    token_ids=tuple(ids),
                    mask=(True,) * len(ids),
                    model=model,
                    index=count[prompt_id],
                    temperature=self.practice.sampling.temperature,
                    top_p=self.practice.sampling.top_p,
                    finish=finish,
                )
            )
            count[prompt_id] += 1
        return drawn

    async def _within_the_deadline(self, work: Callable[[], Rows], update: int) -> Rows:
        """Waits for a thread that nobody has to wait for when the process ends."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Rows] = loop.create_future()

        def settle(rows: Rows | None, error: BaseException | None) -> None:
            if not done.done():
                done.set_result(rows or []) if error is None else done.set_exception(error)

        def run() -> None:
            try:
                rows, error = work(), None
            except BaseException as raised:  # noqa: BLE001 (it is handed on to whoever waits)
                rows, error = None, raised
            loop.call_soon_threadsafe(settle, rows, error)

        threading.Thread(target=copy_context().run, args=(run,), name="judge", daemon=True).start()
        try:
            return await asyncio.wait_for(done, self.timeout)
        except TimeoutError as error:
            if not done.cancelled():
                raise  # the judge's own
            raise TimeoutError(
                f"the judge did not grade the generation of update {update} within judge_timeout ({self.timeout:g} s); "
                "mend the judge or raise it, then run again: training goes on from its newest checkpoint"
            ) from error
