"""Put ballots before a judge: its questions go out in full batches, one mark a ballot comes back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

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


def hear(bench: Bench, ballots: Sequence[Ballot], *, units: int) -> list[Heard]:
    """One mark a ballot; where the words of a judge are unreadable it is asked again with other seeds.

    `units` is what the ballots count together on the progress bar.
    """
    asked = [bench.judge.ask(ballot) for ballot in ballots]
    meter = Meter(bench.advance, units=units, questions=sum(len(questions) for questions in asked))
    heard = [Heard(Trouble(reason="not asked")) for _ in ballots]
    _ask(bench, ballots, asked, heard, told=meter.told)
    put = [list(questions) for questions in asked]
    for attempt in range(1, RETRIES + 1):
        again = [i for i, one in enumerate(heard) if one.unreadable and any(isinstance(q, Chat) for q in asked[i])]
        warmer = [tuple(_resampled(q, attempt) for q in asked[i]) for i in again]
        _ask(bench, [ballots[i] for i in again], warmer, [heard[i] for i in again], told=lambda n: None)
        for i, questions in zip(again, warmer, strict=True):
            put[i] += questions
    bench.asker.forget_trouble()
    _bury(bench.asker, heard, put)
    meter.finish()
    return heard


def _bury(asker: Asker, heard: Sequence[Heard], put: Sequence[Sequence[Question]]) -> None:
    """What stayed unreadable to the end is not given again: a later run, with a mended judge or server, asks anew."""
    unread = [q for one, questions in zip(heard, put, strict=True) if one.unreadable for q in questions]
    if unread:
        served = {q for one, questions in zip(heard, put, strict=True) if not one.unreadable for q in questions}
        asker.bury(q for q in unread if q not in served)


def _ask(
    bench: Bench,
    ballots: Sequence[Ballot],
    asked: Sequence[tuple[Question, ...]],
    heard: Sequence[Heard],
    *,
    told: Callable[[int], None],
) -> None:
    answers = iter(bench.asker.answers([q for questions in asked for q in questions], advance=told))
    for ballot, questions, one in zip(ballots, asked, heard, strict=True):
        got = [next(answers) for _ in questions]
        one.mark, one.unreadable = _read(bench.judge, ballot, got)
        one.words = tuple(wellformed(a.text) for a in got if isinstance(a, Completion))
        one.usage += sum((a.usage for a in got if isinstance(a, Completion | Distribution | Score)), Usage())


def _resampled(question: Question, attempt: int) -> Question:
    if not isinstance(question, Chat):
        return question
    warmer = max(question.temperature, 0.3)
    return question.model_copy(update={"sample": question.sample + 1000 * attempt, "temperature": warmer})


def _read(judge: Judge, ballot: Ballot, answers: Sequence[Answer | Trouble]) -> tuple[Rating | Choice | Trouble, bool]:
    """The mark, and whether it is none because the answers are unreadable."""
    whole: list[Answer] = []
    for answer in answers:
        if isinstance(answer, Trouble):
            return answer, False
        whole.append(answer)
    try:
        return judge.read(ballot, whole), False
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
