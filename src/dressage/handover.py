"""Stages that change hands: old output moved aside, output of another run taken over, finished or half done."""

import os
import shutil
from pathlib import Path

from dressage.fingerprints import Stage
from dressage.standing import Job, damaged, folder_of, manifest_or_none, stage_folder, standing
from dressage.store import append_line, keep_lines, lines_of, sync_folder


def move_aside(place: Path) -> Path | None:
    """Makes room for a stage that is done again; where its old output lies now, or null where there was none."""
    if not place.exists():
        return None
    number = 1
    while (aside := place.with_name(f"{place.name}.old-{number}")).exists():
        number += 1
    place.rename(aside)
    return aside


def take_over(job: Job, folder: Path, stage: Stage, fingerprint: str) -> bool | None:
    """Copies a stage of another run with its metrics, if it was made from the very same things. Returns whether it is
    done; one that was begun, or is damaged, keeps what is whole of it (shards, paid answers), and goes on here; null:
    there is none that fits."""
    assert job.origin is not None
    origin = folder_of(job.root, job.origin)
    place, theirs = stage_folder(folder, stage), stage_folder(origin, stage)
    if standing(stage, theirs, fingerprint).state not in ("done", "begun") or any(place.glob("shard-*.json")):
        return None  # nothing fits, or what is here already has work of its own
    manifest = manifest_or_none(theirs)
    whole = manifest is not None and damaged(theirs, manifest) is None
    keep_lines(folder / "metrics.jsonl", lambda row: row.get("stage") != stage)
    for row in lines_of(origin / "metrics.jsonl"):
        if row.get("stage") == stage:
            append_line(folder / "metrics.jsonl", row)
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    left = ("quarantine", "*.part", *(() if whole else ("manifest.json",)))
    shutil.copytree(theirs, part, ignore=shutil.ignore_patterns(*left))
    shutil.rmtree(place, ignore_errors=True)  # it has no shard: at most a stage.json that could not be read
    part.rename(place)
    sync_folder(place.parent)
    return whole
