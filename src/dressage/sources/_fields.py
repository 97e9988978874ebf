"""Which column of a row holds what: the usual names, the names the settings give, and what is left over."""

import json
import math
from typing import Any

from pydantic import JsonValue

from dressage.protocols import Row
from dressage.sources._rows import Columns, RowError, kind_of, named, near

PROMPTS = ("prompt", "messages", "conversations", "turns", "question", "instruction", "text")
CONVERSATIONS = ("messages", "conversations")
RESPONSES = ("response", "completion", "output")
ANSWERS = (*RESPONSES, "answer")
CHOSEN = ("chosen", "response_chosen", "chosen_response")
REJECTED = ("rejected", "response_rejected", "rejected_response")
SCORE_CHOSEN = ("score_chosen", "chosen_score")
SCORE_REJECTED = ("score_rejected", "rejected_score")
TAGS = ("category", "topic", "tags")


def find(row: Row, own: str | None, *, usual: tuple[str, ...]) -> str | None:
    """The column the settings name, else the first usual one that holds something, else null."""
    if own is not None:
        named(row.fields, own, row.place)
        return own
    return next((name for name in usual if row.fields.get(name) is not None), None)


def column(row: Row, own: str | None, *, usual: tuple[str, ...], what: str) -> str:
    """As `find`, for a column there must be.

    Raises:
        RowError: there is none; names what was looked for and what there is.
    """
    found = find(row, own, usual=usual)
    if found is None:
        raise RowError(
            row.place,
            f"no {what} column, looked for {', '.join(usual)}{near(usual, row.fields)}; "
            f"name yours with `columns: {{{what}: …}}`",
        )
    return found


def reference(row: Row, columns: Columns) -> tuple[str | None, set[str]]:
    """The reference answer, and the column it came from."""
    name = columns.reference or "reference"
    value = named(row.fields, name, row.place) if columns.reference else row.fields.get(name)
    if isinstance(value, list) and value:
        value = value[0]  # `turns` has one answer a turn, and only the first turn is asked
    if value is None or scalar(value) is not None:
        return scalar(value), {name}
    raise RowError(row.place, f"the reference in {name!r} is {kind_of(value)}; it must be text or a number")


def tags(row: Row, columns: Columns) -> tuple[tuple[str, ...], set[str]]:
    """The tags of a row, each once, and the columns they came from."""
    found: list[str] = []
    used: set[str] = set()
    for name in TAGS if columns.tags is None else columns.tags:
        value = row.fields.get(name) if columns.tags is None else named(row.fields, name, row.place)
        words = [scalar(item) for item in (value if isinstance(value, list) else [value])]
        if all(words):
            found += [word for word in words if word]
            used.add(name)
        elif columns.tags is not None and value is not None:
            raise RowError(row.place, f"{name!r} is {kind_of(value)}; a tag is a word or a list of words")
    return tuple(dict.fromkeys(found)), used


def margin(row: Row, columns: Columns) -> tuple[float, set[str]]:
    """The scores' difference over `score_span`, within [0, 1] (1 without scores), and their columns.

    Raises:
        RowError: only one score is there, one is no number, or the rejected reply scored higher.
    """
    better = find(row, columns.score_chosen, usual=SCORE_CHOSEN)
    worse = find(row, columns.score_rejected, usual=SCORE_REJECTED)
    if better is None and worse is None:
        return 1.0, set()
    if better is None or worse is None:
        raise RowError(row.place, f"only {better or worse!r} is there; a margin needs both scores or none")
    won, lost = _score(row, better), _score(row, worse)
    if won < lost:
        raise RowError(
            row.place,
            f"the chosen reply scored lower ({better!r} {won:g}) than the rejected one ({worse!r} {lost:g}); swap "
            "`chosen` and `rejected` in `columns:` if a low score is the better one",
        )
    return min(1.0, (won - lost) / columns.score_span), {better, worse}


def _score(row: Row, name: str) -> float:
    score = row.fields[name]
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise RowError(row.place, f"the score in {name!r} is {score!r}, not a finite number")
    return float(score)


def scalar(value: Any) -> str | None:
    """Text as it is, a number as a person writes it (42, not 42.0), true or false; null for anything else."""
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, str | int | float) else None


def json_value(value: Any) -> JsonValue:
    """Any value as JSON can hold it: missing numbers become null, what JSON lacks (a date) its text."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None if math.isnan(value) else str(value)
    if isinstance(value, dict):
        return {str(name): json_value(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return json_value(value.tolist()) if hasattr(value, "tolist") else str(value)
