"""Judge candidates: prompts with responses → grades, verdicts in both orders, their evidence, failures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from dressage.clock import spending
from dressage.engines.failing import broken
from dressage.engines.hearing import Bench, hear
from dressage.protocols import Choice, Rating, Trouble
from dressage.records import Ballot, Candidate, Evidence, Failure, Grade, Prompt, Usage, Verdict, Vote, Winner
from dressage.tokens import without_thinking

Item = tuple[Prompt, Candidate]
Duel = tuple[Prompt, Candidate, Candidate]


@dataclass
class Labels:
    """What came of a batch of judgements."""

    grades: list[Grade] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)

    def extend(self, other: "Labels") -> None:
        self.grades += other.grades
        self.verdicts += other.verdicts
        self.failures += other.failures
        self.evidence += other.evidence


@spending("judging")
def grade(bench: Bench, items: Sequence[Item]) -> Labels:
    """Grades each candidate on its own.

    A response's own failure is recorded and not asked about; the caller's named rule grades it.
    """
    labels = Labels()
    whole = _without_broken(bench, items, labels)
    labels.extend(_graded(bench, whole, units=len(whole)))
    return labels


def _graded(bench: Bench, items: Sequence[Item], *, units: int) -> Labels:
    """Grades of candidates that are not broken; `units` is what they count on the progress bar."""
    labels = Labels()
    ballots = [_ballot(prompt, candidate) for prompt, candidate in items]
    for (prompt, candidate), heard in zip(items, hear(bench, ballots, units=units), strict=True):
        if isinstance(heard.mark, Trouble):
            labels.failures.append(_failure(bench, prompt, (candidate,), heard.mark))
        else:
            assert isinstance(heard.mark, Rating), f"judge {bench.name} compares; it cannot grade one text"
            labels.grades.append(
                Grade(
                    prompt_id=prompt.id,
                    candidate_id=candidate.id,
                    judge=bench.name,
                    words=heard.words,
                    usage=heard.usage,
                    **{key: value for key, value in heard.mark if key != "checked"},
                )
            )
            labels.evidence += _evidence(bench, prompt, (candidate,), heard.mark)
    return labels


@spending("judging")
def duel(bench: Bench, duels: Sequence[Duel], *, tie_margin: float = 0.0) -> Labels:
    """Verdicts on pairs: a comparing judge sees both orders, a grading one grades each side.

    A side whose own response failed loses without the judge being asked; a pair broken on both sides is
    left out. Equal texts are a tie.
    """
    return _compared(bench, duels) if bench.judge.compares else _graded_duels(bench, duels, tie_margin)


def _ballot(prompt: Prompt, *candidates: Candidate) -> Ballot:
    texts = tuple(without_thinking(c.text) for c in candidates)
    return Ballot(messages=prompt.messages, texts=texts, reference=prompt.reference)


def _failure(bench: Bench, prompt: Prompt, candidates: Sequence[Candidate], trouble: Trouble) -> Failure:
    return Failure(
        prompt_id=prompt.id,
        candidate_ids=tuple(c.id for c in candidates),
        judge=bench.name,
        side="infrastructure",
        reason=trouble.reason,
        detail=trouble.detail,
    )


def _evidence(
    bench: Bench, prompt: Prompt, shown: Sequence[Candidate], mark: Rating | Choice | Trouble
) -> list[Evidence]:
    """What the judge's tools were asked behind a mark; `shown` in the order in which it saw them."""
    named = {"prompt_id": prompt.id, "candidate_ids": tuple(c.id for c in shown), "judge": bench.name}
    checked = () if isinstance(mark, Trouble) else mark.checked
    return [Evidence(number=n, **named, **dict(one)) for n, one in enumerate(checked, 1)]


def _own_failure(bench: Bench, prompt: Prompt, candidate: Candidate, reason: str) -> Failure:
    return Failure(
        prompt_id=prompt.id,
        candidate_ids=(candidate.id,),
        judge=bench.name,
        side="response",
        reason=reason,
        detail=repr(candidate.text[:80]),
    )


def _without_broken(bench: Bench, items: Sequence[Item], labels: Labels) -> list[Item]:
    whole = []
    for prompt, candidate in items:
        if reason := broken(candidate, bench.max_chars):
            labels.failures.append(_own_failure(bench, prompt, candidate, reason))
            bench.advance(1)
        else:
            whole.append((prompt, candidate))
    return whole


# ---------------------------------------------------------------- pairs


