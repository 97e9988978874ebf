"""The items that come with the package, and items of a user's file: read and checked."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from dressage.probes._items import Item

FOLDER = Path(__file__).parent / "items"
T = TypeVar("T", bound=Item)


class ItemError(ValueError):
    """A file of items cannot be used: names the place, says what is wrong and the way out."""


@cache
def bank(kind: type[T]) -> tuple[T, ...]:
    """All items of a kind that come with the package, in the order of their files."""
    return distinct(item for stem in kind.files for item in read(kind, FOLDER / f"{stem}.jsonl"))


def read(kind: type[T], file: Path) -> Iterator[T]:
    """The items of one JSON-lines file of the user's or of the package.

    Raises:
        ItemError: a line is no JSON or no such item; names the line and the field.
    """
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _item(kind, f"{file.name}:{number}", line)


def _item(kind: type[T], place: str, line: str) -> T:
    try:
        fields: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise ItemError(f"{place}: broken JSON at column {error.colno}: {error.msg}") from None
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'item'}: {e['msg']}" for e in error.errors())
        raise ItemError(f"{place}: {told}") from None


def distinct(items: Iterable[T]) -> tuple[T, ...]:
    """The items, where no id comes twice.

    Raises:
        ItemError: an id comes twice.
    """
    found: dict[str, T] = {}
    for item in items:
        if item.id in found:
            raise ItemError(f"the id {item.id!r} comes twice; every item needs its own")
        found[item.id] = item
    return tuple(found.values())


def digest(kind: type[Item]) -> str:
    """Sha256 over the packaged files of a kind, for fingerprints."""
    parts = (f"{stem}\n".encode() + (FOLDER / f"{stem}.jsonl").read_bytes() for stem in kind.files)
    return hashlib.sha256(b"".join(parts)).hexdigest()
