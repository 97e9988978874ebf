"""What a run holds, for reading in a terminal: prompts with the replies side by side."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from dressage.comparing import compare as compare  # the verb beside show
from dressage.reading import STAGES, committed, everywhere, last_round, tables_of
from dressage.records import (
    Battle,
    Candidate,
    Evidence,
    Failure,
    Grade,
    Preference,
    Prompt,
    Record,
    Verdict,
)
from dressage.store import StoreError, manifest_of
from dressage.terminal import foreign, results_console

What = Literal["candidates", "verdicts", "grades", "failures", "battles", "preferences", "evidence"]

STAGE_OF: dict[What, str] = {
    "candidates": "data",
    "verdicts": "judge",
    "grades": "judge",
    "failures": "judge",
    "preferences": "judge",
    "evidence": "judge",
    "battles": "evaluate",
}
"""Where the records usually lie; where that stage has none, the first that does is shown."""


class Side(NamedTuple):
    """One text with its title above and its marks below."""

    title: str
    candidate: str
    marks: tuple[str, ...] = ()


class Entry(NamedTuple):
    """What is shown together: a prompt, one or two texts, what was decided between them."""

    prompt: str
    sides: tuple[Side, ...]
    verdict: tuple[str, ...] = ()


def show(
    run: Path,
    what: What,
    *,
    limit: int = 5,
    stage: str | None = None,
    matching: str | None = None,
    console: Console | None = None,
) -> int:
    """Prints a stage's records for at most `limit` prompts, texts side by side; returns how many prompts.

    `run` is a run's folder (its last round is read) or a round's. `stage` is where to look; null: where the records
    usually lie, then in every other stage. `matching` keeps the prompts whose id begins so, or whose text holds it.

    Raises:
        StoreError: there are no such records; says which stages have some, and what else there is.
    """
    console = console or results_console()
    of = last_round(run)
    prompts = {p.id: p for table in everywhere(of, Prompt) for p in table}
    usual = STAGE_OF[what]
    for place in [stage] if stage else [usual, *(s for s in STAGES if s != usual)]:
        if rows := _some(tables_of(of / place, RECORDS[what]), prompts, limit=limit, matching=matching):
            break
    else:
        raise StoreError(_nothing(of, what, stage, matching))
    if place != (stage or usual):
        console.print(Text(f"({usual} has none: these {what} are of {place})", style="dim"))
    entries = [entry for of_prompt in rows.values() for entry in ENTRIES[what](of_prompt)]
    needed = {side.candidate for entry in entries for side in entry.sides}
    texts = _texts(everywhere(of, Candidate, first=place), needed)
    for entry in entries:
        _print(console, entry, prompts, texts)
    if manifest_of(of / place) is None:
        console.print(Text(f"({place} is not finished: this is what is committed so far)", style="yellow"))
    return len(rows)


def _some(
    tables: Iterable[Sequence[Any]], prompts: Mapping[str, Prompt], *, limit: int, matching: str | None
) -> dict[str, list[Any]]:
    """The rows of the first `limit` prompts that match, by prompt; reads no shard more than it must."""
    chosen: dict[str, list[Any]] = {}
    for table in tables:
        for row in table:
            known = row.prompt_id in chosen
            if known or (len(chosen) < limit and _matches(row.prompt_id, prompts, matching)):
                chosen.setdefault(row.prompt_id, []).append(row)
        if len(chosen) >= limit:
            break
    return chosen


def _matches(prompt_id: str, prompts: Mapping[str, Prompt], matching: str | None) -> bool:
    if matching is None or prompt_id.startswith(matching):
        return True
    prompt = prompts.get(prompt_id)
    return prompt is not None and any(matching.casefold() in m.content.casefold() for m in prompt.messages)


def _texts(tables: Iterable[Sequence[Candidate]], needed: set[str]) -> dict[str, Candidate]:
    found: dict[str, Candidate] = {}
    for table in tables:
        found.update({c.id: c for c in table if c.id in needed})
        if len(found) == len(needed):
            break
    return found


def _nothing(of: Path, what: What, stage: str | None, matching: str | None) -> str:
    """That there are no such records, where there are some, and else what there is: each with its --stage."""
    wanted = f"no {what}" + (f" for a prompt like {matching!r}" if matching else "")
    there = {s: _tables(of / s) for s in STAGES}
    elsewhere = [s for s in STAGES if what in there[s] and s != stage]
    where = f"{of / stage} has" if stage else f"{of} has"
    if elsewhere and (stage or matching):
        return f"{where} {wanted}; there are {what} in {', '.join(f'--stage {s}' for s in elsewhere)}"
    shown = [table for table in STAGE_OF if any(table in tables for tables in there.values())]
    told = [f"{table} (--stage {', '.join(s for s in STAGES if table in there[s])})" for table in shown]
    return f"{where} {wanted}; it can show {', '.join(told) or 'nothing so far'}"


def _tables(folder: Path) -> set[str]:
    shards = manifest.shards if (manifest := manifest_of(folder)) else tuple(committed(folder))
    return {table for shard in shards for table in shard.rows}


def _two_by_two(prompt: str, sides: Sequence[Side]) -> list[Entry]:
    return [Entry(prompt, tuple(sides[i : i + 2])) for i in range(0, len(sides), 2)]


def _candidates(rows: Sequence[Candidate]) -> list[Entry]:
    return _two_by_two(rows[0].prompt_id, [Side(f"candidate {c.index}", c.id) for c in rows])


def _grades(rows: Sequence[Grade]) -> list[Entry]:
    of: dict[str, list[Grade]] = defaultdict(list)
    for row in rows:
        of[row.candidate_id].append(row)
    sides = [Side(f"candidate {i}", c, tuple(map(_mark, grades))) for i, (c, grades) in enumerate(of.items())]
    return _two_by_two(rows[0].prompt_id, sides)


def _mark(grade: Grade) -> str:
    criteria = ", ".join(f"{name} {value:.2f}" for name, value in grade.criteria.items())
    how = "; ".join(part for part in (criteria, grade.normalised, *grade.evidence) if part)
    return f"{grade.judge}: {grade.score:.3f}" + (f" ({how})" if how else "")


def _verdicts(rows: Sequence[Verdict]) -> list[Entry]:
    return [Entry(v.prompt_id, (Side("first", v.first), Side("second", v.second)), _verdict(v)) for v in rows]


def _verdict(v: Verdict) -> tuple[str, ...]:
    orders = "" if v.consistent else ", the two orders disagree"
    votes = ", ".join(f"{vote.margin:+.2f} {vote.shown}" for vote in v.votes)
    line = f"{v.judge}: {v.winner}, p(first) {v.p:.3f}{orders}" + (f" ({votes})" if votes else "")
    return (line, *v.evidence)


def _preferences(rows: Sequence[Preference]) -> list[Entry]:
    def line(p: Preference) -> str:
        return f"margin {p.margin:.3f}, {p.agreed} of {p.votes} votes agreed"

    return [Entry(p.prompt_id, (Side("chosen", p.chosen), Side("rejected", p.rejected)), (line(p),)) for p in rows]


def _failures(rows: Sequence[Failure]) -> list[Entry]:
    def line(f: Failure) -> str:
        return f"{f.judge}: failure of {f.side}: {f.reason}" + (f" ({f.detail})" if f.detail else "")

    return [Entry(f.prompt_id, tuple(Side("", c) for c in f.candidate_ids), (line(f),)) for f in rows]


def _evidence(rows: Sequence[Evidence]) -> list[Entry]:
    """The calls of each judgement together, the texts in the order in which the judge saw them."""
    of: dict[tuple[str, tuple[str, ...]], list[Evidence]] = defaultdict(list)
    for row in rows:
        of[row.judge, row.candidate_ids].append(row)
    entries = []
    for (judge, ids), calls in of.items():
        names = ("@first", "@second") if len(ids) == 2 else ("@reply",)
        sides = tuple(Side(name, candidate) for name, candidate in zip(names, ids, strict=False))
        lines = [line for call in sorted(calls, key=lambda c: c.number) for line in _call(call)]
        entries.append(
            Entry(rows[0].prompt_id, sides, (f"{judge}: {len(calls)} call{'s' if len(calls) > 1 else ''}", *lines))
        )
    return entries


def _call(e: Evidence) -> Iterator[str]:
    """What was to be decided, what was called, what came back."""
    yield f"e{e.number} {'(cited) ' if e.cited else ''}{e.claim or 'a call that could not be read'}"
    yield f"   {e.tool} {e.arguments}".rstrip()
    failed = f"[failed: {e.failed}] " if e.failed else ""
    yield from (f"   {'→' if n == 0 else ' '} {line}" for n, line in enumerate((failed + e.result).splitlines()))


def _battles(rows: Sequence[Battle]) -> list[Entry]:
    met: dict[tuple[str, str, str, str], list[Battle]] = defaultdict(list)
    for row in rows:
        met[row.a, row.candidate_a, row.b, row.candidate_b].append(row)
    return [
        Entry(battles[0].prompt_id, (Side(a, of_a), Side(b, of_b)), tuple(map(_decision, battles)))
        for (a, of_a, b, of_b), battles in met.items()
    ]


def _decision(battle: Battle) -> str:
    names = {"a": battle.a, "b": battle.b, "tie": "tie", None: "undecided"}
    margin = "" if battle.margin is None else f", margin {battle.margin:+.3f}"
    broken = f", broken: {', '.join(names[side] for side in battle.broken)}" if battle.broken else ""
    return f"{battle.judge}: {names[battle.outcome]}{margin}{broken}"


RECORDS: dict[What, type[Record]] = {
    "candidates": Candidate,
    "verdicts": Verdict,
    "grades": Grade,
    "failures": Failure,
    "battles": Battle,
    "preferences": Preference,
    "evidence": Evidence,
}
ENTRIES: dict[What, Callable[[Any], list[Entry]]] = {
    "candidates": _candidates,
    "verdicts": _verdicts,
    "grades": _grades,
    "failures": _failures,
    "battles": _battles,
    "preferences": _preferences,
    "evidence": _evidence,
}


def _print(console: Console, entry: Entry, prompts: Mapping[str, Prompt], texts: Mapping[str, Candidate]) -> None:
    prompt = prompts.get(entry.prompt)
    console.print(Rule(foreign(entry.prompt), align="left", style="dim"))
    for message in prompt.messages if prompt else ():
        console.print(foreign(f"{message.role}: ", "bold") + foreign(message.content))
    if prompt and prompt.reference is not None:
        console.print(foreign("reference: ", "bold") + foreign(prompt.reference))
    grid = Table.grid(padding=(0, 3), expand=True)
    for _ in entry.sides:
        grid.add_column(ratio=1, overflow="fold")
    grid.add_row(*(_head(side, texts.get(side.candidate)) for side in entry.sides))
    grid.add_row(*(_body(texts.get(side.candidate)) for side in entry.sides))
    grid.add_row(*(foreign("\n".join(side.marks), "cyan") for side in entry.sides))
    if entry.sides:
        console.print(grid)
    for line in entry.verdict:
        console.print(foreign(line, "cyan"))


def _head(side: Side, candidate: Candidate | None) -> Text:
    facts = [side.title, side.candidate]
    if candidate:
        tokens = f"{len(candidate.token_ids)} tokens" if candidate.token_ids else ""
        facts += [f"by {candidate.model}", tokens, "cut at the limit" if candidate.finish == "length" else ""]
    return foreign(" · ".join(fact for fact in facts if fact), "bold")


def _body(candidate: Candidate | None) -> Text:
    return foreign(candidate.text) if candidate else Text("(its text is not in this round)", style="yellow")
