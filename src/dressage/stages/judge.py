"""Label candidates, make preferences. Reads prompts and candidates; writes grades, verdicts, failures, preferences."""

from collections import Counter
from collections.abc import Callable, Sequence

from pydantic import JsonValue

from dressage.engines import judging, preferring
from dressage.engines.judging import Bench, Item, Labels
from dressage.plugins import open_kind
from dressage.records import Candidate, Failure, Grade, Preference, Prompt, Record, Verdict
from dressage.settings import JudgeSection
from dressage.sources._columns import candidate_of
from dressage.sources._rows import read
from dressage.stages._stage import Here, Outcome, StageError, Tables, in_groups, sharded, undone
from dressage.store import Journal, read_table, rows_of

VERSION = 1
Group = tuple[Prompt, list[Candidate]]


def run(here: Here, settings: JudgeSection) -> Outcome:
    """Every candidate graded (or every pair compared) by the training judge; the judges beside only recorded."""
    items = _items(here, settings)
    groups = in_groups(judging.by_prompt(items), settings.shard_prompts)
    beside = {p.id for p, _ in judging.by_prompt(items)[: settings.beside_prompts]}
    waiting = undone(here, groups, ids=_id)
    total = sum(_judgements(here, settings, group, beside) for group in waiting)
    with here.progress.task("judging candidates", total) as advance:
        work = _labeller(here, settings, beside, advance)
        shards = sharded(here, groups, ids=_id, work=work)
    return Outcome(shards, _facts(here, settings, [s.name for s in shards], len(items)))


def _id(group: Group) -> str:
    return f"{group[0].id}:{','.join(c.id for c in group[1])}"


def _items(here: Here, settings: JudgeSection) -> list[Item]:
    if settings.input is not None:
        items = read(settings.input, open_kind(settings.input), convert=candidate_of).made
    else:
        prompts = {p.id: p for p in rows_of(here.inputs["data"], Prompt)}
        items = [(prompts[c.prompt_id], c) for c in rows_of(here.inputs["data"], Candidate)]
    if not items:
        raise StageError("judge has no candidates: raise data.per_prompt above 0, or give judge.input")
    return items


def _judgements(here: Here, settings: JudgeSection, group: Sequence[Group], beside: set[str]) -> int:
    names = (settings.by, *settings.beside)
    return sum(
        len(_work_of(here, name, [one]))
        for name in names
        for one in group
        if name == settings.by or one[0].id in beside
    )


def _work_of(here: Here, name: str, groups: Sequence[Group]) -> list[Item] | list[judging.Duel]:
    items = [(prompt, c) for prompt, candidates in groups for c in candidates]
    return list(judging.all_duels(items)) if here.cast.compares(name) else items


def _labeller(
    here: Here, settings: JudgeSection, beside: set[str], advance: Callable[[int], None]
) -> Callable[[Sequence[Group]], Tables]:
    journal = Journal(here.folder / "journal.jsonl")
    benches = {
        name: here.cast.bench(name, journal=journal, max_chars=settings.max_chars, advance=advance)
        for name in (settings.by, *settings.beside)
    }

    def work(groups: Sequence[Group]) -> Tables:
        found = Labels()
        for name, bench in benches.items():
            asked = [g for g in groups if name == settings.by or g[0].id in beside]
            labels = _label(here, bench, asked)
            labels.grades += judging.grades_of_broken(labels.failures, labels.grades, rule=settings.broken_response)
            judging.refuse_too_many(labels, len(_work_of(here, name, asked)), at_most=settings.max_failures, judge=name)
            if name == settings.by:
                made, _ = preferring.preferences(labels, pairing=settings.pairing, min_margin=settings.min_margin)
            found.extend(labels)
        given = settings.input is not None
        return {
            Prompt: [p for p, _ in groups] if given else [],
            Candidate: [c for _, candidates in groups for c in candidates] if given else [],
            Grade: found.grades,
            Verdict: found.verdicts,
            Failure: found.failures,
            Preference: made,
        }

    return work


def _label(here: Here, bench: Bench, groups: Sequence[Group]) -> Labels:
    items = [(prompt, c) for prompt, candidates in groups for c in candidates]
    if bench.judge.compares:
        return judging.duel(bench, list(judging.all_duels(items)))
    return judging.grade(bench, items)


def _facts(here: Here, settings: JudgeSection, shards: Sequence[str], candidates: int) -> dict[str, JsonValue]:
    def rows(record: type[Record]) -> list[Record]:
        paths = [here.folder / f"{record.table}-{name}.parquet" for name in shards]
        return [row for path in paths if path.exists() for row in read_table(path, record)]

    failures = [f for f in rows(Failure) if isinstance(f, Failure)]
    grades = [g for g in rows(Grade) if isinstance(g, Grade)]
    verdicts = [v for v in rows(Verdict) if isinstance(v, Verdict)]
    labels = Labels([g for g in grades if g.judge == settings.by], [v for v in verdicts if v.judge == settings.by])
    made, left_out = preferring.preferences(labels, pairing=settings.pairing, min_margin=settings.min_margin)
    usage = [row.usage for row in (*grades, *verdicts)]
    if not made:
        raise StageError(
            f"judge {settings.by!r} made no preference out of {candidates} candidates ({left_out}); "
            "draw more candidates, or lower judge.min_margin"
        )
    return {
        "candidates": candidates,
        "grades": len(grades),
        "verdicts": len(verdicts),
        "preferences": len(made),
        **{f"left_out: {why}": n for why, n in left_out.items()},
        **{f"failures: {f} ({side})": n for (side, f), n in Counter((f.side, f.reason) for f in failures).items()},
        "tokens_read": sum(u.read for u in usage),
        "tokens_written": sum(u.written for u in usage),
    }
