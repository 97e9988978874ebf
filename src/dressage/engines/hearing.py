"""Put ballots before a judge: its questions go out in full batches, one mark a ballot comes back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dressage.engines.asking import Asker
from dressage.marks import OverBudget
from dressage.protocols import (
    Answer,
    Chat,
    Choice,
    Completion,
    Distribution,
    Investigates,
    Judge,
    Question,
    Rating,
    Score,
    Trouble,
    Unreadable,
)
from dressage.records import Ballot, Usage
from dressage.tokens import wellformed

RETRIES = 1
"""An unreadable worded answer is asked for once more, with another seed."""


@dataclass(frozen=True)
class Bench:
    """A named judge with whom it asks, and the rules that hold for every judge."""

    name: str
    judge: Judge
    asker: Asker
    max_chars: int
    advance: Callable[[int], None]
    """Told of each finished judgement."""


@dataclass
class Heard:
    """What a judge made of one ballot: its mark, its last words, and what all its answers cost."""

    mark: Rating | Choice | Trouble
    unreadable: bool = False
    """Whether the trouble is that its words hold no verdict: only then is it worth asking again."""
    words: tuple[str, ...] = ()
    usage: Usage = field(default_factory=Usage)
    asked: list[Question] = field(default_factory=list)
    """All questions it took, those of another try included."""


def hear(bench: Bench, ballots: Sequence[Ballot], *, units: int) -> list[Heard]:
    """One mark a ballot; where the words of a judge are unreadable it is asked again with other seeds.

    A judge that investigates is asked in rounds, each in full batches of all ballots that are still open. `units` is
    what the ballots count together on the progress bar.
    """
    heard = [Heard(Trouble(reason="not asked")) for _ in ballots]
    first = [bench.judge.ask(ballot) for ballot in ballots]
    of = len(ballots) if _in_rounds(bench.judge) else sum(len(questions) for questions in first)
    meter = Meter(bench.advance, units=units, questions=of)
    _try(bench, ballots, heard, attempt=0, meter=meter)
    for attempt in range(1, RETRIES + 1):
        again = [i for i, one in enumerate(heard) if one.unreadable and any(isinstance(q, Chat) for q in one.asked)]
        _try(bench, [ballots[i] for i in again], [heard[i] for i in again], attempt=attempt, meter=None)
    bench.asker.forget_trouble()
    _bury(bench.asker, heard)
    meter.finish()
    return heard


def _in_rounds(judge: Judge) -> bool:
    """Whether it shows only as it goes how many questions a ballot takes."""
    return isinstance(judge, Investigates) and judge.rounds > 1


def _bury(asker: Asker, heard: Sequence[Heard]) -> None:
    """What stayed unreadable to the end is not given again: a later run, with a mended judge or server, asks anew."""
    unread = [q for one in heard if one.unreadable for q in one.asked]
    if unread:
        served = {q for one in heard if not one.unreadable for q in one.asked}
        asker.bury(q for q in unread if q not in served)


@dataclass
class _Open:
    """A ballot that is being heard: the questions that go out next, and the answers so far."""

    ballot: Ballot
    heard: Heard
    next: tuple[Question, ...]
    answers: list[Answer] = field(default_factory=list)


def _try(
    bench: Bench, ballots: Sequence[Ballot], heard: Sequence[Heard], *, attempt: int, meter: "Meter | None"
) -> None:
    """Asks about each ballot until it is decided; `attempt` above 0 draws other words than the tries before."""
    judge = bench.judge
    still = [_Open(b, one, judge.ask(b)) for b, one in zip(ballots, heard, strict=True)]
    in_rounds = _in_rounds(judge)
    while still:
        for one in still:
            one.next = tuple(_resampled(q, attempt) for q in one.next)
            one.heard.asked += one.next
        told = (lambda n: None) if meter is None or in_rounds else meter.told
        answers = iter(bench.asker.answers([q for one in still for q in one.next], advance=told))
        for one in still:
            _take(judge, one, [next(answers) for _ in one.next])
        decided = sum(not one.next for one in still)
        if meter is not None and in_rounds:
            meter.told(decided)
        still = [one for one in still if one.next]


def _take(judge: Judge, one: _Open, got: Sequence[Answer | Trouble]) -> None:
    """Takes in the answers of a round: the mark, or the questions of the next."""
    heard = one.heard
    heard.usage += sum((a.usage for a in got if isinstance(a, Completion | Distribution | Score)), Usage())
    one.next = ()
    whole = [a for a in got if not isinstance(a, Trouble)]
    one.answers += whole
    heard.words = tuple(wellformed(a.text) for a in one.answers if isinstance(a, Completion))
    if len(whole) < len(got):
        heard.mark, heard.unreadable = next(a for a in got if isinstance(a, Trouble)), False
        return
    if isinstance(judge, Investigates):
        one.next = judge.more(one.ballot, one.answers)
    if not one.next:
        heard.mark, heard.unreadable = _read(judge, one.ballot, one.answers)


def _resampled(question: Question, attempt: int) -> Question:
    if not isinstance(question, Chat):
        return question
    warmer = max(question.temperature, 0.3)
    return question.model_copy(update={"sample": question.sample + 1000 * attempt, "temperature": warmer})


def _read(judge: Judge, ballot: Ballot, answers: Sequence[Answer]) -> tuple[Rating | Choice | Trouble, bool]:
    """The mark, and whether it is none because the answers are unreadable, so that others are worth asking for."""
    try:
        return judge.read(ballot, answers), False
    except OverBudget as error:
        return Trouble(reason=error.reason, detail=str(error)), False
    except Unreadable as error:
        return Trouble(reason=error.reason, detail=str(error)), True


class Meter:
    """Tells of judgements as their questions are answered: `units` of them are asked in `questions` questions."""

    def __init__(self, advance: Callable[[int], None], *, units: int, questions: int) -> None:
        self._advance, self._units, self._questions = advance, units, questions
        self._answered = self._told = 0

    def told(self, answered: int) -> None:
        self._answered += answered
        self._tell(self._units * self._answered // self._questions if self._questions else 0)

    def finish(self) -> None:
        """Tells of what is left: a judge that computes by itself asks no question."""
        self._tell(self._units)

    def _tell(self, done: int) -> None:
        if done > self._told:
            self._advance(done - self._told)
            self._told = done
