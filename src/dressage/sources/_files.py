"""Files that hold rows: finding them, naming them the same on every machine, hashing them, reading JSON."""

import gzip
import hashlib
import json
import os
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import IO, cast

from dressage.protocols import Row
from dressage.sources._rows import RowError, SourceError, checked_row, near

ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".json.gz")


def matched(pattern: str) -> list[tuple[str, Path]]:
    """The files a path or glob names, in order, each with the name it is shown under (no folder above).

    Raises:
        SourceError: nothing matches, or a folder was named.
    """
    pattern = os.path.expanduser(pattern)
    files = [Path(pattern)] if Path(pattern).is_file() else []
    files = files or sorted(Path(found) for found in glob(pattern, recursive=True) if Path(found).is_file())
    if not files:
        raise SourceError(_nothing_at(Path(pattern)))
    above = files[0].parent if len(files) == 1 else Path(os.path.commonpath([file.parent for file in files]))
    return [(file.relative_to(above).as_posix(), file) for file in files]


def _nothing_at(path: Path) -> str:
    if path.is_dir():
        return f"{path} is a folder; name a file in it, or write {path}/*.jsonl"
    if path.parent.is_dir():
        return f"no file {path}{near(path.name, sorted(entry.name for entry in path.parent.iterdir())[:50])}"
    return f"no file {path}, there is no folder {path.parent}; paths count from {Path.cwd()}"


def hashes(files: list[tuple[str, Path]]) -> list[tuple[str, str]]:
    """Of each file the name it is shown by and its sha256."""
    return [(shown, sha256_of(file)) for shown, file in files]


def sha256_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def json_rows(shown: str, file: Path) -> Iterator[Row]:
    """The rows of one file, made at once; see `json_places` and `json_row`."""
    return (json_row(place, raw) for place, raw in json_places(shown, file))


def json_places(shown: str, file: Path) -> Iterator[tuple[str, object]]:
    """What lies at each place of one file: a line as it is, or an item of its one JSON list; gzip by its ending.

    Raises:
        SourceError: an unknown ending, an empty file, a broken gzip, or a list that is no JSON.
    """
    if not file.name.endswith(ENDINGS):
        raise SourceError(
            f"{shown} does not end in {', '.join(ENDINGS)}; other formats are read by `kind: hub` with `data_files:`"
        )
    empty = True
    try:
        with _opened(file) as lines:
            for place in _listed(shown, lines) if _is_list(lines) else _lined(shown, lines):
                empty = False
                yield place
    except (EOFError, gzip.BadGzipFile) as error:
        raise SourceError(f"{shown} is a broken gzip file ({error}); fetch or pack it again") from None
    if empty:
        raise SourceError(f"{shown} is empty; it needs a JSON object on each line")


def json_row(place: str, raw: object) -> Row:
    """A row from what `json_places` found.

    Raises:
        RowError: a line that is no UTF-8, no JSON or no object; or a column that no UTF-8 can hold.
    """
    return checked_row(place, _parsed(_text(raw, place), place) if isinstance(raw, bytes) else raw)


def _opened(file: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(file, "rb")) if file.name.endswith(".gz") else file.open("rb")


def _is_list(lines: IO[bytes]) -> bool:
    first = b""
    while not first and (line := lines.readline()):
        first = line.removeprefix(b"\xef\xbb\xbf").strip()
    lines.seek(0)
    return first.startswith(b"[")


def _lined(shown: str, lines: IO[bytes]) -> Iterator[tuple[str, object]]:
    for number, line in enumerate(lines, 1):
        bare = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if bare.strip():
            yield f"{shown}:{number}", bare


def _listed(shown: str, lines: IO[bytes]) -> Iterator[tuple[str, object]]:
    rows = _parsed(_text(lines.read().removeprefix(b"\xef\xbb\xbf"), shown), shown)
    for number, fields in enumerate(cast(list[object], rows), 1):
        yield f"{shown}:row {number}", fields


def _text(line: bytes, place: str) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RowError(
            place,
            f"byte {error.start + 1} of it is not UTF-8 (0x{line[error.start]:02x}); save the file as UTF-8",
        ) from None


def _parsed(text: str, place: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno} column {error.colno}"
        raise RowError(place, f"broken JSON at {where}: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise RowError(place, f"JSON that cannot be read: {error}") from None
