"""Reading answers: the last nonce line with an offered value, or label mass; anything else is Unreadable."""

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dressage.judges._verdicts import expected, label_shares, reads_by_labels, tail, verdict_line
from dressage.protocols import Completion, Distribution, Unreadable, Vector

NONCE = "0123abcd"
OFFERED = ("first", "second", "tie")


def said(text: str, finish: str = "stop") -> Completion:
    return Completion(text=text, finish=finish)  # type: ignore[arg-type]


def read(text: str, finish: str = "stop") -> str:
    return verdict_line(said(text, finish), "VERDICT", NONCE, OFFERED)


@pytest.mark.parametrize("value", OFFERED)
@pytest.mark.parametrize("line", ["VERDICT-0123abcd: {}", "**VERDICT-0123abcd: {}**", "> verdict-0123ABCD : `{}`. "])
def test_what_is_written_is_read(value, line):
    assert read("Some thoughts.\n\n" + line.format(value)) == value
    assert read(line.format(value.upper()) + "\n\n") == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "first",
        "[[A]]",
        "VERDICT: first",
        "VERDICT-ffff0000: first",
        "VERDICT-0123abcd: both",
        "VERDICT-0123abcd:",
        "VERDICT-0123abcd: first or second",
        "VERDICT-0123abcd: first\nVERDICT-0123abcd: maybe",
        "The reply says VERDICT-0123abcd: first",
        "VERDICT-0123abcd first",
        "VERDICT-0123abcd:\nfirst",
        "<think>\nVERDICT-0123abcd: first",
        "<think>\nVERDICT-0123abcd: first\n</think>\nHm.",
        "<think>VERDICT-0123abcd: first</think> Done.",
        "The first is kind.\nVERDICT-0123abcd: first\n</think>\nHm.",
        '{"SCORE": 10}',
        "GRADE: C",
        "{" * 5000,
        "9" * 100_000,
    ],
)
def test_anything_else_is_unreadable(text):
    with pytest.raises(Unreadable):
        read(text)


def test_the_last_line_counts_and_a_quoted_reply_does_not():
    quoted = "The first reply claims:\n(quoted) VERDICT-0123abcd: first\nbut\nVERDICT-0123abcd: first\n"
    assert read(quoted + "VERDICT-0123abcd: second") == "second"
    assert read("It wrote [[A]] and `VERDICT-ffff0000: first`.\nVERDICT-0123abcd: tie") == "tie"


def test_a_cut_answer_is_unreadable_even_with_a_verdict_in_it():
    with pytest.raises(Unreadable, match="ran out of tokens"):
        read("VERDICT-0123abcd: first", finish="length")


def test_a_refusal_has_its_own_reason():
    with pytest.raises(Unreadable) as caught:
        read("I'm sorry, but I can't compare these.")
    assert caught.value.reason == "refused"
    with pytest.raises(Unreadable) as caught:
        read("They are alike.")
    assert caught.value.reason == "unreadable"


def test_a_score_must_be_on_the_scale():
    scale = tuple(str(n) for n in range(1, 11))
    assert verdict_line(said(f"SCORE-{NONCE}: 10"), "SCORE", NONCE, scale) == "10"
    for wrong in ("11", "0", "-3", "7.5", "8/10", "1e1", "٣"):
        with pytest.raises(Unreadable, match="none of 1, 2"):
            verdict_line(said(f"SCORE-{NONCE}: {wrong}"), "SCORE", NONCE, scale)


@given(st.text(max_size=300))
@example("VERDICT-0123abcd: first")
def test_no_text_raises_anything_but_unreadable(text):
    for words in (text, f"VERDICT-{NONCE}: {text}", f"{text}VERDICT-{NONCE}"):
        try:
            assert read(words) in OFFERED
        except Unreadable:
            continue


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_unreadable(raw):
    with contextlib.suppress(Unreadable):
        assert read(raw.decode("latin-1")) in OFFERED


def test_the_error_shows_the_last_80_characters_without_control_characters():
    assert tail("a" * 100 + "\x1b" + "b" * 10) == repr("a" * 69 + " " + "b" * 10)


# ---------------------------------------------------------------- labels


def test_shares_are_of_the_mass():
    shares, evidence = label_shares(Distribution(probabilities={"A": 0.5, "B": 0.25, "C": 0.05}), ("A", "B"), 0.5)
    assert shares == pytest.approx([2 / 3, 1 / 3])
    assert evidence == "A=0.5000 B=0.2500 mass=0.7500"


def test_too_little_mass_is_unreadable():
    with pytest.raises(Unreadable, match=r"hold 0\.49, less than min_mass 0\.5"):
        label_shares(Distribution(probabilities={"A": 0.48, "B": 0.01}), ("A", "B"), 0.5)
    assert label_shares(Distribution(probabilities={"A": 0.5, "B": 0.0}), ("A", "B"), 0.5)[0] == [1.0, 0.0]


def test_an_unknown_label_is_not_zero():
    with pytest.raises(Unreadable, match="no probability for B"):
        label_shares(Distribution(probabilities={"A": 0.9}), ("A", "B"), 0.5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.1])
def test_numbers_that_are_no_probabilities_are_unreadable(bad):
    with pytest.raises(Unreadable):
        label_shares(Distribution(probabilities={"A": 0.9, "B": bad}), ("A", "B"), 0.5)


def test_an_answer_to_another_question_is_a_bug_and_no_verdict():
    with pytest.raises(TypeError, match="answered by a Vector"):
        label_shares(Vector(values=(1.0,)), ("A", "B"), 0.5)
    with pytest.raises(TypeError, match="answered by a Distribution"):
        verdict_line(Distribution(probabilities={}), "VERDICT", NONCE, OFFERED)


def test_an_expected_value_by_hand():
    assert expected([0.25, 0.25, 0.5], [1, 2, 3]) == pytest.approx(2.25)


def test_auto_reads_labels_where_it_can(tools):
    assert reads_by_labels("auto", "m", tools(True))
    assert not reads_by_labels("auto", "m", tools(False))
    assert not reads_by_labels("text", "m", tools(True))
    with pytest.raises(ValueError, match="'m' gives no label probabilities: use `how: text`"):
        reads_by_labels("logprobs", "m", tools(False))
