"""Records: ids by content, swapping that undoes itself, unknown fields refused, hashes that ignore money."""

import hashlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dressage.records import (
    Ballot,
    Candidate,
    Failure,
    Grade,
    Message,
    Prompt,
    Record,
    Usage,
    Verdict,
    Vote,
    content_hash,
)

ASKED = (Message(role="user", content="Where is my parcel?"),)
margins = st.floats(-1, 1, allow_nan=False)
words = st.text(max_size=12)


def candidate(**changes: object) -> Candidate:
    fields = {"prompt_id": "p", "messages": (Message(role="assistant", content="Here."),), "model": "m", "seed": 3}
    return Candidate.of(**(fields | changes))


@st.composite
def verdicts(draw: st.DrawFn) -> Verdict:
    votes = st.builds(Vote, margin=margins, shown=st.sampled_from(["as given", "swapped"]), words=words)
    return Verdict(
        prompt_id=draw(words),
        first=draw(words),
        second=draw(words),
        judge="j",
        winner=draw(st.sampled_from(["first", "second", "tie"])),
        margin=draw(margins),
        votes=tuple(draw(st.lists(votes, max_size=3))),
        consistent=draw(st.booleans()),
        usage=Usage(read=draw(st.integers(0, 9))),
    )


def test_content_hash_is_sha256_of_canonical_json() -> None:
    assert content_hash({"b": 1, "a": "ü"}) == hashlib.sha256('{"a":"ü","b":1}'.encode()).hexdigest()[:16]
    assert content_hash({"a": "ü", "b": 1}) == content_hash({"b": 1, "a": "ü"})
    assert content_hash([1, 2]) != content_hash([2, 1])
    with pytest.raises(ValueError, match="Out of range"):
        content_hash([math.nan])


@given(st.text())
def test_any_text_can_be_hashed_even_half_a_surrogate_pair(text: str) -> None:
    assert len(content_hash([text, "\ud800"])) == 16


def test_a_prompt_is_named_by_its_messages_alone() -> None:
    one = Prompt.of(ASKED, source="a", split="train")
    other = Prompt.of(ASKED, source="b", split="test", tags=("x",), reference="r", extra={"k": [1]})
    assert one.id == other.id == content_hash([{"role": "user", "content": "Where is my parcel?"}])
    assert Prompt.of((*ASKED, *ASKED), source="a", split="train").id != one.id


def test_a_candidate_is_named_by_text_and_origin() -> None:
    one = candidate()
    same = ({"finish": "stop"}, {"token_ids": (1, 2), "mask": (True, True)}, {"logprobs": (-1.0,)})
    other = (
        {"prompt_id": "q"},
        {"messages": (Message(role="assistant", content="There."),)},
        {"model": "n"},
        {"index": 1},
        {"seed": 4},
        {"temperature": 0.5},
        {"top_p": 0.9},
    )
    assert {candidate(**changes).id for changes in same} == {one.id}
    assert len({one.id, *(candidate(**changes).id for changes in other)}) == 1 + len(other)


@given(verdicts())
def test_swapping_a_verdict_twice_gives_it_back_bit_by_bit(verdict: Verdict) -> None:
    assert verdict.swapped().swapped() == verdict
    assert verdict.swapped().swapped().row_hash() == verdict.row_hash() or verdict.margin == 0
    assert math.isclose(verdict.p + verdict.swapped().p, 1)


def test_a_swapped_verdict_says_the_same_of_the_same_candidates() -> None:
    vote = Vote(margin=0.5, shown="as given", words="w")
    verdict = Verdict(prompt_id="p", first="a", second="b", judge="j", winner="first", margin=0.25, votes=(vote,))
    turned = verdict.swapped()
    assert (turned.first, turned.second, turned.winner, turned.margin) == ("b", "a", "second", -0.25)
    assert turned.votes == (Vote(margin=-0.5, shown="swapped", words="w"),)
    assert verdict.p == 0.625


@given(st.lists(words, max_size=4))
def test_swapping_a_ballot_turns_its_texts_and_nothing_else(texts: list[str]) -> None:
    ballot = Ballot(messages=ASKED, texts=tuple(texts), reference="r")
    assert ballot.swapped().texts == tuple(reversed(texts))
    assert ballot.swapped().swapped() == ballot


def test_a_ballot_has_no_room_for_a_name() -> None:
    assert set(Ballot.model_fields) == {"messages", "texts", "reference"}
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Ballot.model_validate({"messages": ASKED, "texts": ("a",), "model": "policy"})


def every_record() -> list[type[Record]]:
    return sorted(Record.__subclasses__(), key=lambda r: r.table)


@pytest.mark.parametrize("record", every_record(), ids=lambda r: r.table)
def test_a_record_refuses_unknown_fields_and_other_schema_versions(record: type[Record]) -> None:
    for extra in ({"surprise": 1}, {"version": 2}):
        with pytest.raises(ValidationError) as caught:
            record.model_validate(extra)
        told = {(e["type"], e["loc"]) for e in caught.value.errors()}
        assert {("extra_forbidden", ("surprise",)), ("literal_error", ("version",))} & told


def test_tables_have_names_of_their_own() -> None:
    tables = [r.table for r in every_record()]
    assert len(set(tables)) == len(tables)


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        candidate().index = 2  # type: ignore[misc]


@pytest.mark.parametrize(("score", "fits"), [(0, True), (1, True), (-0.01, False), (1.01, False), (math.nan, False)])
def test_a_score_stays_in_its_range(score: float, fits: bool) -> None:
    if fits:
        assert Grade(prompt_id="p", candidate_id="c", judge="j", score=score).score == score
    else:
        with pytest.raises(ValidationError):
            Grade(prompt_id="p", candidate_id="c", judge="j", score=score)


def test_the_hash_of_a_row_ignores_what_it_cost_and_nothing_else() -> None:
    grade = Grade(prompt_id="p", candidate_id="c", judge="j", score=0.5)
    paid = grade.model_copy(update={"usage": Usage(read=100, written=7, cost=0.3)})
    assert grade.row_hash() == paid.row_hash()
    for field, value in (("score", 0.6), ("judge", "k"), ("words", ("w",)), ("criteria", {"tone": 0.1})):
        assert grade.model_copy(update={field: value}).row_hash() != grade.row_hash()


def test_usage_adds_up() -> None:
    assert Usage(read=1, written=2, cost=0.5) + Usage(read=10, cost=0.25) == Usage(read=11, written=2, cost=0.75)


def test_a_failure_has_a_side_and_no_number() -> None:
    with pytest.raises(ValidationError):
        Failure(prompt_id="p", candidate_ids=(), judge="j", side="nobody", reason="r")  # type: ignore[arg-type]
    assert not {"score", "margin", "winner", "outcome"} & set(Failure.model_fields)
