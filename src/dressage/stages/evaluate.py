"""Play blind battles on held-out prompts. Reads prompts and the sides; writes replies, battles, measures, gates."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from dressage.engines import judging, preferring
from dressage.engines.failing import Tally, broken, grades_of_broken
from dressage.engines.hearing import Bench
from dressage.engines.judging import Duel, Labels
from dressage.engines.sampling import Role, draw, drawing
from dressage.maths.text import style_features
from dressage.protocols import Model, Sampling
from dressage.records import Battle, Candidate, Evidence, Failure, GateResult, Grade, Measure, Prompt, Trace, Verdict
from dressage.settings import EvaluateSection
from dressage.stages import _measures
from dressage.stages._stage import (
    Here,
    Outcome,
    StageError,
    Tables,
    in_groups,
    sharded,
    split,
)
from dressage.stages._traces import traces
from dressage.store import Journal, commit_shard, rows_in, rows_of

POLICY, PREDECESSOR = "policy", "predecessor"


@dataclass(frozen=True)
class Sides:
    """Who meets whom, and what helps to look at them."""

    models: Mapping[str, Model]
    """`policy`, `predecessor` and any baselines, by name."""
    sampling: Sampling
    """The same for every side."""
    base: Any
    """A local model: the frozen base without adapters, if there is one for all sides; or null."""
    train_judge: str | None
    """Chooses the best of n, and grades both sides for the report."""
    broken_response: str | None
    """The rule by which that judge's labels grade a broken reply (judge.broken_response)."""


@dataclass(frozen=True)
class _Tools:
    journal: Journal
    benches: Mapping[str, Bench]
    train_bench: Bench | None
    tallies: Sequence[Tally]
    advance: Callable[[int], None]


def run(here: Here, settings: EvaluateSection, *, sides: Sides) -> Outcome:
    """Battles of every challenger against the predecessor, then the measures and the guards."""
    prompts = sorted((p for p in rows_of(here.inputs["data"], Prompt) if p.split == settings.split), key=lambda p: p.id)
    if not prompts:
        raise StageError(f"evaluate.split is {settings.split!r} and data.source gave no such prompt; see its `split`")
    groups = in_groups(prompts, settings.shard_prompts)
    found = split(here, groups, ids=lambda p: p.id)
    tallies = _tallies(here, settings, sides, turns=len(prompts) * settings.per_prompt)
    failed = list(rows_in(here.folder, found.done, Failure))
    for tally in tallies:
        tally.add(failed)
    steps = sum(len(g) for g in found.waiting) * settings.per_prompt * _steps(settings, sides)
    with here.progress.task("evaluating", steps) as advance:
        tools = _tools(here, settings, sides, tallies, advance)
        played = sharded(
            here, groups, ids=lambda p: p.id, work=lambda group: _play(here, settings, sides, tools, group)
        )
    rows = _measures.Rows(
        candidates=tuple(rows_in(here.folder, played, Candidate)),
        battles=tuple(rows_in(here.folder, played, Battle)),
        traces=tuple(rows_in(here.folder, played, Trace)),
        grades=tuple(rows_in(here.folder, played, Grade)),
    )
    measures = _measures.measured(rows, judges=settings.by, train_judge=sides.train_judge)
    gates = _measures.guarded(measures, settings.guards)
    last = commit_shard(here.folder, "measures", key=here.key, tables={Measure: measures, GateResult: gates})
    return Outcome((*played, last), _facts(settings, sides, rows, gates))


def _steps(settings: EvaluateSection, sides: Sides) -> int:
    """Replies drawn and battles judged per prompt and reply, for the progress bar."""
    best_of = settings.best_of if sides.train_judge else 0
    challengers = len(sides.models) - 1 + (best_of > 0)
    return len(sides.models) + best_of + challengers * len(settings.by)


