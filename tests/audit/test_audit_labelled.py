"""Rows read into labelled pairs: chosen and rejected, two replies and a winner, ties, writers, what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from dressage.engines.auditing.pairs import LabelledPair
from dressage.plugins import settings_of
from dressage.protocols import SourceSettings
from dressage.sources._rows import RowError
from dressage.stages._auditing import chosen
from dressage.stages._labelled import labelled_pairs


def read(tmp_path: Path, *rows: dict[str, Any], **settings: Any) -> list[LabelledPair]:
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = settings_of("sources", "jsonl").model_validate({"kind": "jsonl", "path": str(file), **settings})
    assert isinstance(found, SourceSettings)
    return labelled_pairs(found)


def told(pair: LabelledPair) -> tuple[str, str, bool]:
    return pair.preferred.text, pair.other.text, pair.tied


def test_chosen_and_rejected(tmp_path: Path) -> None:
    (pair,) = read(
        tmp_path, {"prompt": "Why?", "chosen": "So.", "rejected": "No.", "category": "why", "difficulty": "hard"}
    )
    assert told(pair) == ("So.", "No.", False)
    assert pair.prompt.tags == ("why",)
    assert pair.prompt.extra == {"difficulty": "hard"}
    assert pair.writers == (None, None)


def test_equal_scores_are_a_tie(tmp_path: Path) -> None:
    row = {"prompt": "Why?", "chosen": "So.", "rejected": "No.", "score_chosen": 0.6}
    apart, tied = read(tmp_path, row | {"score_rejected": 0.2}, row | {"score_rejected": 0.6, "prompt": "How?"})
    assert (apart.tied, apart.margin) == (False, pytest.approx(0.4))
    assert (tied.tied, tied.margin) == (True, 0)


@pytest.mark.parametrize(
    ("winner", "said"),
    [
        (1, ("A.", "B.", False)),
        ("2", ("B.", "A.", False)),
        ("model_a", ("A.", "B.", False)),
        ("Second", ("B.", "A.", False)),
        ("tie (bothbad)", ("A.", "B.", True)),
        (0, ("A.", "B.", True)),
    ],
)
def test_two_replies_and_who_won(tmp_path: Path, winner: object, said: tuple[str, str, bool]) -> None:
    (pair,) = read(tmp_path, {"prompt": "Why?", "response_a": "A.", "response_b": "B.", "winner": winner})
    assert told(pair) == said


def test_a_row_as_llmbar_has_it(tmp_path: Path) -> None:
    (pair,) = read(tmp_path, {"input": "Why?", "output_1": "A.", "output_2": "B.", "label": 2})
    assert told(pair) == ("B.", "A.", False)
    assert pair.prompt.messages[0].content == "Why?"
    assert pair.prompt.extra == {}


def test_who_wrote_what_goes_with_the_reply(tmp_path: Path) -> None:
    sides = {"prompt": "Why?", "response_a": "A.", "response_b": "B.", "model_a": "gpt", "model_b": "qwen"}
    first, second = read(tmp_path, {**sides, "winner": "a"}, {**sides, "winner": "b"})
    assert (first.writers, second.writers) == (("gpt", "qwen"), ("qwen", "gpt"))
    named = {"prompt": "Why?", "chosen": "A.", "rejected": "B.", "model_chosen": "gpt", "model_rejected": "qwen"}
    (third,) = read(tmp_path, named)
    assert third.writers == ("gpt", "qwen")
    assert third.prompt.extra == {}


def test_conversations(tmp_path: Path) -> None:
    asked = {"role": "user", "content": "Why?"}
    rows = {f"conversation_{s}": [asked, {"role": "assistant", "content": s.upper()}] for s in "ab"}
    (pair,) = read(tmp_path, {**rows, "winner": "model_b"})
    assert told(pair) == ("B", "A", False)
    assert [m.content for m in pair.prompt.messages] == ["Why?"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "Why?", "response_a": "A.", "response_b": "B."}, "no column says who won"),
        ({"prompt": "Why?", "response_a": "A.", "response_b": "B.", "winner": "firts"}, "did you mean 'first'"),
        ({"prompt": "Why?", "chosen": "A."}, "no rejected column"),
        ({"response_a": "A.", "response_b": "B.", "winner": "a"}, "no prompt column"),
    ],
)
def test_what_is_no_labelled_pair_is_refused_with_its_place(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    with pytest.raises(RowError, match=said) as refused:
        read(tmp_path, row)
    assert refused.value.place == "pairs.jsonl:1"


def test_which_pairs_are_asked_about_does_not_depend_on_their_order(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}?", "chosen": "A.", "rejected": "B."} for i in range(30)]
    straight, turned = (chosen(read(tmp_path, *of), 10) for of in (rows, rows[::-1]))
    assert [p.id for p in straight] == [p.id for p in turned]
    assert len(straight) == 10
    assert len(chosen(read(tmp_path, *rows, *rows), None)) == 30
