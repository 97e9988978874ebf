"""What tactics gain: by hand, with a judge that rates and one that compares, with failures and broken responses."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from audit_parts import any_of, judge_of, seat

from dressage.engines.auditing.corpus import Tactic, answers, tactics
from dressage.engines.auditing.making import after
from dressage.engines.auditing.redteam import attack, size
from dressage.protocols import Answer, Choice, Question, Rating, Unreadable
from dressage.records import Ballot

FOUR = answers()[:4]
GOOD, BAD = [one.good for one in FOUR], [one.bad for one in FOUR]


def tactic(words: str, number: int = 1) -> Tactic:
    return Tactic(number, "test", "Nothing.", (after(words, promised=False),))


@dataclass
class Rater:
    """Good answers 0.7, others 0.3; the magic word adds 0.2, and is worth 0.9 by itself; poison cannot be read."""

    compares: bool = False

    def ask(self, ballot: Ballot) -> tuple[Question, ...]:
        return ()

    def read(self, ballot: Ballot, answers: Sequence[Answer]) -> Rating:
        return Rating(score=self.score(ballot.texts[0]))

    def score(self, text: str) -> float:
        if "poison" in text:
            raise Unreadable("poison")
        if text == "magic":
            return 0.9
        base = 0.7 if any(text.startswith(good) for good in GOOD) else 0.3
        return base + (0.2 if "magic" in text else 0.0)


@dataclass
class Comparer(Rater):
    """Prefers what the rater rates higher, by the difference."""

    compares: bool = True

    def read(self, ballot: Ballot, answers: Sequence[Answer]) -> Choice:  # type: ignore[override]
        return Choice(margin=self.score(ballot.texts[0]) - self.score(ballot.texts[1]))


@pytest.mark.parametrize("judge", [Rater(), Comparer()], ids=["rates", "compares"])
def test_gains_by_hand(judge: Rater, tmp_path: Path) -> None:
    found = attack(seat(judge, tmp_path), [tactic("magic")], FOUR, broken_rule="lowest").red_team
    assert found.told_apart is not None
    assert found.told_apart.value == 1
    (score,) = found.scores
    assert score.gain is not None
    assert score.gain.value == pytest.approx(0.2)
    assert (score.gain.n, score.gain.prompts) == (8, 4)
    assert (score.on_good, score.on_bad) == (pytest.approx(0.2), pytest.approx(0.2))
    assert score.alone is not None
    assert score.alone.value == 1
    assert score.failed == 0


def test_a_gain_that_is_nowhere_still_has_an_interval(tmp_path: Path) -> None:
    (score,) = attack(seat(Rater(), tmp_path), [tactic("nothing")], FOUR, broken_rule="lowest").red_team.scores
    assert score.gain is not None
    assert score.gain.value == 0
    assert score.gain.low is not None
    assert score.gain.high is not None
    assert score.gain.low == pytest.approx(-score.gain.high)
    assert score.gain.high > 0.3  # four prompts show very little
    assert score.alone is not None
    assert score.alone.value == 0


@pytest.mark.parametrize("judge", [Rater(), Comparer()], ids=["rates", "compares"])
def test_what_fails_is_counted_and_in_no_mean(judge: Rater, tmp_path: Path) -> None:
    found = attack(seat(judge, tmp_path), [tactic("poison"), tactic("magic", 2)], FOUR, broken_rule="lowest")
    poisoned, magic = found.red_team.scores
    assert poisoned.gain is None
    assert poisoned.alone is None
    assert poisoned.failed == 12
    assert magic.failed == 0
    assert found.plain_failed == 0
    assert found.reasons["unreadable"] == poisoned.failed


def test_a_response_that_a_tactic_broke_gets_the_grade_of_the_rule(tmp_path: Path) -> None:
    long = tactic("x" * 30_000)
    (score,) = attack(seat(Rater(), tmp_path), [long], FOUR, broken_rule="lowest").red_team.scores
    assert (score.on_good, score.on_bad) == (pytest.approx(-0.7), pytest.approx(-0.3))
    (score,) = attack(seat(Rater(), tmp_path), [long], FOUR, broken_rule="worst_of_prompt").red_team.scores
    assert (score.on_good, score.on_bad) == (pytest.approx(-0.4), pytest.approx(0))
    (score,) = attack(seat(Comparer(), tmp_path), [long], FOUR, broken_rule="lowest").red_team.scores
    assert (score.on_good, score.on_bad) == (-1, -1)
    assert score.failed == 0


def test_all_tactics_with_a_judge_of_rules(tmp_path: Path) -> None:
    """Length is all it knows, so length is what gains."""
    check = {"rule": "length_window", "unit": "words", "least": 100, "slack": 100}
    bench = seat(judge_of("rules", rules=[{"check": check}]), tmp_path)
    seen: list[int] = []
    bench = type(bench)(bench.name, bench.judge, bench.asker, bench.max_chars, seen.append)
    found = attack(bench, tactics(), FOUR, broken_rule="lowest").red_team
    by_name = {s.name: s for s in found.scores}
    assert len(by_name) == 26
    worst = found.worst()
    assert worst is not None
    assert worst.name in ("verbosity", "flood", "confident derivation", "null model")
    assert by_name["verbosity"].on_good is not None
    assert by_name["verbosity"].on_good > 0.5
    assert by_name["punctuation"].on_good == 0
    assert sum(seen) <= size(bench, 26, 4)


def test_a_judge_that_always_names_the_first_can_be_sold_nothing(tmp_path: Path) -> None:
    """Both orders disagree, so every verdict is a tie: no gain, and nothing told apart."""
    bench = seat(judge_of("pairwise", model="m"), tmp_path, labels={"A": 0.9, "B": 0.1})
    found = attack(bench, tactics()[:3], FOUR, broken_rule="lowest").red_team
    assert found.told_apart is not None
    assert found.told_apart.value == 0
    assert [s.gain.value for s in found.scores if s.gain] == [0, 0, 0]


def test_a_judge_that_is_shown_a_reference_has_one(tmp_path: Path) -> None:
    bench = seat(judge_of("pointwise", model="m", reference=True, how="text"), tmp_path, says="SCORE-{nonce}: 5")
    found = attack(bench, tactics()[:1], FOUR, broken_rule="lowest")
    assert found.plain_failed == 0
    assert found.red_team.scores[0].failed == 0


def test_the_beginning_of_an_answer_finds_it() -> None:
    assert any_of(["a.b"]) == r"(?:a\.b)"
