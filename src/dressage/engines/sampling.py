"""Draw candidates: prompts → replies of any model, for every role, with seeds made from names."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dressage.clock import spending
from dressage.protocols import Completion, Model, Sampling, Trouble
from dressage.records import Candidate, Failure, Message, Prompt, content_hash
from dressage.seeds import seed_for
from dressage.store import Journal
from dressage.tokens import wellformed


@dataclass(frozen=True)
class Role:
    """Who draws and under which names its seeds are made: (run seed, stage, role, round, …)."""

    name: str
    model: Model
    names: tuple[object, ...]


@dataclass(frozen=True)
class Drawn:
    """What came of a draw; a failed one is a failure, not an empty reply."""

    candidates: list[Candidate]
    failures: list[Failure]


def draw(
    role: Role,
    prompts: Sequence[Prompt],
    *,
    per_prompt: int,
    sampling: Sampling,
    journal: Journal,
    advance: Callable[[int], None],
) -> Drawn:
    """`per_prompt` candidates of each prompt, prompt by prompt, so that a model can share their prefill."""
    tasks = [(p, i, seed_for(*role.names, role.name, p.id, i)) for p in prompts for i in range(per_prompt)]
    keys = [
        content_hash([role.model.fingerprint, [m.model_dump() for m in p.messages], sampling.model_dump(), s])
        for p, _, s in tasks
    ]
    replies: list[Completion | Trouble | None] = [
        Completion.model_validate(paid) if (paid := journal.get(key)) is not None else None for key in keys
    ]
    waiting = [i for i, reply in enumerate(replies) if reply is None]
    advance(len(tasks) - len(waiting))

    def done(index: int, reply: Completion | Trouble) -> None:
        if role.model.paid and isinstance(reply, Completion):
            journal.put(keys[waiting[index]], reply.model_dump(mode="json"))
        advance(1)

    with spending("sampling"):
        fresh = role.model.complete(
            [tasks[i][0].messages for i in waiting],
            sampling=sampling,
            seeds=[tasks[i][2] for i in waiting],
            done=done,
        )
    for i, one in zip(waiting, fresh, strict=True):
        replies[i] = one
    drawn = Drawn([], [])
    for (prompt, index, seed), reply in zip(tasks, replies, strict=True):
        if isinstance(reply, Completion):
            drawn.candidates.append(_candidate(prompt, reply, role.model.fingerprint, (index, seed), sampling))
        elif isinstance(reply, Trouble):
            drawn.failures.append(_failure(prompt, role.name, reply))
    return drawn


def _candidate(prompt: Prompt, reply: Completion, model: str, draw: tuple[int, int], sampling: Sampling) -> Candidate:
    return Candidate.of(
        prompt_id=prompt.id,
        messages=(Message(role="assistant", content=wellformed(reply.text)),),
        token_ids=reply.token_ids,
        mask=(True,) * len(reply.token_ids),
        logprobs=reply.logprobs,
        logprobs_at_1=reply.logprobs_at_1,
        model=model,
        index=draw[0],
        seed=draw[1],
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        finish=reply.finish,
    )


def drawing(role: str) -> str:
    """What stands in the place of a judge's name where a draw failed."""
    return f"sampling: {role}"


def _failure(prompt: Prompt, role: str, trouble: Trouble) -> Failure:
    return Failure(
        prompt_id=prompt.id,
        candidate_ids=(),
        judge=drawing(role),
        side="infrastructure",
        reason=trouble.reason,
        detail=trouble.detail,
    )
