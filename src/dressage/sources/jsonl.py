"""Rows from JSON files of your own: a line a row (.jsonl, .jsonl.gz), or a list of objects (.json)."""

from collections.abc import Iterator
from functools import partial
from itertools import chain, islice
from typing import Literal

from pydantic import Field

from dressage.sources._files import hashes, json_places, json_row, matched
from dressage.sources._rows import Opened, RowSettings


class Settings(RowSettings):
    """JSON files, read in the order of their names."""

    kind: Literal["jsonl"] = "jsonl"
    path: str = Field(min_length=1)
    """A file, or a pattern such as `prompts/*.jsonl`; it counts from the working folder."""

    def content(self) -> object:
        return {**self.model_dump(mode="json", exclude={"path"}), "files": hashes(matched(self.path))}


def open(settings: Settings) -> Opened:
    """The rows of all files that `path` names."""
    return Opened(partial(_places, settings), json_row)


def _places(settings: Settings) -> Iterator[tuple[str, object]]:
    files = (json_places(shown, file) for shown, file in matched(settings.path))
    return islice(chain.from_iterable(files), settings.limit)
