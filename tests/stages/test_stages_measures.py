"""Measures and guards over rows made by hand: both sides are measured in the same unit."""

import pytest

from dressage.records import Battle, Candidate, Message
from dressage.settings import Guards
from dressage.stages._measures import Rows, guarded, measured

TEXT = "one two three four five six seven eight"


def reply(model: str, text: str, tokens: int = 0) -> Candidate:
    said = (Message(role="assistant", content=text),)
    return Candidate.of(
        prompt_id="p", messages=said, token_ids=tuple(range(tokens)), mask=(True,) * tokens, model=model, finish="stop"
    )


def lengths(new: Candidate, old: Candidate) -> tuple[dict[tuple[str, str], float], list[tuple[str, str]]]:
    """The length measures of both sides, and the length guard with its decision."""
    ids = {"candidate_a": new.id, "candidate_b": old.id}
    battle = Battle(prompt_id="p", a="policy", b="predecessor", **ids, judge="j", outcome="tie", margin=0)
    found = measured(Rows((new, old), (battle,), (), ()), judges=["j"], train_judge=None)
    gates = [(g.metric, g.decision) for g in guarded(found, Guards()) if g.metric.startswith("reply_")]
    return {(m.name, m.of): m.value for m in found if m.name.startswith("reply_")}, gates


def test_lengths_are_in_tokens_where_both_sides_have_them() -> None:
    values, gates = lengths(reply("local", TEXT, tokens=16), reply("old", TEXT + ".", tokens=20))
    assert values == {("reply_tokens", "policy"): 16, ("reply_tokens", "predecessor"): 20}
    assert gates == [("reply_tokens", "held")]


@pytest.mark.parametrize("tokens", [(16, 0), (0, 16), (0, 0)])
def test_where_a_side_has_no_tokens_both_are_in_characters(tokens: tuple[int, int]) -> None:
    new, old = reply("new", f"<think>long</think>{TEXT}", tokens[0]), reply("old", TEXT, tokens[1])
    values, gates = lengths(new, old)
    assert values == {("reply_chars", "policy"): len(TEXT), ("reply_chars", "predecessor"): len(TEXT)}
    assert gates == [("reply_chars", "held")]


def test_a_side_that_was_not_measured_is_inconclusive() -> None:
    assert [(g.metric, g.decision) for g in guarded([], Guards()) if g.metric.startswith("reply_")] == [
        ("reply_tokens", "inconclusive")
    ]


def test_limits_say_whether_they_are_relative_or_in_points() -> None:
    wide = Guards(kl_at_most=50, nll_within=(-0.2, 0.1), opener_may_rise_by=0.01)
    assert {g.metric: g.limit for g in guarded([], wide)} == {
        "reply_tokens": "between -25 % and +25 %",
        "eos_share": "may fall by at most 0 points",
        "distinct_2": "at least 85 % of the predecessor's",
        "opener_share": "at most 1 point more",
        "kl_per_reply": "at most 50 nats",
        "nll_per_token": "between -20 % and +10 %",
    }
    assert [g.limit for g in guarded([], Guards()) if g.metric == "opener_share"] == ["at most 15 points more"]