def _tallies(here: Here, settings: EvaluateSection, sides: Sides, *, turns: int) -> list[Tally]:
    """How often each side draws and each judge is asked in all `turns` (prompts × replies each)."""
    best_of = settings.best_of if sides.train_judge else 0
    challengers = len(sides.models) - 1 + (best_of > 0)
    totals = {drawing(name): turns for name in sides.models}
    for judge in settings.by:  # one that grades is asked about each side's reply, the predecessor's included
        totals[judge] = turns * (challengers if here.cast.compares(judge) else challengers + 1)
    if sides.train_judge:
        pairs, singles = best_of * (best_of - 1) // 2, best_of + 2
        asked = turns * (pairs if here.cast.compares(sides.train_judge) else singles)
        totals[sides.train_judge] = totals.get(sides.train_judge, 0) + asked
        totals[drawing(_best_name(settings))] = turns * best_of
    return [
        Tally(name, total=total, at_most=settings.max_failures, limit="evaluate.max_failures")
        for name, total in totals.items()
    ]


def _best_name(settings: EvaluateSection) -> str:
    return f"best_of_{settings.best_of}"


def _tools(
    here: Here, settings: EvaluateSection, sides: Sides, tallies: Sequence[Tally], advance: Callable[[int], None]
) -> _Tools:
    journal = here.journal()

    def bench(judge: str, told: Callable[[int], None]) -> Bench:
        return here.cast.bench(judge, journal=journal, max_chars=settings.max_chars, advance=told)

    return _Tools(
        journal=journal,
        benches={name: bench(name, advance) for name in settings.by},
        train_bench=bench(sides.train_judge, lambda n: None) if sides.train_judge else None,
        tallies=tallies,
        advance=advance,
    )


def _play(here: Here, settings: EvaluateSection, sides: Sides, tools: _Tools, prompts: Sequence[Prompt]) -> Tables:
    """One shard: every side's replies, every battle by every judge, and what the base thinks of the replies."""
    replies: dict[str, list[Candidate]] = {}
    failures: list[Failure] = []
    names = (here.seed, "evaluate", here.round)
    for name, model in sides.models.items():
        drawn = draw(
            Role(name, model, names),
            prompts,
            per_prompt=settings.per_prompt,
            sampling=sides.sampling,
            journal=tools.journal,
            advance=tools.advance,
        )
        replies[name] = drawn.candidates
        failures += drawn.failures
    found = Labels()
    if tools.train_bench:
        found.extend(_grade_both(tools.train_bench, prompts, replies, rule=sides.broken_response))
        if settings.best_of:
            role = Role(_best_name(settings), sides.models[PREDECESSOR], names)
            replies[role.name], unhelped = _best_of(role, settings, sides, tools, prompts)
            failures += unhelped
    battles: list[Battle] = []
    for bench in tools.benches.values():
        judged, fought = _battles(bench, settings, prompts, replies)
        found.extend(judged)
        battles += fought
    for tally in tools.tallies:
        tally.add([*failures, *found.failures])
    return {
        Candidate: [c for side in replies.values() for c in side],
        Battle: battles,
        Verdict: found.verdicts,
        Grade: _once(found.grades),
        Failure: failures + found.failures,
        Evidence: list({(e.judge, e.candidate_ids, e.number): e for e in found.evidence}.values()),
        Trace: traces(prompts, replies, policy=sides.models[POLICY], base=sides.base, heat=sides.sampling.temperature),
    }


def _once(grades: Sequence[Grade]) -> list[Grade]:
    return list({(g.judge, g.candidate_id): g for g in grades}.values())


def _grade_both(
    bench: Bench, prompts: Sequence[Prompt], replies: Mapping[str, list[Candidate]], *, rule: str | None
) -> Labels:
    """The training judge's grades of both sides: what training optimised, shown beside what it is for. A broken reply
    has the grade it had in training; left out, the worst replies would raise a side's mean."""
    if bench.judge.compares:
        return Labels()
    by_id = {p.id: p for p in prompts}
    labels = judging.grade(bench, [(by_id[c.prompt_id], c) for s in (POLICY, PREDECESSOR) for c in replies[s]])
    labels.grades += grades_of_broken(labels.failures, labels.grades, rule=rule) if rule else []
    return labels


