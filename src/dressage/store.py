"""A run's folder: parquet shards committed atomically, a manifest written last, a journal of paid answers.

    runs/<name>/config.yaml · round-0/{data,judge,train,evaluate}/ · metrics.jsonl · report/index.html

A file is written beside its place, fsynced, renamed, and its directory fsynced; a shard exists if its
commit file parses and every file it names has the recorded hash; a stage is done if its manifest is there.
"""

import fcntl
import hashlib
import json
import os
import shutil
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pydantic import JsonValue

from dressage.records import Frozen, Record, content_hash

R = TypeVar("R", bound=Record)


class StoreError(RuntimeError):
    """What is on the disk cannot be used, or cannot be written; says what and what to do."""


class Shard(Frozen):
    """The commit of one shard: its key (what it was made from), its files' hashes, its rows' hash."""

    name: str
    key: str
    rows: dict[str, int]
    rows_hash: str
    files: dict[str, str]


class Manifest(Frozen):
    """A finished stage. `times` is kept outside every hash."""

    stage: str
    fingerprint: str
    parts: dict[str, JsonValue]
    shards: tuple[Shard, ...]
    rows_hash: str
    facts: dict[str, JsonValue]
    times: dict[str, float]


# ---------------------------------------------------------------- files


def commit_file(path: Path, write: Callable[[BinaryIO], object]) -> str:
    """Writes a file so that it is there whole or not at all; returns the sha256 of its bytes.

    Raises:
        StoreError: where the disk is full or cannot be written; nothing that was there is lost.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        digest = file_hash(part)
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}; make room or choose another folder, "
            "then run the same command again: what was committed before is kept"
        ) from error
    return digest


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def commit_text(path: Path, text: str) -> str:
    return commit_file(path, lambda file: file.write(text.encode()))


def commit_json(path: Path, content: object) -> str:
    return commit_text(path, json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---------------------------------------------------------------- tables


def _column(annotation: Any) -> Any:
    """The arrow type of a record's field; null stands for: kept as JSON text."""
    import pyarrow as pa  # slow to import, and a config error must not wait for it

    plain = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        inner = [a for a in typing.get_args(annotation) if a is not type(None)]
        return _column(inner[0]) if len(inner) == 1 else None
    if typing.get_origin(annotation) is typing.Literal:
        return plain[type(typing.get_args(annotation)[0])]
    if typing.get_origin(annotation) is tuple:
        element = typing.get_args(annotation)[0]
        return pa.list_(plain[element]) if element in plain else None
    return plain.get(annotation)


def _columns(record: type[Record]) -> dict[str, Any]:
    return {name: _column(field.annotation) for name, field in record.model_fields.items()}


