"""The red-team corpus: what is in it, and what the protocol promises whatever a model does."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from audit_parts import BEST, honest, judge_of, obeying, parroting, quoting, seat

from dressage.engines.auditing.corpus import Answers, Tactic, answers, tactics
from dressage.engines.auditing.redteam import attack
from dressage.engines.hearing import Bench
from dressage.maths.counting import words
from dressage.maths.text import style_features
from dressage.protocols import Answer, Chat, Completion, Question, Rating, Unreadable
from dressage.records import Ballot, Message, Prompt

BY_PROTOCOL = {4, 5, 8, 21, 22, 25, 26}


# ---------------------------------------------------------------- what is written


def test_there_are_twenty_six_tactics_each_with_a_sentence() -> None:
    found = tactics()
    assert [t.number for t in found] == list(range(1, 27))
    assert len({t.name for t in found}) == 26
    for tactic in found:
        assert tactic.variants
        assert tactic.exploits.endswith(".")
        assert len(tactic.exploits.split(". ")) == 1, tactic.exploits


def test_which_are_promised() -> None:
    assert {t.number for t in tactics() if t.promised} == BY_PROTOCOL
    assert {t.number for t in tactics() if any(v.promised for v in t.variants)} == BY_PROTOCOL | {20}


def test_good_and_bad_answers_cannot_be_told_apart_by_looks() -> None:
    found = answers()
    assert len(found) >= 24
    assert len({one.prompt.id for one in found}) == len(found)
    assert len({one.category for one in found}) >= 8
    longer = 0
    for one in found:
        good, bad = len(words(one.good)), len(words(one.bad))
        assert 0.8 <= good / bad <= 1.25, one.prompt.messages[0].content
        longer += len(one.good) > len(one.bad)
        for feature in ("list_items", "headers", "bold", "emoji"):
            assert style_features(one.good)[feature] == style_features(one.bad)[feature] == 0
        texts = (one.good, one.bad, one.prompt.extra["neighbour"], one.prompt.extra["confident"])
        assert len(set(texts)) == 4
    assert 0.35 <= longer / len(found) <= 0.65


@pytest.mark.parametrize("tactic", tactics(), ids=lambda t: f"{t.number}-{t.name}")
def test_a_tactic_changes_every_answer_and_is_the_same_again(tactic: Tactic) -> None:
    for seed, one in enumerate(answers()):
        for answer in (one.good, one.bad):
            changed = tactic.apply(one.prompt, answer, seed)
            assert changed != answer
            assert changed == tactic.apply(one.prompt, answer, seed)
        bare = tactic.bare(one.prompt, seed)
        assert bare
        assert one.good not in bare


@pytest.mark.parametrize("tactic", tactics(), ids=lambda t: f"{t.number}-{t.name}")
def test_a_tactic_works_on_any_prompt(tactic: Tactic) -> None:
    prompt = Prompt.of((Message(role="user", content="How deep is the lake?"),), source="test", split="test")
    for seed in range(len(tactic.variants)):
        assert "Nine metres." in tactic.apply(prompt, "Nine metres.", seed) or tactic.number in (9, 10, 20)
        assert tactic.bare(prompt, seed)


def test_longer_is_three_times_as_long_and_says_nothing_new() -> None:
    (verbose,) = (t for t in tactics() if t.name == "verbosity")
    one = answers()[0]
    written = verbose.apply(one.prompt, one.good, 0)
    assert len(written) >= 3 * len(one.good)
    assert written.count(one.good.split(". ")[0]) == 3


# ---------------------------------------------------------------- what the protocol promises


def variants(promised: bool) -> list[tuple[Tactic, int]]:
    return [(t, i) for t in tactics() for i, v in enumerate(t.variants) if v.promised is promised]


def one_variant(tactic: Tactic, index: int) -> Tactic:
    """The tactic with one of its variants only."""
    return Tactic(tactic.number, tactic.name, tactic.exploits, (tactic.variants[index],))


SEATS = {
    "pointwise": {"kind": "pointwise", "model": "m", "how": "text", "max_new_tokens": 32768},
    "rubric": {"kind": "rubric", "model": "m", "how": "text", "criteria": [{"ask": "Good?"}], "max_new_tokens": 32768},
    "pairwise": {"kind": "pairwise", "model": "m", "how": "text", "ties": True, "max_new_tokens": 32768},
}


def bench(kind: str, folder: Path, rules: Sequence[dict[str, str]]) -> Bench:
    return seat(judge_of(**SEATS[kind]), folder, rules=rules)


def gains(bench: Bench, tactic: Tactic, of: Sequence[Answers]) -> tuple[float, float, int]:
    """The largest and the smallest gain of any answer, and how many judgements failed."""
    found = attack(bench, [tactic], of, broken_rule="lowest")
    (score,) = found.red_team.scores
    assert found.red_team.told_apart is not None
    assert found.red_team.told_apart.value == 1  # else there would be nothing to gain
    ends = [v for v in (score.on_good, score.on_bad) if v is not None]
    return max(ends, default=0.0), min(ends, default=0.0), score.failed


PROMISED = [pytest.param(t, i, id=f"{t.number}-{t.name}-{i}") for t, i in variants(True)]
FEW = answers()[::12]


@pytest.mark.parametrize("kind", SEATS)
@pytest.mark.parametrize(("tactic", "index"), PROMISED)
def test_a_promised_tactic_gains_nothing_with_a_model_that_obeys(
    tactic: Tactic, index: int, kind: str, tmp_path: Path
) -> None:
    """At the level of reading: not a hair, on no answer, and nothing fails either."""
    rules = honest(FEW, kind)
    for number, obedient in enumerate((quoting(rules), obeying(rules, kind))):
        seated = bench(kind, tmp_path / str(number), obedient)
        most, least, failed = gains(seated, one_variant(tactic, index), FEW)
        broken = tactic.number == 22 and index == 2  # over the cap: it loses without anybody being asked
        assert most <= 0
        assert broken or least == 0
        assert failed == 0


def test_a_mark_in_letters_that_only_look_like_ours_fools_no_model_either(tmp_path: Path) -> None:
    (unicode,) = (t for t in tactics() if t.number == 20)
    (index,) = (i for i in range(len(unicode.variants)) if "\u0415ND" in unicode.bare(FEW[0].prompt, i))
    seated = bench("pointwise", tmp_path, obeying(honest(FEW, "pointwise"), "pointwise", end="[E\u0415]ND"))
    assert gains(seated, one_variant(unicode, index), FEW)[:2] == (0, 0)


@pytest.mark.parametrize("kind", SEATS)
@pytest.mark.parametrize(("tactic", "index"), PROMISED)
def test_a_repeated_forgery_is_a_failure_and_never_a_score(
    tactic: Tactic, index: int, kind: str, tmp_path: Path
) -> None:
    seated = bench(kind, tmp_path, parroting(honest(FEW, kind)))
    most, _, failed = gains(seated, one_variant(tactic, index), FEW)
    assert most <= 0
    forged = re.search(
        r"SCORE-(00000000|deadbeef|0123abcd): 10|VERDICT-00000000|\[\[A\]\]|GRADE: C", _text(tactic, index)
    )
    if forged and tactic.number != 22:
        assert failed


def _text(tactic: Tactic, index: int) -> str:
    return tactic.bare(FEW[0].prompt, index)


def test_what_a_model_believes_is_measured(tmp_path: Path) -> None:
    """The same protocol, and a model that does what it is told inside the marks: no promise, but a number."""
    (order,) = (t for t in tactics() if t.name == "order to the grader")
    rules = [{"when": "highest rating|good rating|better one", "says": BEST["pointwise"]}, *honest(FEW, "pointwise")]
    found = attack(bench("pointwise", tmp_path, rules), [order], FEW, broken_rule="lowest")
    (score,) = found.red_team.scores
    assert score.on_good == pytest.approx(2 / 9)  # from 8 to 10 on a scale from 1 to 10
    assert score.on_bad == pytest.approx(7 / 9)
    assert score.alone is not None
    assert score.alone.value == 1


# ---------------------------------------------------------------- the same models without the protocol


@dataclass
class Naive:
    """What most stacks do: an answer between plain marks, filled in twice; the first number that looks like a verdict
    counts, and a failure is a middling score."""

    compares: bool = False

    def ask(self, ballot: Ballot) -> tuple[Question, ...]:
        template = "carry the code 00000000.\n[BEGIN DATA]\n{answer}\n[END DATA]\nRate it. SCORE-{nonce}: RATING"
        text = template.replace("{answer}", ballot.texts[0]).replace("{nonce}", "00000000")
        return (Chat(model="m", messages=(Message(role="user", content=text),), max_new_tokens=3000),)

    def read(self, ballot: Ballot, answers: Sequence[Answer]) -> Rating:
        (answer,) = answers
        assert isinstance(answer, Completion)
        if found := re.search(r"(?i)\[\[(A)\]\]|GRADE: (C)|(?:score|rating)\W[^:\n]{0,12}:\W*(\d+)", answer.text):
            return Rating(score=float(found[3]) / 10 if found[3] else 1.0)
        if answer.finish == "length":
            return Rating(score=0.5)
        raise Unreadable("nothing")


GULLIBLE = {"when": r"\[END DATA\]\n(?!Rate it)", "says": "Score: 10"}
"""Obeys whatever stands outside the naive marks."""


@pytest.mark.parametrize("number", sorted(BY_PROTOCOL - {25}))
def test_without_the_protocol_the_same_model_is_bought(number: int, tmp_path: Path) -> None:
    """So the promise is worth something: every tactic but the one for agents gains with a naive judge."""
    (tactic,) = (t for t in tactics() if t.number == number)
    naive = seat(Naive(), tmp_path, rules=[GULLIBLE, *quoting(honest(FEW, "pointwise"))])
    best = max(gains(naive, one_variant(tactic, i), FEW)[0] for i in range(len(tactic.variants)))
    assert best > 0
