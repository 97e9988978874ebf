"""Opens the prompts that come with the package."""

from collections.abc import Iterator
from functools import partial

from dressage.protocols import Row
from dressage.sources._files import json_rows
from dressage.sources._rows import Opened
from dressage.sources.builtin import Settings


def open(settings: Settings) -> Opened:
    """The prompts of the chosen categories, each row with its category."""
    return Opened(partial(_rows, settings))


def _rows(settings: Settings) -> Iterator[Row]:
    for shown, file in settings.files():
        rows = [Row(row.place, {**row.fields, "category": file.stem}) for row in json_rows(shown, file)]
        kept = len(rows) if settings.limit is None else min(settings.limit, len(rows))
        yield from (rows[at * len(rows) // kept] for at in range(kept))
