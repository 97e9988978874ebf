"""The written pairs that can be checked: the right answers are right and the wrong ones wrong, by the tools themselves.

What each row says of itself (`verify`) is not believed: the calculator works the expression out, the constraints are
counted in both replies, and the passage that a fact rests on is looked up in the folder beside the pairs.
"""

import json
import re
from collections import Counter
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from dressage.plugins import open_kind, settings_of
from dressage.sources import jsonl
from dressage.sources._columns import pair_of
from dressage.toolbox import Tool

FOLDER = Path(__file__).parents[2] / "configs" / "checkable"
FIRST = FOLDER / "first" / "pairs.jsonl"
ROWS: list[dict[str, Any]] = [json.loads(line) for line in FIRST.read_text("utf-8").splitlines()]


@cache
def tool(kind: str) -> Tool:
    given: dict[str, Any] = {"path": str(FOLDER / "first" / "facts")} if kind == "retrieve" else {}
    opened: Tool = open_kind(settings_of("tools", kind)(kind=kind, **given), name=kind)
    return opened


def of(*kinds: str) -> Any:
    rows = [row for row in ROWS if row["verify"]["tool"] in kinds]
    return pytest.mark.parametrize("row", rows, ids=[row["prompt"][:40] for row in rows])


def in_words(value: str) -> str:
    """A date as an answer writes it, other values as they are."""
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
        day = date.fromisoformat(value)
        return f"{day.day} {day:%B %Y}"
    return value


def says(text: str, phrase: str) -> bool:
    """Whether a text has a phrase with no letter or digit running on at either end of it."""
    return re.search(rf"(?<![\w.,]){re.escape(phrase)}(?![\w]|[.,]\d)", text) is not None


def test_there_are_sixty_of_five_sorts_and_none_twice() -> None:
    assert Counter(row["category"] for row in ROWS) == {
        "arithmetic": 14,
        "dates": 10,
        "counts": 12,
        "format": 12,
        "facts": 12,
    }
    assert len({row["prompt"] for row in ROWS}) == 60
    assert all(row["tags"] and row["fault"] for row in ROWS)


def test_they_are_pairs_as_the_house_reads_them() -> None:
    source = jsonl.open(jsonl.Settings(path=str(FIRST)))
    columns = jsonl.Settings(path=str(FIRST)).columns
    pairs = [pair_of(row, columns, lambda *_: "test") for row in source.rows()]
    assert [(p.messages[0].content, a.text, b.text) for p, a, b, _ in pairs] == [
        (row["prompt"], row["chosen"], row["rejected"]) for row in ROWS
    ]
    assert all({row["category"], *row["tags"]} <= set(p.tags) for (p, *_), row in zip(pairs, ROWS, strict=True))
    assert all(p.reference is None for p, *_ in pairs)  # a judge is not shown the answer


def test_length_does_not_tell_which_is_right() -> None:
    for rows in (ROWS, *([r for r in ROWS if r["category"] == sort] for sort in ("arithmetic", "dates", "facts"))):
        longer = sum(len(row["chosen"]) > len(row["rejected"]) for row in rows)
        assert 0.3 <= longer / len(rows) <= 0.7, rows[0]["category"]


@of("calculator")
def test_sums_and_dates_are_worked_out(row: dict[str, Any]) -> None:
    verify = row["verify"]
    found = tool("calculator").call({"expression": verify["expression"]})
    assert found.failed is None, found.text
    assert found.data["value"] == verify["value"]
    right, wrong = verify["right"], verify["wrong"]
    assert says(row["chosen"], right)
    assert not says(row["chosen"], wrong)
    assert says(row["rejected"], wrong)
    assert not says(row["rejected"], right)
    # What the right answer says is that value, not something beside it.
    digits = in_words(verify["value"].removeprefix("≈ "))
    forms = (digits, f"{digits}0", f"{digits}.00")
    if verify["value"] == "true":
        assert verify["expression"].endswith(f"= {right}")
    elif verify["value"] == "1001":
        assert verify["expression"] == right.replace("×", "*")
    else:
        assert any(says(right.replace(",", ""), form) for form in forms)


@of("constraints")
def test_constraints_are_counted(row: dict[str, Any]) -> None:
    verify = row["verify"]
    if "text" in verify:
        assert says(row["prompt"].replace(" a.m.", "").replace(" ", ""), verify["text"].replace(" ", ""))
        found = tool("constraints").call({"text": verify["text"], "checks": [verify["check"]]})
        assert found.data["checks"][0]["found"] == verify["value"]  # type: ignore[index, call-overload]
        assert says(row["chosen"], verify["right"])
        assert says(row["rejected"], verify["wrong"])
        assert not says(row["rejected"], verify["right"])
        return
    right = tool("constraints").call({"text": row["chosen"], "checks": verify["checks"]})
    wrong = tool("constraints").call({"text": row["rejected"], "checks": verify["checks"]})
    assert (right.failed, wrong.failed) == (None, None), right.text + wrong.text
    assert all(check["passed"] is True for check in right.data["checks"]), right.text  # type: ignore[union-attr, index, call-overload]
    assert any(check["passed"] is False for check in wrong.data["checks"]), wrong.text  # type: ignore[union-attr, index, call-overload]
    assert "would" not in right.text + wrong.text, "the way of counting decides: write it so that it does not"


@of("retrieve")
def test_facts_are_found_in_the_folder(row: dict[str, Any]) -> None:
    verify = row["verify"]
    found = tool("retrieve").call({"query": row["prompt"][:500], "most": 5})
    passages = [" ".join(p["text"].split()) for p in found.data["passages"] if p["file"] == verify["file"]]  # type: ignore[union-attr, index, call-overload]
    assert any(verify["says"] in passage for passage in passages), found.text
    again = tool("retrieve").call({"query": verify["query"], "most": 1}).data["passages"]
    assert verify["says"] in " ".join(again[0]["text"].split())  # type: ignore[index, call-overload]
    assert says(row["chosen"], verify["right"])
    assert says(row["rejected"], verify["wrong"])
    assert not says(row["rejected"], verify["right"])
