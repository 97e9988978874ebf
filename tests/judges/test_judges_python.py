"""Your own function as a judge: its numbers are scores, and whatever else it does is never one."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dressage.judges import python
from dressage.protocols import Unreadable

SOURCE = """
import json
from dataclasses import dataclass

@dataclass
class Note:
    words: int

def score_length(prompt, reply, reference):
    assert prompt[-1]["role"] == "user"
    return min(1.0, Note(len(reply.split())).words / 4)

def with_criteria(prompt, reply, reference):
    return {"score": 0.5, "criteria": {"tone": 1, "matches": reply == reference}}

def answer(prompt, reply, reference):
    return json.loads(reply)

def boom(prompt, reply, reference):
    return 1 / 0
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my_judge.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


def opened(file, function, tools):
    return python.open(python.Settings(path=f"{file}:{function}"), tools=tools())


def test_its_number_is_the_score(file, ballot, tools):
    judge = opened(file, "score_length", tools)
    assert judge.ask(ballot("a b")) == ()
    assert judge.read(ballot("a b"), []).score == 0.5


def test_its_criteria_are_kept(file, ballot, tools):
    rating = opened(file, "with_criteria", tools).read(ballot("x", reference="x"), [])
    assert (rating.score, rating.criteria) == (0.5, {"tone": 1.0, "matches": 1.0})


@pytest.mark.parametrize(
    ("returned", "problem"), [("null", "no score"), ("NaN", "no number"), ("{", "raised JSONDecodeError")]
)
def test_what_says_nothing_of_one_reply_is_unreadable(file, ballot, tools, returned, problem):
    with pytest.raises(Unreadable, match=problem):
        opened(file, "answer", tools).read(ballot(returned), [])


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        ("1.01", r"outside \[0, 1\]. Bring the whole scale into"),
        ("-0.5", "outside"),
        ('"0.5"', "str '0.5' as score, not a number"),
        ("[1, 0.5]", "list .* called once for each reply"),
        ("{}", "a dict has `score`"),
        ('{"score": 0.5, "crit": {}}', "a dict has `score`"),
        ('{"score": 0.5, "criteria": {"tone": 2}}', "2.0 as tone, outside"),
        ('{"score": 0.5, "criteria": 3}', "int as criteria"),
    ],
)
def test_another_protocol_is_stopped_at_its_first_answer(file, ballot, tools, returned, problem):
    with pytest.raises(python.Misused, match=problem):
        opened(file, "answer", tools).read(ballot(returned), [])


def test_rounding_is_no_other_scale(file, ballot, tools):
    judge = opened(file, "answer", tools)
    assert [judge.read(ballot(x), []).score for x in ("1.0000001", "-0.0000001")] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("def f(prompt, reply): return 1", r"takes \(prompt, reply\), and is given .* too many positional"),
        ("def f(completions, **kwargs): return [1]", "too many positional"),
        ("def f(prompt, reply, reference, weight): return 1", "missing a required argument: 'weight'"),
        ("async def f(prompt, reply, reference): return 1", "async or yields"),
        ("def f(prompt, reply, reference): yield 1", "async or yields"),
    ],
)
def test_a_function_that_cannot_be_called_is_told_before_it_is(tmp_path, tools, written, problem):
    (tmp_path / "my.py").write_text(written + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"(?s)my.py:f` names a function .*{problem}"):
        opened(tmp_path / "my.py", "f", tools)


@pytest.mark.parametrize("written", ["def f(*given): return 1", "def f(a, b, c, d=1): return d", "f = max"])
def test_a_function_that_can_be_called_is_taken(tmp_path, tools, written):
    (tmp_path / "my.py").write_text(written + "\n", encoding="utf-8")
    assert opened(tmp_path / "my.py", "f", tools).compares is False


def test_its_exceptions_are_unreadable_and_named(file, ballot, tools):
    with pytest.raises(Unreadable, match=r"my_judge.py:boom raised ZeroDivisionError: division by zero"):
        opened(file, "boom", tools).read(ballot("x"), [])


@given(st.floats() | st.integers() | st.booleans() | st.none() | st.text() | st.dictionaries(st.text(), st.floats()))
def test_no_return_value_makes_a_score_outside_0_and_1(value):
    from dressage.records import Ballot, Message

    judge = python.Python("f", lambda prompt, reply, reference: value)
    with contextlib.suppress(Unreadable, python.Misused):
        assert 0 <= judge.read(Ballot(messages=(Message(role="user", content=""),), texts=("",)), []).score <= 1


def test_a_missing_file_and_a_missing_function_say_what_there_is(file, tools, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.py, which is not there"):
        python.open(python.Settings(path=f"{tmp_path}/none.py:f"), tools=tools())
    with pytest.raises(LookupError, match=r"no function 'boum'; did you mean 'boom'\? \(there is: score_length, "):
        opened(file, "boum", tools)
    with pytest.raises(ValidationError):
        python.Settings(path="my.py")


def test_the_file_enters_the_fingerprint_by_content(file):
    settings = python.Settings(path=f"{file}:boom")
    before, decides = settings.content(), settings.substance()
    file.write_text(SOURCE + "\n# more\n", encoding="utf-8")
    assert settings.content() != before
    assert settings.substance() != decides
    assert python.Settings(path=f"{file}:answer").substance() != settings.substance()


def test_it_may_import_what_lies_beside_it(tmp_path, ballot, tools):
    (tmp_path / "beside_it.py").write_text("HALF = 0.5\n", encoding="utf-8")
    (tmp_path / "my.py").write_text(
        "import beside_it\ndef half(prompt, reply, reference):\n    return beside_it.HALF\n"
    )
    assert opened(tmp_path / "my.py", "half", tools).read(ballot("x"), []).score == 0.5


def test_two_names_of_one_function_are_one_judge(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    assert python.Settings(path="my_judge.py:boom").substance() == python.Settings(path=f"{file}:boom").substance()
