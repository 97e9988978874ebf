"""Sample battles side by side: the prompt, both replies, what each judge decided."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dressage.records import Battle, Candidate, Prompt
from dressage.report.wording import clipped, number, plain, trimmed
from dressage.seeds import seed_for

FIRST = 6
"""Battles that are shown where this version cannot read how many were asked for."""
REPLY_CHARS, PROMPT_CHARS = 4_000, 2_000

Key = tuple[str, str, str]


@dataclass(frozen=True)
class Reply:
    side: str
    tone: str
    text: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Decision:
    judge: str
    words: str
    tone: str


@dataclass(frozen=True)
class Shown:
    prompt: tuple[tuple[str, str], ...]
    """Role and text of each message."""
    tags: tuple[str, ...]
    replies: tuple[Reply, Reply]
    decisions: tuple[Decision, ...]


def key_of(battle: Battle) -> Key:
    return battle.prompt_id, battle.candidate_a, battle.candidate_b


def chosen(battles: Sequence[Battle], n: int, *names: object) -> dict[Key, list[Battle]]:
    """`n` of the policy's battles drawn by named seed, in their order, each with every judge's row."""
    rows: dict[Key, list[Battle]] = {}
    for battle in battles:
        rows.setdefault(key_of(battle), []).append(battle)
    own = [key for key, of in rows.items() if {of[0].a, of[0].b} == {"policy", "predecessor"}]
    drawn = set(random.Random(seed_for(*names)).sample(own, min(n, len(own))))
    return {key: rows[key] for key in own if key in drawn}


def shown(
    rows: Mapping[Key, Sequence[Battle]], prompts: Mapping[str, Prompt], candidates: Mapping[str, Candidate]
) -> list[Shown]:
    """The battles in words, with the predecessor's reply first."""
    return [_shown(of, prompts, candidates) for of in rows.values()]


def _shown(of: Sequence[Battle], prompts: Mapping[str, Prompt], candidates: Mapping[str, Candidate]) -> Shown:
    battle = of[0]
    replies = [
        _reply(battle.a, candidates, battle.candidate_a, broken="a" in battle.broken),
        _reply(battle.b, candidates, battle.candidate_b, broken="b" in battle.broken),
    ]
    replies.sort(key=lambda reply: reply.side == "policy")
    prompt = prompts.get(battle.prompt_id, None)
    messages = [(m.role, clipped(m.content, PROMPT_CHARS)) for m in prompt.messages] if prompt else []
    return Shown(
        prompt=tuple(messages) or (("prompt", f"(the text of prompt {battle.prompt_id} is not in this run)"),),
        tags=prompt.tags if prompt else (),
        replies=(replies[0], replies[1]),
        decisions=tuple(_decision(row) for row in of),
    )


def _reply(side: str, candidates: Mapping[str, Candidate], candidate_id: str, *, broken: bool) -> Reply:
    tone = side if side in ("policy", "predecessor") else "baseline"
    if candidate_id not in candidates:
        return Reply(plain(side), tone, f"(reply {candidate_id} is not in this run)", ())
    candidate = candidates[candidate_id]
    length = len(candidate.token_ids)
    notes = [f"{number(length)} tokens"] if length else []
    notes += ["cut at the token limit"] if candidate.finish == "length" else []
    notes += ["broken: loses"] if broken else []
    return Reply(plain(side), tone, clipped(candidate.text, REPLY_CHARS), tuple(notes))


def _decision(battle: Battle) -> Decision:
    if battle.broken and len(battle.broken) == 2:
        return Decision(battle.judge, "left out: both replies are broken", "open")
    if battle.broken:
        loser = battle.a if battle.broken[0] == "a" else battle.b
        return Decision(battle.judge, f"not asked: the reply of the {plain(loser)} is broken", "open")
    if battle.outcome is None:
        return Decision(battle.judge, "gave no answer", "open")
    margin = f", margin {trimmed(round(abs(battle.margin), 3))}" if battle.margin is not None else ""
    if battle.outcome == "tie":
        return Decision(battle.judge, f"a tie{margin}", "open")
    winner = battle.a if battle.outcome == "a" else battle.b
    tone = winner if winner in ("policy", "predecessor") else "baseline"
    return Decision(battle.judge, f"prefers the {plain(winner)}{margin}", tone)
