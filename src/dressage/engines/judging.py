"""Judge candidates: prompts with responses → grades, verdicts in both orders, failures; then preferences."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from dressage.engines.asking import Asker
from dressage.protocols import (
    Answer,
    Chat,
    Choice,
    Completion,
    Distribution,
    Judge,
    Question,
    Rating,
    Trouble,
    Unreadable,
)
from dressage.records import (
    Ballot,
    Candidate,
    Failure,
    Grade,
    Prompt,
    Usage,
    Verdict,
    Vote,
    Winner,
)
from dressage.tokens import without_thinking

Item = tuple[Prompt, Candidate]
Duel = tuple[Prompt, Candidate, Candidate]
RETRIES = 1
"""An unreadable worded answer is asked for once more, with another seed."""


class TooManyFailures(RuntimeError):
    """More judgements failed than the YAML allows."""


@dataclass
class Labels:
    """What came of a batch of judgements."""

    grades: list[Grade] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def extend(self, other: "Labels") -> None:
        self.grades += other.grades
        self.verdicts += other.verdicts
        self.failures += other.failures


@dataclass(frozen=True)
class Bench:
    """A named judge with whom it asks, and the rules that hold for every judge."""

    name: str
    judge: Judge
    asker: Asker
    max_chars: int
    advance: Callable[[int], None]
    """Told of each finished judgement."""


def broken(candidate: Candidate, max_chars: int) -> str | None:
    """Why a response cannot be judged through its own fault, or null."""
    text = without_thinking(candidate.text)
    if not text.strip():
        return "empty"
    if not any(character.isprintable() and not character.isspace() for character in text):
        return "nothing but control characters"
    if len(text) > max_chars:
        return f"over {max_chars} characters"
    return None


def grade(bench: Bench, items: Sequence[Item]) -> Labels:
    """Grades each candidate on its own.

    A response's own failure is recorded and not asked about; the caller's named rule grades it.
    """
    labels = Labels()
    whole = _without_broken(bench, items, labels)
    ballots = [_ballot(prompt, candidate) for prompt, candidate in whole]
    for (prompt, candidate), mark, words, usage in zip(whole, *_marks(bench, ballots), strict=True):
        if isinstance(mark, Trouble):
            labels.failures.append(_failure(bench, prompt, (candidate,), mark))
        else:
            assert isinstance(mark, Rating), f"judge {bench.name} compares; it cannot grade one text"
            labels.grades.append(
                Grade(
                    prompt_id=prompt.id,
                    candidate_id=candidate.id,
                    judge=bench.name,
                    words=words,
                    usage=usage,
                    **dict(mark),
                )
            )
    return labels


def duel(bench: Bench, duels: Sequence[Duel], *, tie_margin: float = 0.0) -> Labels:
    """Verdicts on pairs: a comparing judge sees both orders, a grading one grades each side.

    A side whose own response failed loses without the judge being asked; a pair broken on both sides is
    left out. Equal texts are a tie.
    """
    return _compared(bench, duels) if bench.judge.compares else _graded_duels(bench, duels, tie_margin)


# ---------------------------------------------------------------- asking and reading


def _ballot(prompt: Prompt, *candidates: Candidate) -> Ballot:
    texts = tuple(without_thinking(c.text) for c in candidates)
    return Ballot(messages=prompt.messages, texts=texts, reference=prompt.reference)


Marks = tuple[list[Rating | Choice | Trouble], list[tuple[str, ...]], list[Usage]]


def _marks(bench: Bench, ballots: Sequence[Ballot]) -> Marks:
    """One mark a ballot, with the judge's words and what they cost; unreadable words are asked for again."""
    asked = [bench.judge.ask(ballot) for ballot in ballots]
    answers = bench.asker.answers([q for questions in asked for q in questions], advance=lambda n: None)
    taken = iter(answers)
    marks, words, usages = [], [], []
    for ballot, questions in zip(ballots, asked, strict=True):
        got = [next(taken) for _ in questions]
        mark = _read(bench.judge, ballot, got)
        for attempt in range(1, RETRIES + 1):
            if not isinstance(mark, Trouble) or not any(isinstance(q, Chat) for q in questions):
                break
            again = [_resampled(q, attempt) for q in questions]
            got = bench.asker.answers(again, advance=lambda n: None)
            mark = _read(bench.judge, ballot, got)
        marks.append(mark)
        words.append(tuple(a.text for a in got if isinstance(a, Completion)))
        usages.append(sum((a.usage for a in got if isinstance(a, Completion | Distribution)), Usage()))
        bench.advance(1)
    bench.asker.forget_trouble()
    return marks, words, usages


def _resampled(question: Question, attempt: int) -> Question:
    if not isinstance(question, Chat):
        return question
    warmer = max(question.temperature, 0.3)
    return question.model_copy(update={"sample": question.sample + 1000 * attempt, "temperature": warmer})


