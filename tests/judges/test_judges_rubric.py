"""Rubric: Σ w c / Σ w by hand, one question a criterion, all of them or no grade."""

import re

import pytest
from pydantic import ValidationError

from dressage.judges import rubric
from dressage.protocols import Chat, Completion, Distribution, Labels, Unreadable

CRITERIA = (
    {"name": "warm", "ask": "Does the reply show warmth?", "weight": 2},
    {"check": {"rule": "ends_cleanly"}},
    {"name": "useful", "ask": "How useful is it?", "choices": ("useless", "partly", "fully"), "weight": 1},
)


def settings(*criteria: dict, **more: object) -> rubric.Settings:
    return rubric.Settings.model_validate({"model": "m", "criteria": criteria or CRITERIA, **more})


def test_one_forward_pass_a_question(ballot, tools):
    judge = rubric.open(settings(), tools=tools(True))
    questions = judge.ask(ballot("Yes."))
    assert all(isinstance(q, Labels) for q in questions)
    assert [q.labels for q in questions] == [("Yes", "No"), ("A", "B", "C")]
    answers = [
        Distribution(probabilities={"Yes": 0.6, "No": 0.2}),
        Distribution(probabilities={"A": 0.1, "B": 0.2, "C": 0.5}),
    ]
    rating = judge.read(ballot("Yes."), answers)
    assert rating.criteria == pytest.approx({"warm": 0.75, "ends_cleanly": 1.0, "useful": (0.1 + 0.5) / 0.8})
    assert rating.score == pytest.approx((2 * 0.75 + 1.0 + 0.75) / 4)
    assert len(rating.evidence) == 2


def test_words_are_read_from_verdict_lines(ballot, tools):
    judge = rubric.open(settings(), tools=tools())
    questions = judge.ask(ballot("no end"))
    assert all(isinstance(q, Chat) for q in questions)
    line = re.findall(r"VERDICT-[0-9a-f]{8}: ", questions[0].messages[0].content)[-1]
    answers = [Completion(text=f"{line}{said}", finish="stop") for said in ("yes", "B")]
    rating = judge.read(ballot("no end"), answers)
    assert rating.criteria == {"warm": 1.0, "ends_cleanly": 0.0, "useful": 0.5}
    assert rating.score == pytest.approx((2 + 0 + 0.5) / 4)


def test_one_unread_criterion_leaves_no_grade(ballot, tools):
    judge = rubric.open(settings(), tools=tools(True))
    good = Distribution(probabilities={"Yes": 0.9, "No": 0.1})
    with pytest.raises(Unreadable):
        judge.read(ballot("x"), [good, Distribution(probabilities={"A": 0.1, "B": 0.1, "C": 0.1})])
    with pytest.raises(Unreadable, match="1 answers to 2 questions"):
        judge.read(ballot("x"), [good])
    with pytest.raises(Unreadable, match="3 answers to 2 questions"):
        judge.read(ballot("x"), [good, good, good])


def test_no_may_be_the_good_answer(ballot, tools):
    judge = rubric.open(settings({"ask": "Is it rude?", "good": "no"}), tools=tools(True))
    rating = judge.read(ballot("x"), [Distribution(probabilities={"Yes": 0.2, "No": 0.6})])
    assert rating.score == pytest.approx(0.75)


def test_weight_0_is_recorded_but_not_counted(ballot, tools):
    shown = {"name": "warm", "ask": "Warm?", "weight": 0}
    judge = rubric.open(settings(shown, {"check": {"rule": "ends_cleanly"}}), tools=tools(True))
    rating = judge.read(ballot("Yes."), [Distribution(probabilities={"Yes": 0.0, "No": 0.9})])
    assert (rating.score, rating.criteria["warm"]) == (1.0, 0.0)


def test_the_criterion_comes_last_so_that_the_rest_is_shared(ballot, tools):
    one, other = rubric.open(settings(), tools=tools()).ask(ballot("It comes."))
    first, second = one.messages[0].content, other.messages[0].content
    shared = first.index("Does the reply show warmth?")
    assert first[:shared] == second[:shared]
    assert "=== END REPLY" in first[:shared]


def test_rules_alone_need_no_model(ballot, tools):
    checks = rubric.Settings.model_validate({"criteria": [{"check": {"rule": "ends_cleanly"}}]})
    judge = rubric.open(checks, tools=tools(True))
    assert checks.models_asked() == judge.ask(ballot("x")) == ()
    assert judge.read(ballot("x."), []).score == 1.0
    assert checks.substance() == {"rule:ends_cleanly"}
    assert settings().models_asked() == ("m",)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"criteria": [{"ask": "Warm?", "weight": 0}], "model": "m"}, "sum to 0"),
        ({"criteria": [{"ask": "Warm?"}]}, "name a `model`"),
        ({"criteria": [{"check": {"rule": "ends_cleanly"}}], "model": "m"}, "asks model 'm' anything"),
        ({"criteria": [{"name": "empty"}]}, "either `check`"),
        ({"criteria": [{"ask": "Q?", "check": {"rule": "ends_cleanly"}}]}, "either `check`"),
        ({"criteria": [{"ask": "Q?", "choices": ["one"]}], "model": "m"}, "two answers or more"),
        ({"criteria": [{"ask": "Q?", "choices": ["a", "a"]}], "model": "m"}, "two answers or more"),
        ({"criteria": [{"ask": "Q?", "choices": ["a", "b"], "good": "no"}], "model": "m"}, "order `choices`"),
        ({"criteria": [{"ask": "Q?"}, {"ask": "Q?"}], "model": "m"}, "two criteria are called"),
    ],
)
def test_a_rubric_that_cannot_be_graded_is_a_settings_error(given, problem):
    with pytest.raises(ValidationError, match=problem):
        rubric.Settings.model_validate(given)