def write_table(path: Path, record: type[R], rows: Sequence[R]) -> str:
    """Commits records as zstd parquet, one column a field, nested fields as JSON text; returns the file's hash."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = _columns(record)
    dumped = [row.model_dump(mode="json") for row in rows]
    arrays = {
        name: pa.array(
            [d[name] if kind is not None else json.dumps(d[name], ensure_ascii=False) for d in dumped],
            type=kind if kind is not None else pa.string(),
        )
        for name, kind in columns.items()
    }
    return commit_file(path, lambda file: pq.write_table(pa.table(arrays), file, compression="zstd"))


def read_table(path: Path, record: type[R]) -> list[R]:
    """The records of one parquet file."""
    import pyarrow.parquet as pq

    nested = [name for name, kind in _columns(record).items() if kind is None]
    rows = pq.ParquetFile(path).read().to_pylist()
    for row in rows:
        row.update({name: json.loads(row[name]) for name in nested})
    return [record.model_validate(row) for row in rows]


# ---------------------------------------------------------------- shards and stages


def commit_shard(folder: Path, name: str, *, key: str, tables: Mapping[type[Record], Sequence[Record]]) -> Shard:
    """Writes each table of a shard, then the file that says it is whole."""
    files = {
        f"{record.table}-{name}.parquet": write_table(folder / f"{record.table}-{name}.parquet", record, rows)
        for record, rows in tables.items()
        if rows
    }
    hashes = {record.table: [row.row_hash() for row in rows] for record, rows in tables.items() if rows}
    shard = Shard(
        name=name,
        key=key,
        rows={table: len(rows) for table, rows in hashes.items()},
        rows_hash=content_hash(hashes),
        files=files,
    )
    commit_json(folder / f"shard-{name}.json", shard.model_dump(mode="json"))
    return shard


def shard_done(folder: Path, name: str, *, key: str) -> Shard | None:
    """The committed shard, if it is whole and was made from the same things; a damaged one is set aside."""
    path = folder / f"shard-{name}.json"
    if not path.exists():
        return None
    try:
        shard = Shard.model_validate_json(path.read_bytes())
        whole = all(file_hash(folder / file) == digest for file, digest in shard.files.items())
    except (ValueError, OSError):
        whole, shard = False, None
    if shard is None or not whole or shard.key != key:
        quarantine(folder, [path, *sorted(folder.glob(f"*-{name}.parquet"))])
        return None
    return shard


def quarantine(folder: Path, paths: Sequence[Path]) -> None:
    """Moves damaged or foreign files out of the way without losing them, the first of them first."""
    aside = folder / "quarantine"
    aside.mkdir(exist_ok=True)
    number = len(list(aside.iterdir()))
    for path in paths:
        if path.exists():
            path.replace(aside / f"{number:03d}-{path.name}")
    sync_folder(folder)


def is_whole(folder: Path, shard: Shard) -> bool:
    """Whether the commit of a shard and every file it names are on the disk as they were written."""
    try:
        kept = Shard.model_validate_json((folder / f"shard-{shard.name}.json").read_bytes())
        return kept == shard and all(file_hash(folder / file) == digest for file, digest in shard.files.items())
    except (ValueError, OSError):
        return False


def rows_in(folder: Path, shards: Iterable[Shard], record: type[R]) -> Iterator[R]:
    """All rows of one table of committed shards, in their order, each file checked against its hash.

    Raises:
        StoreError: where a file is not what was committed.
    """
    for shard in shards:
        file = f"{record.table}-{shard.name}.parquet"
        if file in shard.files:
            if not (folder / file).exists() or file_hash(folder / file) != shard.files[file]:
                raise StoreError(
                    f"{folder / file} is gone, was changed or is damaged; run `dressage {folder.name}` again: "
                    "it sets damaged shards aside and does them again"
                )
            yield from read_table(folder / file, record)


def finish_stage(folder: Path, manifest: Manifest) -> None:
    commit_json(folder / "manifest.json", manifest.model_dump(mode="json"))


def manifest_of(folder: Path) -> Manifest | None:
    """The manifest of a finished stage, or null where it is not finished."""
    path = folder / "manifest.json"
    if not path.exists():
        return None
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise StoreError(
            f"{path} is damaged ({error.__class__.__name__}); run `dressage {folder.name}` again: "
            "it is written anew from the shards, which are kept"
        ) from error


def rows_of(folder: Path, record: type[R]) -> Iterator[R]:
    """All rows of one table of a finished stage, in shard order, each file checked against its hash."""
    manifest = manifest_of(folder)
    if manifest is None:
        raise StoreError(f"{folder} is not finished; run the stage first")
    yield from rows_in(folder, manifest.shards, record)


# ---------------------------------------------------------------- journal, metrics, lock


class Journal:
    """Paid answers that are not yet in a shard: append-only JSON lines, read back after a crash."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Any] = {}
        if not path.exists():
            return
        *lines, torn = path.read_bytes().split(b"\n")
        good = [line for line in lines if self._take(line)]
        if len(good) < len(lines):
            aside = path.parent / "quarantine"
            aside.mkdir(exist_ok=True)
            shutil.copyfile(path, aside / f"{len(list(aside.iterdir())):03d}-{path.name}")
        if torn or len(good) < len(lines):  # what follows the last newline was torn off by a crash
            commit_file(path, lambda file: file.write(b"".join(line + b"\n" for line in good)))

    def _take(self, line: bytes) -> bool:
        """Reads one line; one that is no entry is left out, and its file set aside."""
        try:
            row = json.loads(line)
            self._known[row["key"]] = row["answer"]
        except (ValueError, KeyError, TypeError):
            return False
        return True

    def get(self, key: str) -> Any | None:
        return self._known.get(key)

    def bury(self, key: str) -> None:
        """Marks an answer as useless: it is not given again. An answer that is not there needs no mark."""
        if self.get(key) is not None:
            self.put(key, None)

    def put(self, key: str, answer: object) -> None:
        """Appends one answer; it is with the operating system before this returns, so kill -9 cannot lose it.

        Raises:
            StoreError: where the disk is full; the answers before it are kept.
        """
        line = json.dumps({"key": key, "answer": answer}, ensure_ascii=True).encode() + b"\n"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab", buffering=0) as file:
            end = file.tell()
            try:
                written = file.write(line)
                if written != len(line):
                    raise OSError(f"{written} of {len(line)} bytes fit")
            except OSError as error:
                file.truncate(end)
                raise StoreError(
                    f"{self._path} cannot be written: {error.strerror or error}; make room, then run the same "
                    "command again: what was paid for before is kept"
                ) from error
        self._known[key] = answer

    def __len__(self) -> int:
        return sum(answer is not None for answer in self._known.values())


def append_line(path: Path, row: Mapping[str, object]) -> None:
    """Appends one JSON line (metrics, events)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(dict(row), ensure_ascii=False) + "\n")


def keep_lines(path: Path, keep: Callable[[Mapping[str, Any]], bool]) -> None:
    """Leaves only some whole lines of a JSON-lines file, all at once, so that a crash loses none of them."""
    if path.exists():
        kept = [row for row in lines_of(path) if keep(row)]
        commit_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a JSON-lines file; a torn last one is dropped."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1] if line]


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Holds the run's folder: one writer. The kernel frees the lock when the process ends, however it ends.

    Raises:
        StoreError: where another process holds it, naming its pid.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise StoreError(
                f"{run} is in use by process {file.read().strip()}; wait for it, or choose another --name"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        _sweep([*run.glob(".*.part"), *run.glob("round-*/**/.*.part")])
        yield


def _sweep(parts: Sequence[Path]) -> None:
    """Removes what killed processes were writing; called by who holds the lock, so nobody else is."""
    for part in parts:
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)
