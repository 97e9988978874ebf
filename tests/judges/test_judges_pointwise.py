"""Pointwise: the expected rating by hand, ratings in words, and scales of single tokens."""

import re

import pytest
from pydantic import ValidationError

from dressage.judges import pointwise
from dressage.protocols import Chat, Completion, Distribution, Labels, Unreadable


def digits(**p: float) -> Distribution:
    given = {str(n): 0.0 for n in range(1, 10)}
    return Distribution(probabilities=given | {name.strip("_"): value for name, value in p.items()})


def test_the_expected_rating_by_hand(ballot, tools):
    judge = pointwise.open(pointwise.Settings(model="m"), tools=tools(True))
    (question,) = judge.ask(ballot("x"))
    assert isinstance(question, Labels)
    assert question.labels == tuple("123456789")
    rating = judge.read(ballot("x"), [digits(_9=0.4, _5=0.2, _1=0.2)])
    assert rating.raw == pytest.approx((9 * 0.4 + 5 * 0.2 + 1 * 0.2) / 0.8)
    assert rating.score == pytest.approx((6.0 - 1) / 8)
    assert rating.normalised == "(raw - 1) / 8"
    assert "mass=0.8000" in rating.evidence[0]


@pytest.mark.parametrize(("label", "score"), [("1", 0.0), ("5", 0.5), ("9", 1.0)])
def test_a_certain_rating_is_that_rating(ballot, tools, label, score):
    judge = pointwise.open(pointwise.Settings(model="m"), tools=tools(True))
    assert judge.read(ballot("x"), [digits(**{f"_{label}": 0.7})]).score == score


def test_the_uniform_rating_is_the_middle(ballot, tools):
    judge = pointwise.open(pointwise.Settings(model="m", scale="letters"), tools=tools(True))
    (question,) = judge.ask(ballot("x"))
    assert question.labels == tuple("ABCDEFGHIJ")
    rating = judge.read(ballot("x"), [Distribution(probabilities=dict.fromkeys("ABCDEFGHIJ", 0.1))])
    assert rating.raw == pytest.approx(5.5)
    assert rating.score == pytest.approx(0.5)


def test_too_little_mass_is_unreadable(ballot, tools):
    judge = pointwise.open(pointwise.Settings(model="m", min_mass=0.9), tools=tools(True))
    with pytest.raises(Unreadable, match="min_mass"):
        judge.read(ballot("x"), [digits(_9=0.89)])


def line_of(question: Chat) -> str:
    return re.search(r"SCORE-[0-9a-f]{8}: ", question.messages[-1].content)[0]


def test_words_are_rated_from_1_to_10(ballot, tools):
    judge = pointwise.open(pointwise.Settings(model="m"), tools=tools())
    (question,) = judge.ask(ballot("x"))
    assert isinstance(question, Chat)
    rating = judge.read(ballot("x"), [Completion(text=line_of(question) + "10", finish="stop")])
    assert (rating.raw, rating.score, rating.normalised) == (10.0, 1.0, "(raw - 1) / 9")


def test_samples_are_averaged_and_each_is_a_draw_of_its_own(ballot, tools):
    judge = pointwise.open(pointwise.Settings(model="m", samples=3, temperature=0.7), tools=tools(True))
    questions = judge.ask(ballot("x"))
    assert [q.sample for q in questions] == [0, 1, 2]
    assert {q.temperature for q in questions} == {0.7}
    answers = [Completion(text=line_of(questions[0]) + n, finish="stop") for n in ("7", "8", "3")]
    rating = judge.read(ballot("x"), answers)
    assert rating.raw == pytest.approx(6.0)
    assert rating.score == pytest.approx(5 / 9)
    assert rating.evidence == ("ratings 7, 8, 3",)
    broken = [*answers[:2], Completion(text="good", finish="stop")]
    with pytest.raises(Unreadable):
        judge.read(ballot("x"), broken)


def test_one_to_ten_is_for_words_even_where_labels_can_be_read(ballot, tools):
    judge = pointwise.open(pointwise.Settings(model="m", scale="one_to_ten"), tools=tools(True))
    assert isinstance(judge.ask(ballot("x"))[0], Chat)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"how": "logprobs", "scale": "one_to_ten"}, "10 is two tokens"),
        ({"how": "logprobs", "samples": 2, "temperature": 1}, "no samples"),
        ({"samples": 2}, "all the same"),
    ],
)
def test_impossible_settings_say_the_way_out(settings, problem):
    with pytest.raises(ValidationError, match=problem):
        pointwise.Settings(model="m", **settings)


def test_the_reference_is_shown_where_it_is_wanted(ballot, tools):
    judge = pointwise.open(pointwise.Settings(model="m", reference=True), tools=tools())
    assert judge.ask(ballot("x")) == ()
    with pytest.raises(Unreadable, match="has none"):
        judge.read(ballot("x"), [])
    assert "On Monday." in judge.ask(ballot("x", reference="On Monday."))[0].messages[0].content
