"""Rows from a function of your own: `path: my.py:function`, which yields one mapping a row."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

from pydantic import Field

from dressage.own_code import run_file
from dressage.sources._files import hashes, matched
from dressage.sources._rows import Opened, RowSettings, SourceError, near


class Settings(RowSettings):
    """A function in a Python file, called without arguments each time the rows are read."""

    kind: Literal["python"] = "python"
    path: str = Field(pattern=r"^.+\.py:[A-Za-z_][A-Za-z0-9_]*$")
    """`my.py:function`. The file's own text enters the fingerprint; what else the function reads does not."""

    def content(self) -> object:
        file, function = self.path.rsplit(":", 1)
        settings = self.model_dump(mode="json", exclude={"path"})
        return {**settings, "function": function, "files": hashes(matched(file))}


def open(settings: Settings) -> Opened:
    """The rows the function yields; the file is run now, the function when rows are asked for.

    Raises:
        SourceError: no such file, or no such function in it.
    """
    path, function = settings.path.rsplit(":", 1)
    [(shown, file)] = matched(path)
    return Opened(partial(_rows, settings, f"{shown}:{function}", _function(file, function)))


def _function(file: Path, name: str) -> Callable[[], Iterable[object]]:
    there = run_file(file, name=f"dressage_source_{file.stem}")
    functions = [word for word, value in there.items() if callable(value) and not word.startswith("__")]
    if name not in functions:
        raise SourceError(f"{file} has no function {name!r}{near(name, functions)}")
    found: Callable[[], Iterable[object]] = there[name]
    return found


def _rows(settings: Settings, shown: str, function: Callable[[], Iterable[object]]) -> Iterator[tuple[str, object]]:
    rows = function()
    if isinstance(rows, dict | str) or not isinstance(rows, Iterable):
        raise SourceError(f"{shown} must yield mappings, one a row, it returned a {type(rows).__name__}")
    for number, fields in enumerate(islice(rows, settings.limit), 1):
        yield f"{shown}:row {number}", fields