def _settled(bench: Bench, duels: Sequence[Duel], labels: Labels) -> list[Duel]:
    """Decides the pairs that need no judge; returns the others."""
    open_duels = []
    told: set[str] = set()
    for prompt, first, second in duels:
        reasons = [broken(c, bench.max_chars) for c in (first, second)]
        for candidate, reason in zip((first, second), reasons, strict=True):
            if reason and candidate.id not in told:
                told.add(candidate.id)
                labels.failures.append(_own_failure(bench, prompt, candidate, reason))
        if all(reasons):
            bench.advance(1)
        elif any(reasons):
            margin = -1.0 if reasons[0] else 1.0
            labels.verdicts.append(_verdict(bench, (prompt, first, second), margin, evidence=("broken response",)))
            bench.advance(1)
        elif without_thinking(first.text) == without_thinking(second.text):
            labels.verdicts.append(_verdict(bench, (prompt, first, second), 0.0, evidence=("equal texts",)))
            bench.advance(1)
        else:
            open_duels.append((prompt, first, second))
    return open_duels


def _compared(bench: Bench, duels: Sequence[Duel]) -> Labels:
    labels = Labels()
    whole = _settled(bench, duels, labels)
    given = [_ballot(*d) for d in whole]
    both = hear(bench, [b for ballot in given for b in (ballot, ballot.swapped())], units=len(whole))
    for one, straight, turned in zip(whole, both[::2], both[1::2], strict=True):
        marks = (straight.mark, turned.mark)
        if trouble := next((m for m in marks if isinstance(m, Trouble)), None):
            labels.failures.append(_failure(bench, one[0], one[1:], trouble))
            continue
        margins = [m.margin for m in marks if isinstance(m, Choice)]
        votes = (
            Vote(margin=margins[0], shown="as given", words=" ".join(straight.words)),
            Vote(margin=-margins[1], shown="swapped", words=" ".join(turned.words)),
        )
        labels.verdicts.append(_both_orders(bench, one, votes, usage=straight.usage + turned.usage))
        prompt, *pair = one
        for mark, shown in zip(marks, (pair, pair[::-1]), strict=True):
            labels.evidence += _evidence(bench, prompt, shown, mark)
    return labels


def _both_orders(bench: Bench, one: Duel, votes: tuple[Vote, Vote], *, usage: Usage) -> Verdict:
    """Both orders agree → that side; else a tie that makes no preference."""
    signs = {winner_of(v.margin, 0.0) for v in votes}
    margin = (votes[0].margin + votes[1].margin) / 2
    verdict = _verdict(bench, one, margin if len(signs) == 1 else 0.0)
    return verdict.model_copy(update={"votes": votes, "consistent": len(signs) == 1, "usage": usage})


def _graded_duels(bench: Bench, duels: Sequence[Duel], tie_margin: float) -> Labels:
    labels = Labels()
    whole = _settled(bench, duels, labels)
    sides = {c.id: (prompt, c) for prompt, *pair in whole for c in pair}
    labels.extend(_graded(bench, list(sides.values()), units=len(whole)))
    score = {g.candidate_id: g.score for g in labels.grades}
    for prompt, first, second in whole:
        if first.id in score and second.id in score:
            margin = score[first.id] - score[second.id]
            labels.verdicts.append(_verdict(bench, (prompt, first, second), margin, tie_margin=tie_margin))
    return labels


def winner_of(margin: float, tie_margin: float) -> Winner:
    if abs(margin) <= tie_margin:
        return "tie"
    return "first" if margin > 0 else "second"


def _verdict(
    bench: Bench, one: Duel, margin: float, *, tie_margin: float = 0.0, evidence: tuple[str, ...] = ()
) -> Verdict:
    prompt, first, second = one
    return Verdict(
        prompt_id=prompt.id,
        first=first.id,
        second=second.id,
        judge=bench.name,
        winner=winner_of(margin, tie_margin),
        margin=margin,
        evidence=evidence,
    )


def all_duels(items: Sequence[Item]) -> Iterator[Duel]:
    """Every unordered pair of candidates that share a prompt."""
    for prompt, candidates in by_prompt(items):
        yield from ((prompt, a, b) for a, b in combinations(candidates, 2))


def by_prompt(items: Sequence[Item]) -> list[tuple[Prompt, list[Candidate]]]:
    grouped: dict[str, tuple[Prompt, list[Candidate]]] = {}
    for prompt, candidate in items:
        grouped.setdefault(prompt.id, (prompt, []))[1].append(candidate)
    return list(grouped.values())
