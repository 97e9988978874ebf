"""Label candidates, make preferences. Reads prompts and candidates; writes labels, evidence, preferences."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from pydantic import JsonValue

from dressage.engines import judging, preferring
from dressage.engines.failing import Tally, grades_of_broken
from dressage.engines.hearing import Bench
from dressage.engines.judging import Item, Labels
from dressage.plugins import open_kind
from dressage.records import Candidate, Evidence, Failure, Grade, Preference, Prompt, Verdict
from dressage.settings import JudgeSection
from dressage.sources._columns import candidate_of
from dressage.sources._rows import read
from dressage.stages._stage import Here, Outcome, StageError, Tables, in_groups, sharded, split
from dressage.store import Shard, StoreError, rows_in, rows_of

Group = tuple[Prompt, list[Candidate]]
Made = tuple[list[Preference], dict[str, int]]


def run(here: Here, settings: JudgeSection, *, learnt_from: bool) -> Outcome:
    """Every candidate graded (or every pair compared) by the training judge; the judges beside only recorded.

    Raises:
        StageError: no preference was made, and a trainer is to learn from them (`learnt_from`).
    """
    items, counts = _items(here, settings)
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
    made, left_out = _preferences(settings, _committed(here, settings, shards), _learnable(items))
    if learnt_from and not made:
        raise StageError(
            f"judge {settings.by!r} made no preference out of {len(items)} candidates ({left_out}); "
            "draw more candidates, or lower judge.min_margin"
        )
    told = {"candidates": len(items), **counts, "preferences": len(made)}
    told |= {f"left_out: {why}": n for why, n in left_out.items()}
    return Outcome(shards, {**told, **_facts(here, shards)})


def _id(group: Group) -> str:
    return f"{group[0].id}:{','.join(c.id for c in group[1])}"


def _items(here: Here, settings: JudgeSection) -> tuple[list[Item], dict[str, JsonValue]]:
    """The candidates with their prompts, and what of the user's own rows is none of them or makes no preference."""
    if settings.input is None:
        prompts = {p.id: p for p in rows_of(here.inputs["data"], Prompt)}
        return [(prompts[c.prompt_id], c) for c in rows_of(here.inputs["data"], Candidate)], {}
    given = read(settings.input, open_kind(settings.input), convert=candidate_of)
    items = list({candidate.id: (prompt, candidate) for prompt, candidate in given.made}.values())
    return items, {
        "rows_unreadable": len(given.bad),
        "rows_doubled": len(given.made) - len(items),
        "rows_held_out": sum(prompt.split != "train" for prompt, _ in items),
    }


def _learnable(items: Sequence[Item]) -> frozenset[str]:
    """The prompts whose labels may become preferences: what is held out is never learnt from."""
    return frozenset(prompt.id for prompt, _ in items if prompt.split == "train")


def _preferences(settings: JudgeSection, labels: Labels, learnable: frozenset[str]) -> Made:
    """What the training judge's labels of training prompts come to, and how many pairs were left out and why."""
    kept = Labels(
        [g for g in labels.grades if g.prompt_id in learnable], [v for v in labels.verdicts if v.prompt_id in learnable]
    )
    return preferring.preferences(kept, pairing=settings.pairing, min_margin=settings.min_margin)


def _committed(here: Here, settings: JudgeSection, shards: Sequence[Shard]) -> Labels:
    """The training judge's labels, read back."""
    return Labels(
        [g for g in rows_in(here.folder, shards, Grade) if g.judge == settings.by],
        [v for v in rows_in(here.folder, shards, Verdict) if v.judge == settings.by],
    )


def _judgements(here: Here, settings: JudgeSection, group: Sequence[Group], beside: set[str]) -> int:
    names = (settings.by, *settings.beside)
    return sum(
        len(_work_of(here, name, [one]))
        for name in names
        for one in group
        if name == settings.by or one[0].id in beside
    )


def _work_of(here: Here, name: str, groups: Sequence[Group]) -> list[Item] | list[judging.Duel]:
    items = _items_of(groups)
    return list(judging.all_duels(items)) if here.cast.compares(name) else items


def _items_of(groups: Sequence[Group]) -> list[Item]:
    return [(prompt, c) for prompt, candidates in groups for c in candidates]


def _tallies(here: Here, settings: JudgeSection, groups: Sequence[Group], beside: set[str]) -> dict[str, Tally]:
    """How many judgements each judge has to make in this stage, to tell when too many have failed. A judge beside
    makes no preference, so its failures are counted and stop nothing."""
    return {
        name: Tally(
            name,
            total=len(_work_of(here, name, [g for g in groups if name == settings.by or g[0].id in beside])),
            at_most=settings.max_failures if name == settings.by else 1.0,
            limit="judge.max_failures",
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
            labels = _label(bench, asked) if name == settings.by else _label_beside(here, bench, asked)
            if not bench.judge.compares:  # else a broken response has lost its pairs, and needs no grade
                labels.grades += grades_of_broken(labels.failures, labels.grades, rule=settings.broken_response)
            tallies[name].add(labels.failures)
            if name == settings.by:
                made, _ = _preferences(settings, labels, _learnable(_items_of(groups)))
            found.extend(labels)
        given = settings.input is not None
        return {
            Prompt: [p for p, _ in groups] if given else [],
            Candidate: [c for _, candidates in groups for c in candidates] if given else [],
            Grade: found.grades,
            Verdict: found.verdicts,
            Failure: found.failures,
            Evidence: found.evidence,
            Preference: made,
        }

    return work


def _label_beside(here: Here, bench: Bench, groups: Sequence[Group]) -> Labels:
    """A judge beside makes no preference, so what stops it (its server is down, its budget spent) stops nothing: what
    it was to judge is a failure each."""
    try:
        return _label(bench, groups)
    except StoreError:  # our own disk
        raise
    except RuntimeError as error:
        failed = [
            Failure(
                prompt_id=prompt.id,
                candidate_ids=tuple(c.id for c in candidates),
                judge=bench.name,
                side="infrastructure",
                reason=type(error).__name__,
                detail=str(error),
            )
            for prompt, *candidates in _work_of(here, bench.name, groups)
        ]
        return Labels(failures=failed)


def _label(bench: Bench, groups: Sequence[Group]) -> Labels:
    items = _items_of(groups)
    if bench.judge.compares:
        return judging.duel(bench, list(judging.all_duels(items)))
    return judging.grade(bench, items)


def _facts(here: Here, shards: Sequence[Shard]) -> dict[str, JsonValue]:
    """What was asked, by whom it failed and what it cost, read back so that a resumed run says the same."""
    failures = list(rows_in(here.folder, shards, Failure))
    grades = list(rows_in(here.folder, shards, Grade))
    verdicts = list(rows_in(here.folder, shards, Verdict))
    usage = [*(g.usage for g in grades), *(v.usage for v in verdicts)]
    failed = Counter((f.judge, f.side, f.reason) for f in failures)
    return {
        "grades": len(grades),
        "verdicts": len(verdicts),
        **{f"failures of {judge}: {reason} ({side})": n for (judge, side, reason), n in failed.items()},
        "tokens_read": sum(u.read for u in usage),
        "tokens_written": sum(u.written for u in usage),
    }
