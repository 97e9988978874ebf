"""What the tools of agentic judges found: how much they were called, and some judgements with their calls."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dressage.records import Candidate, Evidence, Prompt
from dressage.report.reading import Round
from dressage.report.wording import clipped
from dressage.seeds import seed_for

SHOWN = 4
"""Judgements that are shown, drawn by seed."""
TEXT_CHARS, RESULT_CHARS = 2_000, 1_500
STAGES = ("judge", "evaluate")

Key = tuple[str, str, tuple[str, ...]]


@dataclass(frozen=True)
class Called:
    """How often a judge called a tool, how often that gave nothing, and in how many calls its verdict rests on it."""

    judge: str
    tool: str
    calls: int
    failed: int
    cited: int


@dataclass(frozen=True)
class Judgement:
    judge: str
    prompt: tuple[tuple[str, str], ...]
    """Role and text of each message."""
    replies: tuple[tuple[str, str], ...]
    """The name a reply has in the arguments, and its text."""
    calls: tuple[Evidence, ...]


@dataclass(frozen=True)
class Found:
    called: tuple[Called, ...]
    judgements: tuple[Judgement, ...]


def found(round_: Round, *names: object) -> Found | None:
    """Of a round; null where no judge called a tool. `names` seed which judgements are shown."""
    rows = {stage: round_.rows(stage, Evidence) for stage in STAGES}
    if not any(rows.values()):
        return None
    of: dict[Key, list[Evidence]] = {}
    for stage, evidence in rows.items():
        for one in evidence:
            of.setdefault((stage, one.judge, one.candidate_ids), []).append(one)
    keys = sorted(of)
    drawn = sorted(random.Random(seed_for(*names)).sample(keys, min(SHOWN, len(keys))))
    return Found(_called([one for evidence in rows.values() for one in evidence]), _judgements(round_, drawn, of))


def _called(rows: Sequence[Evidence]) -> tuple[Called, ...]:
    by: dict[tuple[str, str], list[Evidence]] = {}
    for one in rows:
        by.setdefault((one.judge, one.tool or "(unreadable)"), []).append(one)
    return tuple(
        Called(judge, tool, len(calls), sum(c.failed is not None for c in calls), sum(c.cited for c in calls))
        for (judge, tool), calls in sorted(by.items())
    )


def _judgements(round_: Round, keys: Sequence[Key], of: Mapping[Key, Sequence[Evidence]]) -> tuple[Judgement, ...]:
    wanted = {of[key][0].prompt_id for key in keys}
    places = ("data", "judge", "evaluate")
    prompts = {p.id: p for place in places for p in round_.rows(place, Prompt) if p.id in wanted}
    candidates = {c.id: c for place in places for c in round_.rows(place, Candidate) if c.prompt_id in wanted}
    return tuple(_judgement(of[key], prompts, candidates) for key in keys)


def _judgement(
    calls: Sequence[Evidence], prompts: Mapping[str, Prompt], candidates: Mapping[str, Candidate]
) -> Judgement:
    one = calls[0]
    prompt = prompts.get(one.prompt_id)
    names = ("@first", "@second") if len(one.candidate_ids) == 2 else ("@reply",)
    return Judgement(
        judge=one.judge,
        prompt=tuple((m.role, clipped(m.content, TEXT_CHARS)) for m in prompt.messages) if prompt else (),
        replies=tuple(
            (name, clipped(candidates[c].text, TEXT_CHARS) if c in candidates else f"(reply {c} is not in this run)")
            for name, c in zip(names, one.candidate_ids, strict=False)
        ),
        calls=tuple(
            c.model_copy(update={"result": clipped(c.result, RESULT_CHARS), "arguments": clipped(c.arguments, 500)})
            for c in sorted(calls, key=lambda c: c.number)
        ),
    )
