"""Where a run's records lie: its last round, and a table of a stage whether the stage is finished or not."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from dressage.records import Record
from dressage.store import Shard, StoreError, file_hash, manifest_of, read_table

R = TypeVar("R", bound=Record)
STAGES = ("data", "judge", "train", "evaluate")


def last_round(run: Path) -> Path:
    """The last round's folder of a run, or `run` itself where it is a round's folder.

    Raises:
        StoreError: where there is no round.
    """
    if re.fullmatch(r"round-\d+(-try-\d+)?", run.name):
        return run
    rounds = [p for p in run.glob("round-*") if p.is_dir()]
    if not rounds:
        raise StoreError(f"{run} holds no round; name the folder of a run, such as runs/smoke")
    return max(rounds, key=lambda p: [int(digits) for digits in re.findall(r"\d+", p.name)])


def tables_of(folder: Path, record: type[R]) -> Iterator[list[R]]:
    """One table of a stage, shard by shard; of an unfinished stage, what is committed so far."""
    manifest = manifest_of(folder)
    for shard in manifest.shards if manifest else committed(folder):
        file = f"{record.table}-{shard.name}.parquet"
        if file in shard.files:
            if not (folder / file).is_file() or file_hash(folder / file) != shard.files[file]:
                raise StoreError(f"{folder / file} was changed or damaged; use --redo {folder.name}")
            yield read_table(folder / file, record)


def unfit(of: Path, stage: str) -> str | None:
    """Why what a stage has left in a round is not the run's result, or null where it is: the stage is not finished,
    or a stage that it read, itself or through others, is not, or has come out differently since."""
    manifest = manifest_of(of / stage)
    if manifest is None:
        return f"{stage} is not finished"
    read = manifest.parts.get("inputs")
    for needed, rows_hash in read.items() if isinstance(read, dict) else ():
        if why := unfit(of, needed):
            return why
        now = manifest_of(of / needed)
        if now is None or now.rows_hash != rows_hash:
            return f"{stage} was made from another {needed} than the one that is there now"
    return None


def committed(folder: Path) -> Iterator[Shard]:
    """The shards of an unfinished stage, in order."""
    for path in sorted(folder.glob("shard-*.json")):
        yield Shard.model_validate_json(path.read_bytes())


def everywhere(of: Path, record: type[R], *, first: str = "data") -> Iterator[list[R]]:
    """One table in whichever stages of a round have it, one of them first."""
    for stage in (first, *(s for s in STAGES if s != first)):
        yield from tables_of(of / stage, record)