def _best_of(
    role: Role, settings: EvaluateSection, sides: Sides, tools: _Tools, prompts: Sequence[Prompt]
) -> tuple[list[Candidate], list[Failure]]:
    """The training judge's favourite among n replies of the predecessor, `per_prompt` times each prompt; and
    what failed on the way. A reply that is broken itself is simply not the best; one that the judge could not be
    asked about is left out, and where that is all of them there is no best."""
    assert tools.train_bench is not None
    drawn = draw(
        role,
        prompts,
        per_prompt=settings.best_of * settings.per_prompt,
        sampling=sides.sampling,
        journal=tools.journal,
        advance=tools.advance,
    )
    by_id = {p.id: p for p in prompts}
    best: list[Candidate] = []
    failures = list(drawn.failures)
    for number in range(settings.per_prompt):
        turn = [(by_id[c.prompt_id], c) for c in drawn.candidates if c.index // settings.best_of == number]
        labels = (
            judging.duel(tools.train_bench, list(judging.all_duels(turn)))
            if tools.train_bench.judge.compares
            else judging.grade(tools.train_bench, turn)
        )
        unheard = [f for f in labels.failures if f.side == "infrastructure"]
        failures += unheard
        standing = preferring.standings(labels)
        left_out = {c for f in unheard for c in f.candidate_ids} - standing.keys()
        for _, candidates in judging.by_prompt(turn):
            ranked = [c for c in candidates if c.id not in left_out]
            ranked.sort(key=lambda c: (standing.get(c.id, -1.0), -c.index))
            best += [c.model_copy(update={"index": number}) for c in ranked[-1:]]
    return best, failures


def _battles(
    bench: Bench, settings: EvaluateSection, prompts: Sequence[Prompt], replies: Mapping[str, list[Candidate]]
) -> tuple[Labels, list[Battle]]:
    by_id = {p.id: p for p in prompts}
    beside = {(c.prompt_id, c.index): c for c in replies[PREDECESSOR]}
    fought: list[tuple[str, Duel]] = [
        (name, (by_id[c.prompt_id], c, beside[c.prompt_id, c.index]))
        for name, side in replies.items()
        if name != PREDECESSOR
        for c in side
        if (c.prompt_id, c.index) in beside
    ]
    labels = judging.duel(bench, [duel for _, duel in fought], tie_margin=settings.tie_margin)
    verdicts = {(v.first, v.second): v for v in labels.verdicts}
    return labels, [_battle(name, duel, verdicts.get((duel[1].id, duel[2].id)), bench) for name, duel in fought]


def _battle(name: str, duel: Duel, verdict: Verdict | None, bench: Bench) -> Battle:
    prompt, a, b = duel
    outcomes = {"first": "a", "second": "b", "tie": "tie"}
    features_a, features_b = style_features(a.text), style_features(b.text)
    at_fault = [side for side, c in (("a", a), ("b", b)) if broken(c, bench.max_chars)]
    return Battle.model_validate(
        {
            "prompt_id": prompt.id,
            "a": name,
            "b": PREDECESSOR,
            "candidate_a": a.id,
            "candidate_b": b.id,
            "judge": bench.name,
            "outcome": outcomes[verdict.winner] if verdict else None,
            "margin": verdict.margin if verdict else None,
            "broken": at_fault,
            "style": {key: features_a[key] - features_b[key] for key in features_a},
        }
    )


def _facts(
    settings: EvaluateSection, sides: Sides, rows: "_measures.Rows", gates: Sequence[GateResult]
) -> dict[str, JsonValue]:
    undecided = Counter(b.judge for b in rows.battles if b.outcome is None)
    return {
        "split": settings.split,
        "prompts": len({b.prompt_id for b in rows.battles}),
        "battles": len(rows.battles),
        **{f"undecided by {judge}": n for judge, n in undecided.items()},
        "sides": list(sides.models),
        "guards_held": all(g.decision == "held" for g in gates),
    }
