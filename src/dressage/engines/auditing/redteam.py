"""What the tactics of the corpus gain with a judge: answers with and without them, and the bare tactic against a good
answer. Grades of one judge, or both-orders verdicts of one that compares; a failed judgement is in no mean.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from dressage.cards import Number, RedTeam, TacticScore
from dressage.engines.auditing.corpus import Answers, Tactic, candidate
from dressage.engines.auditing.pairs import used
from dressage.engines.failing import grades_of_broken
from dressage.engines.hearing import Bench
from dressage.engines.judging import Duel, Item, Labels, duel, grade
from dressage.maths.stats import Estimate, clustered, fold, paired_difference
from dressage.records import Candidate, Prompt, Usage


@dataclass(frozen=True)
class Tried:
    """One tactic on one prompt of the corpus."""

    prompt: Prompt
    good: Candidate
    bad: Candidate
    on_good: Candidate
    on_bad: Candidate
    bare: Candidate


@dataclass
class Attacked:
    """What came of an attack: the scores, and how the judge fared."""

    red_team: RedTeam
    labels: int
    usage: Usage
    reasons: Counter[str] = field(default_factory=Counter)
    plain_failed: int = 0
    """Failed judgements in which no tactic was."""
    plain: int = 0


def tried(tactic: Tactic, answers: Sequence[Answers]) -> list[Tried]:
    """A tactic on every prompt; its variants take turns."""
    return [
        Tried(
            one.prompt,
            candidate(one.prompt, one.good),
            candidate(one.prompt, one.bad),
            candidate(one.prompt, tactic.apply(one.prompt, one.good, seed)),
            candidate(one.prompt, tactic.apply(one.prompt, one.bad, seed)),
            candidate(one.prompt, tactic.bare(one.prompt, seed)),
        )
        for seed, one in enumerate(answers)
    ]


def size(bench: Bench, tactics: int, prompts: int) -> int:
    """How many judgements `attack` makes, for a progress bar."""
    return prompts * (1 + 3 * tactics) if bench.judge.compares else prompts * (2 + 3 * tactics)


def attack(bench: Bench, tactics: Sequence[Tactic], answers: Sequence[Answers], *, broken_rule: str) -> Attacked:
    """Every tactic on every prompt's good and bad answer, and bare.

    `broken_rule` grades a response that the tactic broke (empty, over the cap), as it does in the judge stage.
    """
    tries = {tactic.number: tried(tactic, answers) for tactic in tactics}
    given = [(one.prompt, candidate(one.prompt, one.good), candidate(one.prompt, one.bad)) for one in answers]
    measured = (_compared if bench.judge.compares else _graded)(bench, tries, given, broken_rule=broken_rule)
    labels, margin = measured
    scores = tuple(_score(tactic, tries[tactic.number], margin, labels) for tactic in tactics)
    lost = _lost(labels)
    plain = {c.id for _, *both in given for c in both}
    apart = [(1.0 if m > 0 else 0.0, prompt.id) for prompt, g, b in given if (m := margin.of(g, b)) is not None]
    told = clustered([v for v, _ in apart], [p for _, p in apart]) if apart else None
    return Attacked(
        RedTeam(
            prompts=len(answers),
            told_apart=Number.of(told, least=0.0, most=1.0) if told else None,
            scores=scores,
        ),
        labels=len(labels.verdicts if bench.judge.compares else labels.grades),
        usage=used(labels),
        reasons=Counter(f.reason for f in labels.failures if f.side == "infrastructure"),
        plain_failed=sum(ids <= plain for ids in lost),
        plain=len(given) if bench.judge.compares else len(plain),
    )


# ---------------------------------------------------------------- margins, whatever the judge


class Margins:
    """How far one candidate of a prompt is ahead of another, or null where the judge failed on either."""

    def __init__(self, labels: Labels) -> None:
        self._score = {g.candidate_id: g.score for g in labels.grades}
        self._margin = {(v.first, v.second): v.margin for v in labels.verdicts}

    def of(self, one: Candidate, other: Candidate) -> float | None:
        if (one.id, other.id) in self._margin:
            return self._margin[one.id, other.id]
        if one.id in self._score and other.id in self._score:
            return self._score[one.id] - self._score[other.id]
        return None


Tries = dict[int, list[Tried]]


def _graded(bench: Bench, tries: Tries, given: Sequence[Duel], *, broken_rule: str) -> tuple[Labels, Margins]:
    """Each text is graded once; prompt by prompt, so that a model can share what they have in common."""
    items: list[Item] = []
    for n, (prompt, good, bad) in enumerate(given):
        texts = [good, bad, *(c for of in tries.values() for c in (of[n].on_good, of[n].on_bad, of[n].bare))]
        items += [(prompt, c) for c in {c.id: c for c in texts}.values()]
    labels = grade(bench, items)
    labels.grades += grades_of_broken(labels.failures, labels.grades, rule=broken_rule)
    return labels, Margins(labels)


def _compared(bench: Bench, tries: Tries, given: Sequence[Duel], *, broken_rule: str) -> tuple[Labels, Margins]:
    """An answer with the tactic meets the same answer without it; the bare tactic meets the good answer."""
    duels: dict[tuple[str, str], Duel] = {}
    for n, (prompt, good, bad) in enumerate(given):
        pairs = [(good, bad)]
        for of in tries.values():
            pairs += [(of[n].on_good, good), (of[n].on_bad, bad), (of[n].bare, good)]
        duels |= {(a.id, b.id): (prompt, a, b) for a, b in pairs}
    labels = duel(bench, list(duels.values()))
    return labels, Margins(labels)


def _lost(labels: Labels) -> list[set[str]]:
    """The candidates of each judgement that failed."""
    return [set(f.candidate_ids) for f in labels.failures if f.side == "infrastructure"]


# ---------------------------------------------------------------- one tactic


def _score(tactic: Tactic, tries: Sequence[Tried], margin: Margins, labels: Labels) -> TacticScore:
    good = [(m, t.prompt.id) for t in tries if (m := margin.of(t.on_good, t.good)) is not None]
    bad = [(m, t.prompt.id) for t in tries if (m := margin.of(t.on_bad, t.bad)) is not None]
    alone = [(float(m > 0), t.prompt.id) for t in tries if (m := margin.of(t.bare, t.good)) is not None]
    marked = {c.id for t in tries for c in (t.on_good, t.on_bad, t.bare)}
    beats = clustered([v for v, _ in alone], [p for _, p in alone]) if alone else None
    gained = _gain([*good, *bad])
    return TacticScore(
        number=tactic.number,
        name=tactic.name,
        exploits=tactic.exploits,
        promised=tactic.promised,
        gain=Number.of(gained, least=-1.0, most=1.0) if gained else None,
        on_good=_mean(good),
        on_bad=_mean(bad),
        alone=Number.of(beats, least=0.0, most=1.0) if beats else None,
        failed=sum(bool(ids & marked) for ids in _lost(labels)),
    )


def _mean(rows: Sequence[tuple[float, str]]) -> float | None:
    return sum(m for m, _ in rows) / len(rows) if rows else None


def _gain(rows: Sequence[tuple[float, str]]) -> Estimate | None:
    """The mean gain with prompts as clusters, each of the same weight.

    As a difference of two shares, (1 + m)/2 and (1 − m)/2: where no prompt shows any gain the interval is still not of
    width zero, for another gain may have gone unseen (see maths.stats.paired_difference).
    """
    if not rows:
        return None
    by_prompt: dict[Hashable, float] = fold([m for m, _ in rows], [prompt for _, prompt in rows])
    found = paired_difference(
        {p: (1 + m) / 2 for p, m in by_prompt.items()}, {p: (1 - m) / 2 for p, m in by_prompt.items()}
    )
    return found._replace(n=len(rows))
