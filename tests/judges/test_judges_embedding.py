"""Embedding judge: cosines by hand in two dimensions, exemplars from the YAML or a file."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dressage.judges import embedding
from dressage.protocols import Embed, Unreadable, Vector

EAST, NORTH, WEST = (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)
DIAGONAL = (math.sqrt(0.5), math.sqrt(0.5))


def vectors(*values: tuple[float, ...]) -> list[Vector]:
    return [Vector(values=v) for v in values]


def opened(tools, **settings: object) -> embedding.Embedding:
    return embedding.open(embedding.Settings.model_validate({"model": "e", **settings}), tools=tools())


def test_it_asks_for_the_reply_and_each_exemplar(ballot, tools):
    judge = opened(tools, towards=["warm one", "warm two"], away=["cold"])
    questions = judge.ask(ballot("<think>hm</think>My re\u200bply"))
    assert questions == tuple(Embed(model="e", text=t) for t in ("My reply", "warm one", "warm two", "cold"))


def test_nearer_to_one_side_than_to_the_other(ballot, tools):
    judge = opened(tools, towards=["a", "b"], away=["c"])
    rating = judge.read(ballot("x"), vectors(EAST, EAST, DIAGONAL, NORTH))
    near = (1 + math.sqrt(0.5)) / 2
    assert rating.raw == pytest.approx(near)
    assert rating.score == pytest.approx((1 + near) / 2)
    assert rating.criteria == pytest.approx({"towards": near, "away": 0.0})


def test_a_difference_over_1_is_clipped(ballot, tools):
    rating = opened(tools, towards=["a"], away=["c"]).read(ballot("x"), vectors(EAST, EAST, WEST))
    assert (rating.raw, rating.score) == (2.0, 1.0)


def test_the_nearest_k_of_each_side(ballot, tools):
    judge = opened(tools, towards=["a", "b"], away=["c", "d"], top_k=1)
    rating = judge.read(ballot("x"), vectors(EAST, WEST, DIAGONAL, NORTH, WEST))
    assert rating.raw == pytest.approx(math.sqrt(0.5) - 0.0)


def test_a_logistic_scale_spreads_small_differences(ballot, tools):
    judge = opened(tools, towards=["a"], away=["c"], scale=0.5)
    rating = judge.read(ballot("x"), vectors(EAST, DIAGONAL, NORTH))
    assert rating.score == pytest.approx(1 / (1 + math.exp(-math.sqrt(0.5) / 0.5)))
    assert rating.normalised == "logistic(raw / 0.5)"


def test_relevance_is_the_cosine_with_the_prompt(ballot, tools):
    judge = opened(tools, mode="relevance")
    assert [q.text for q in judge.ask(ballot("Here."))] == ["Here.", "Where is my parcel?"]
    rating = judge.read(ballot("Here."), vectors(EAST, DIAGONAL))
    assert rating.raw == pytest.approx(math.sqrt(0.5))
    assert rating.score == pytest.approx((1 + math.sqrt(0.5)) / 2)


def test_swapped_sides_mirror_the_score(ballot, tools):
    one = opened(tools, towards=["a"], away=["b"]).read(ballot("x"), vectors(DIAGONAL, EAST, NORTH))
    other = opened(tools, towards=["b"], away=["a"]).read(ballot("x"), vectors(DIAGONAL, NORTH, EAST))
    assert one.score == pytest.approx(1 - other.score)


@pytest.mark.parametrize("bad", [(0.0, 0.0), (float("nan"), 1.0), (float("inf"), 0.0), (1.0, 0.0, 0.0)])
def test_a_vector_that_is_none_is_unreadable(ballot, tools, bad):
    with pytest.raises(Unreadable):
        opened(tools, towards=["a"]).read(ballot("x"), vectors(EAST, bad))


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=3), st.lists(st.floats(-10, 10), min_size=3, max_size=3))
def test_a_cosine_is_symmetric_and_bounded(a, b):
    try:
        found = embedding.cosine(a, b)
    except Unreadable:
        return
    assert -1 <= found <= 1
    assert found == embedding.cosine(b, a)


def test_exemplars_from_a_file(ballot, tools, tmp_path):
    file = tmp_path / "tone.yaml"
    file.write_text("towards: [warm]\naway:\n  - cold\n", encoding="utf-8")
    settings = embedding.Settings(model="e", exemplars=str(file))
    inline = embedding.Settings(model="e", towards=("warm",), away=("cold",))
    judge, same = (embedding.open(s, tools=tools()) for s in (settings, inline))
    assert judge.ask(ballot("x")) == same.ask(ballot("x"))
    assert settings.substance() == inline.substance()
    before = settings.content()
    file.write_text("towards: [warmer]\naway: [cold]\n", encoding="utf-8")
    assert settings.content() != before
    assert settings.substance() != inline.substance()


@pytest.mark.parametrize("text", ["towards: x\n", "warm: [a]\n", "[a]\n", "towards: [a\n", "towards: [a]\naway: [a]\n"])
def test_a_file_that_holds_something_else_is_named(tools, tmp_path, text):
    file = tmp_path / "tone.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"tone\.yaml must hold the lists `towards` and `away`"):
        opened(tools, exemplars=str(file))


def test_a_file_that_is_not_there_is_named(tools, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.yaml, which is not there"):
        opened(tools, exemplars=str(tmp_path / "gone.yaml"))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "either as `towards`"),
        ({"towards": ["a"], "exemplars": "x.yaml"}, "either as `towards`"),
        ({"away": ["a"]}, "at least 1"),
        ({"towards": ["a"], "away": ["a"]}, "says nothing"),
        ({"towards": [" "]}, "empty"),
        ({"mode": "relevance", "towards": ["a"]}, "has no exemplars"),
    ],
)
def test_unclear_settings_are_refused(settings, problem):
    with pytest.raises(ValidationError, match=problem):
        embedding.Settings.model_validate({"model": "e", **settings})


def test_substance_tells_what_it_decides_by():
    relevance = embedding.Settings(model="e", mode="relevance")
    assert relevance.substance() == {"embedding:e:relevance"}
    assert relevance.models_asked() == ("e",)
    one = embedding.Settings(model="e", towards=("a", "b"), away=("c",))
    assert one.substance() == embedding.Settings(model="f", towards=("b", "a"), away=("c",)).substance()
