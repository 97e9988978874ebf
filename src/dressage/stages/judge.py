"""Label candidates, make preferences. Reads prompts and candidates; writes grades, verdicts, failures, preferences."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from pydantic import JsonValue

from dressage.engines import judging, preferring
from dressage.engines.failing import Tally, grades_of_broken
from dressage.engines.hearing import Bench
from dressage.engines.judging import Item, Labels
from dressage.plugins import open_kind
from dressage.records import Candidate, Failure, Grade, Preference, Prompt, Verdict
from dressage.settings import JudgeSection
from dressage.sources._columns import candidate_of
from dressage.sources._rows import read
from dressage.stages._stage import Here, Outcome, StageError, Tables, in_groups, sharded, split
from dressage.store import Shard, rows_in, rows_of

Group = tuple[Prompt, list[Candidate]]


def run(here: Here, settings: JudgeSection) -> Outcome:
    """Every candidate graded (or every pair compared) by the training judge; the judges beside only recorded."""
    items = _items(here, settings)
    if not items:  # the trainer draws for itself, and has its draws graded as it goes
        return Outcome((), {"candidates": 0})
    groups = in_groups(judging.by_prompt(items), settings.shard_prompts)
    beside = {p.id for p, _ in judging.by_prompt(items)[: settings.beside_prompts]}
    found = split(here, groups, ids=_id)
    tallies = _tallies(here, settings, [one for group in groups for one in group], beside)
    failed = list(rows_in(here.folder, found.done, Failure))
    for tally in tallies.values():
        tally.add(failed)
    total = sum(_judgements(here, settings, group, beside) for group in found.waiting)
    with here.progress.task("judging candidates", total) as advance:
        work = _labeller(here, settings, beside, tallies, advance)
        shards = sharded(here, groups, ids=_id, work=work)
    return Outcome(shards, _facts(here, settings, shards, len(items)))


def _id(group: Group) -> str:
    return f"{group[0].id}:{','.join(c.id for c in group[1])}"


def _items(here: Here, settings: JudgeSection) -> list[Item]:
    if settings.input is not None:
        given = read(settings.input, open_kind(settings.input), convert=candidate_of).made
        items = list({candidate.id: (prompt, candidate) for prompt, candidate in given}.values())
    else:
        prompts = {p.id: p for p in rows_of(here.inputs["data"], Prompt)}
        items = [(prompts[c.prompt_id], c) for c in rows_of(here.inputs["data"], Candidate)]
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


def _tallies(here: Here, settings: JudgeSection, groups: Sequence[Group], beside: set[str]) -> dict[str, Tally]:
    """How many judgements each judge has to make in this stage, to tell when too many have failed."""
    return {
        name: Tally(
            name,
            total=len(_work_of(here, name, [g for g in groups if name == settings.by or g[0].id in beside])),
            at_most=settings.max_failures,
        )
        for name in (settings.by, *settings.beside)
    }


def _labeller(
    here: Here,
    settings: JudgeSection,
    beside: set[str],
    tallies: Mapping[str, Tally],
    advance: Callable[[int], None],
) -> Callable[[Sequence[Group]], Tables]:
    journal = here.journal()
    benches = {
        name: here.cast.bench(name, journal=journal, max_chars=settings.max_chars, advance=advance)
        for name in (settings.by, *settings.beside)
    }

    def work(groups: Sequence[Group]) -> Tables:
        found = Labels()
        for name, bench in benches.items():
            asked = [g for g in groups if name == settings.by or g[0].id in beside]
            labels = _label(here, bench, asked)
            if not bench.judge.compares:  # else a broken response has lost its pairs, and needs no grade
                labels.grades += grades_of_broken(labels.failures, labels.grades, rule=settings.broken_response)
            tallies[name].add(labels.failures)
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


def _facts(here: Here, settings: JudgeSection, shards: Sequence[Shard], candidates: int) -> dict[str, JsonValue]:
    failures = list(rows_in(here.folder, shards, Failure))
    grades = list(rows_in(here.folder, shards, Grade))
    verdicts = list(rows_in(here.folder, shards, Verdict))
    labels = Labels([g for g in grades if g.judge == settings.by], [v for v in verdicts if v.judge == settings.by])
    made, left_out = preferring.preferences(labels, pairing=settings.pairing, min_margin=settings.min_margin)
    usage = [*(g.usage for g in grades), *(v.usage for v in verdicts)]
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
