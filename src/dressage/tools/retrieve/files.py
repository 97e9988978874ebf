"""The files of a corpus: found, named the same on every machine, hashed, never through a symbolic link."""

import hashlib
import os
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from dressage.tools._calling import ToolError

TEXTS, ROWS = (".txt", ".md"), (".jsonl",)
ENDINGS = (*TEXTS, *ROWS, ".parquet")


def corpus(path: Path) -> list[tuple[str, Path]]:
    """The files at `path` in the order of their names, each with the name it is cited under.

    In a folder hidden files, symbolic links and other endings are passed over, and .parquet files too: a data set is
    named by itself.

    Raises:
        ToolError: nothing is there, or nothing that can be read.
    """
    if path.is_file():
        if not path.name.endswith(ENDINGS):
            raise ToolError(f"{path} does not end in {', '.join(ENDINGS)}")
        return [(path.name, path)]
    if not path.is_dir():
        there = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        near = get_close_matches(path.name, there, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; paths count from {Path.cwd()}"
        raise ToolError(f"there is no folder or file {path}{hint}")
    found = sorted((file.relative_to(path).as_posix(), file) for file in _below(path))
    if not found:
        raise ToolError(f"there is no {', '.join((*TEXTS, *ROWS))} file in {path}")
    return found


def _below(folder: Path) -> Iterator[Path]:
    for entry in os.scandir(folder):
        if entry.name.startswith(".") or entry.is_symlink():
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _below(Path(entry.path))
        elif entry.is_file(follow_symlinks=False) and entry.name.endswith((*TEXTS, *ROWS)):
            yield Path(entry.path)


def hashes(files: list[tuple[str, Path]]) -> list[tuple[str, str]]:
    """Of each file the name it is cited under and its sha256."""
    found = []
    for name, file in files:
        with file.open("rb") as opened:
            found.append((name, hashlib.file_digest(opened, "sha256").hexdigest()))
    return found


def check_size(files: list[tuple[str, Path]], most_mib: int) -> None:
    """Refuses more than can be held.

    Raises:
        ToolError: the files are larger together.
    """
    size = sum(file.stat().st_size for _, file in files)
    if size > most_mib << 20:
        raise ToolError(f"the files have {size / 2**20:.0f} MiB together; `most_mib` is {most_mib}")
