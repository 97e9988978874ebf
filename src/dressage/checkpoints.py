"""The state of a training from which it goes on: folders committed whole, the newest whole one is found again.

    work/checkpoints/step-00000012/{files …, COMMIT.json}

A folder is written beside its place, every file fsynced, COMMIT.json with each file's hash last, then renamed;
transformers' own checkpoints resume silently without an optimizer, a scheduler or with a flipped bit.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from dressage.records import Frozen
from dressage.store import StoreError, commit_json, file_hash, quarantine, sync_folder

COMMIT = "COMMIT.json"
KEPT = 2
"""So that a damaged newest one leaves another to go on from."""


class Commit(Frozen):
    """What makes a folder a checkpoint: whose it is, of which step, and the hash of each of its files."""

    key: str
    step: int
    files: dict[str, str]


class Checkpoints:
    """The checkpoints of one training, known by its key."""

    def __init__(self, folder: Path, *, key: str, say: Callable[[str], None]) -> None:
        self._folder, self._key, self._say = folder, key, say

    def newest(self) -> tuple[int, Path] | None:
        """(step, folder) of the newest whole one, or null; what is damaged or foreign is set aside and told."""
        for folder in sorted(self._folder.glob("step-*"), reverse=True):
            if (commit := self._whole(folder)) is not None:
                return commit.step, folder
            self._say(f"checkpoint {folder.name} is damaged or of another training; set aside")
            quarantine(self._folder, [folder])
        return None

    def commit(self, step: int, write: Callable[[Path], None]) -> None:
        """Keeps what `write` puts into the folder it is given; all but the newest two are dropped.

        Raises:
            StoreError: where the disk is full; the checkpoints before are kept.
        """
        place = self._folder / f"step-{step:08d}"
        part = self._folder / f".{place.name}.{os.getpid()}.part"
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            write(part)
            files = {str(f.relative_to(part)): _synced(f) for f in sorted(part.rglob("*")) if f.is_file()}
            commit_json(part / COMMIT, Commit(key=self._key, step=step, files=files).model_dump(mode="json"))
            shutil.rmtree(place, ignore_errors=True)  # a damaged one of the same step
            part.rename(place)
            sync_folder(self._folder)
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            raise StoreError(
                f"{place} cannot be written: {error.strerror or error}; make room, then run the same command again: "
                "training goes on from the checkpoint before"
            ) from error
        for old in sorted(self._folder.glob("step-*"))[:-KEPT]:
            shutil.rmtree(old)

    def _whole(self, folder: Path) -> Commit | None:
        try:
            commit = Commit.model_validate(json.loads((folder / COMMIT).read_bytes()))
            there = {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()} - {COMMIT}
            fits = commit.key == self._key and folder.name == f"step-{commit.step:08d}" and there == set(commit.files)
            whole = fits and all(file_hash(folder / name) == digest for name, digest in commit.files.items())
        except (OSError, ValueError, ValidationError):
            return None
        return commit if whole else None


def _synced(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return file_hash(path)
