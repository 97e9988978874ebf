"""From files to passages: cut at headings, paragraphs, then lines, each with the place where a person finds it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dressage.tools._calling import ToolError
from dressage.tools.retrieve.files import TEXTS

HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.+?)[ \t#]*$")


class Passage(NamedTuple):
    """A piece of a file."""

    file: str
    place: str
    """`lines 3-9`, or `row 17`."""
    heading: str
    """The heading it stands under, if the file has any."""
    text: str


class Line(NamedTuple):
    number: int
    text: str


def passages(name: str, file: Path, *, words: int, column: str | None) -> Iterator[Passage]:
    """The passages of one file, from its top.

    Raises:
        ToolError: it is no UTF-8, no JSON, or lacks the column.
    """
    if name.endswith(TEXTS):
        yield from _of_text(name, _read(name, file), words)
        return
    rows = _parquet(file) if name.endswith(".parquet") else _json_lines(name, _read(name, file))
    for number, row in rows:
        for piece in _cut(_row_text(row, column, f"{name}, row {number}"), words):
            yield Passage(name, f"row {number}", "", piece)


def _read(name: str, file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ToolError(f"{name}: byte {error.start + 1} is not UTF-8; save the file as UTF-8") from None


def _of_text(name: str, text: str, words: int) -> Iterator[Passage]:
    """Paragraphs are put together up to `words`; a heading begins a new passage; a longer paragraph is cut at lines."""
    heading, held = "", list[Line]()

    def passage() -> Iterator[Passage]:
        if held:
            place = f"line {held[0].number}" if len(held) == 1 else f"lines {held[0].number}-{held[-1].number}"
            yield Passage(name, place, heading, "\n".join(line.text for line in held))
            held.clear()

    for paragraph in _paragraphs(text):
        found = HEADING.match(paragraph[0].text)
        if found or _count(held) + _count(paragraph) > words:
            yield from passage()
        heading = found[1] if found else heading
        for line in paragraph[1:] if found else paragraph:
            if held and _count(held) + _count([line]) > words:
                yield from passage()
            for piece in _cut(line.text, words):
                if held and _count(held) + len(piece.split()) > words:
                    yield from passage()
                held.append(Line(line.number, piece))
    yield from passage()


def _paragraphs(text: str) -> Iterator[list[Line]]:
    """Lines between blank lines; a heading begins a paragraph of its own."""
    held: list[Line] = []
    for number, line in enumerate(text.splitlines(), 1):
        if held and (not line.strip() or HEADING.match(line)):
            yield held
            held = []
        if line.strip():
            held.append(Line(number, line.rstrip()))
    if held:
        yield held


def _count(lines: list[Line]) -> int:
    return sum(len(line.text.split()) for line in lines)


def _cut(text: str, words: int) -> list[str]:
    """A text as it is, or in pieces of so many words where it has more."""
    found = text.split()
    if len(found) <= words:
        return [text] if found else []
    return [" ".join(found[i : i + words]) for i in range(0, len(found), words)]


def _json_lines(name: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ToolError(f"{name}, row {number}: no JSON: {error}") from None
            if not isinstance(row, dict):
                raise ToolError(f"{name}, row {number}: a row is an object, not {type(row).__name__}")
            yield number, row


def _parquet(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa  # only a data set waits for it
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(file).to_pylist()
    except pa.ArrowException as error:
        raise ToolError(f"{file.name} cannot be read: {error}") from None
    yield from enumerate(rows, 1)


def _row_text(row: dict[str, Any], column: str | None, place: str) -> str:
    if column is None:
        return "\n".join(f"{key}: {_plain(value)}" for key, value in row.items() if value not in (None, ""))
    if column not in row:
        raise ToolError(f"{place} has no column {column!r}; it has {', '.join(row)}")
    return _plain(row[column])


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
