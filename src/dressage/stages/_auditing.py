"""Audits a judge of the run, for the verb `audit` and for whoever checks the floors: opens it, asks it, makes its card.

Paid answers are kept in the folder: an audit that was stopped goes on, and one that is done costs nothing again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dressage.cards import Card
from dressage.engines.asking import Asker
from dressage.engines.auditing.audit import Questions, Subject, audit
from dressage.engines.auditing.corpus import answers, corpus_hash, tactics
from dressage.engines.auditing.pairs import LabelledPair
from dressage.protocols import Progress
from dressage.records import content_hash
from dressage.seeds import seed_for
from dressage.stages._stage import Cast, drawn_by_seed
from dressage.store import Journal

__all__ = ["Evidence", "Room", "Subject", "audited", "chosen", "made_from"]


@dataclass(frozen=True)
class Room:
    """Where an audit takes place."""

    folder: Path
    cast: Cast
    progress: Progress
    seed: int
    max_chars: int
    """A response over this many characters counts as broken (judge.max_chars)."""
    broken_response: str
    """The rule that grades one (judge.broken_response)."""


@dataclass(frozen=True)
class Evidence:
    """What a judge is to be held against."""

    pairs: Sequence[LabelledPair]
    source: str
    """Where they come from, for people."""
    red_team: int | None = None
    """So many prompts of the red-team corpus; null: all, 0: none."""


def audited(room: Room, name: str, subject: Subject, evidence: Evidence) -> Card:
    """The card of the judge of that name.

    Raises:
        RuntimeError: what stops a judge in a stage too (an endpoint that is down, a budget that is spent).
    """
    tried = answers()[: evidence.red_team]
    questions = Questions(
        pairs=evidence.pairs,
        source=evidence.source,
        tactics=tactics() if tried else (),
        answers=tried,
        broken_rule=room.broken_response,
    )
    journal = Journal(room.folder / "journal.jsonl")
    bench = room.cast.bench(name, journal=journal, max_chars=room.max_chars, advance=lambda units: None)
    models = {asked: room.cast.model(asked) for asked in room.cast.asked_by(name)}
    later = Asker(
        models,
        journal=Journal(room.folder / "again.jsonl"),
        seed=seed_for(room.seed, "audit", "again"),
        toolbox=room.cast.toolbox(name),
    )
    with room.progress.task(f"auditing {name}", questions.judgements(bench, again=True)) as advance:
        seated, named = replace(bench, advance=advance), replace(subject, made_from=made_from(subject, evidence))
        return audit(seated, replace(seated, asker=later), named, questions)


def made_from(subject: Subject, evidence: Evidence) -> str:
    """Names the subject and what it is held against: where any of it changes, a card must be made again."""
    parts = [subject.made_from, [pair.id for pair in evidence.pairs], corpus_hash(), evidence.red_team]
    return content_hash(parts)


def chosen(pairs: Sequence[LabelledPair], at_most: int | None) -> list[LabelledPair]:
    """So many of the pairs, by their content: the same file gives the same ones, whatever the seed of the run."""
    once = sorted({pair.id: pair for pair in pairs}.values(), key=lambda pair: pair.id)
    return once if at_most is None else drawn_by_seed(once, at_most, "audit", "pairs")