def _read(judge: Judge, ballot: Ballot, answers: Sequence[Answer | Trouble]) -> Rating | Choice | Trouble:
    whole: list[Answer] = []
    for answer in answers:
        if isinstance(answer, Trouble):
            return answer
        whole.append(answer)
    try:
        return judge.read(ballot, whole)
    except Unreadable as error:
        return Trouble(reason=error.reason, detail=str(error))


def _failure(bench: Bench, prompt: Prompt, candidates: Sequence[Candidate], trouble: Trouble) -> Failure:
    return Failure(
        prompt_id=prompt.id,
        candidate_ids=tuple(c.id for c in candidates),
        judge=bench.name,
        side="infrastructure",
        reason=trouble.reason,
        detail=trouble.detail,
    )


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
    for prompt, first, second in duels:
        reasons = [broken(c, bench.max_chars) for c in (first, second)]
        for candidate, reason in zip((first, second), reasons, strict=True):
            if reason:
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
    both = _marks(bench, [b for ballot in given for b in (ballot, ballot.swapped())])
    for i, one in enumerate(whole):
        marks = both[0][2 * i : 2 * i + 2]
        trouble = next((m for m in marks if isinstance(m, Trouble)), None)
        if trouble:
            labels.failures.append(_failure(bench, one[0], one[1:], trouble))
            continue
        margins = [m.margin for m in marks if isinstance(m, Choice)]
        words = [" ".join(w) for w in both[1][2 * i : 2 * i + 2]]
        votes = (
            Vote(margin=margins[0], shown="as given", words=words[0]),
            Vote(margin=-margins[1], shown="swapped", words=words[1]),
        )
        labels.verdicts.append(_both_orders(bench, one, votes, usage=both[2][2 * i] + both[2][2 * i + 1]))
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
    quiet = Bench(bench.name, bench.judge, bench.asker, bench.max_chars, advance=lambda n: None)
    graded = grade(quiet, list(sides.values()))
    labels.grades, labels.failures = graded.grades, labels.failures + graded.failures
    score = {g.candidate_id: g.score for g in graded.grades}
    for prompt, first, second in whole:
        if first.id in score and second.id in score:
            margin = score[first.id] - score[second.id]
            labels.verdicts.append(_verdict(bench, (prompt, first, second), margin, tie_margin=tie_margin))
        bench.advance(1)
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


def grades_of_broken(failures: Sequence[Failure], grades: Sequence[Grade], *, rule: str) -> list[Grade]:
    """The grade of the named rule for every response that failed by itself; no judge was asked.

    `lowest` is 0; `worst_of_prompt` the lowest grade of the prompt's others (none → left out).
    """
    found = []
    for failure in failures:
        if failure.side != "response":
            continue
        others = [g.score for g in grades if g.prompt_id == failure.prompt_id and g.judge == failure.judge]
        if rule == "lowest" or others:
            score = 0.0 if rule == "lowest" else min(others)
            found.append(
                Grade(
                    prompt_id=failure.prompt_id,
                    candidate_id=failure.candidate_ids[0],
                    judge=failure.judge,
                    score=score,
                    normalised=f"broken_response: {rule}",
                )
            )
    return found


def all_duels(items: Sequence[Item]) -> Iterator[Duel]:
    """Every unordered pair of candidates that share a prompt."""
    for prompt, candidates in by_prompt(items):
        yield from ((prompt, a, b) for a, b in combinations(candidates, 2))


def by_prompt(items: Sequence[Item]) -> list[tuple[Prompt, list[Candidate]]]:
    grouped: dict[str, tuple[Prompt, list[Candidate]]] = {}
    for prompt, candidate in items:
        grouped.setdefault(prompt.id, (prompt, []))[1].append(candidate)
    return list(grouped.values())


def refuse_too_many(labels: Labels, asked: int, *, at_most: float, judge: str) -> None:
    """Stops a stage whose judge fails too often; what the responses broke themselves does not count.

    Raises:
        TooManyFailures: with the share, the reasons and an example.
    """
    failed = [f for f in labels.failures if f.side == "infrastructure" and f.judge == judge]
    if asked and len(failed) / asked > at_most:
        reasons: dict[str, int] = {}
        for f in failed:
            reasons[f.reason] = reasons.get(f.reason, 0) + 1
        told = ", ".join(f"{n} × {reason}" for reason, n in sorted(reasons.items(), key=lambda r: -r[1]))
        raise TooManyFailures(
            f"judge {judge!r} failed on {len(failed)} of {asked} judgements ({told}), more than max_failures "
            f"{at_most:g}; for example: {failed[0].detail[:200]!r}. Mend the judge or raise max_failures; "
            "run again to go on"
        )
