"""Trainings killed with -9 at many moments end as one that never was: adapter bytes, facts and metric lines."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
BASE = {
    "learning_rate": 3e-3,
    "epochs": 2,
    "warmup": 0.2,
    "schedule": "cosine",
    "save_every": 2,
    "lora": {"r": 2, "alpha": 4, "dropout": 0.3, "targets": ["q_proj", "down_proj"]},
}
KINDS: dict[str, dict[str, Any]] = {
    "dpo": {"batch_pairs": 4, "microbatch_pairs": 2, "weight": "margin"},
    "sft": {"batch_examples": 4, "microbatch_examples": 2},
    "reward": {"batch_pairs": 4, "microbatch_pairs": 2, "margin": 0.5, "held_out": 0.2},
}
"""Ten rows (reward: nine) in batches of four, twice: six steps, of which the third and the sixth have a smaller
batch; dropout draws noise, the rate changes with each step."""
UNDISTURBED = "undisturbed"
DEATHS = {
    "everywhere": ["commit 2", "line 3", "write 4", "commit 6"],
    "at the end of an epoch": ["commit 3"],
    "with damage": ["flip 4", "lose 4"],
}
"""Everywhere: at a checkpoint within an epoch, between two of them, while one is written, after the last step."""
CASES = [(kind, death) for kind, n in {"dpo": 3, "sft": 2, "reward": 1}.items() for death in [*DEATHS][:n]]
EVERY = {"at the end of an epoch": 3}
"""Steps between checkpoints, where not two: the first epoch ends with the third step."""


@pytest.fixture(scope="module")
def folders(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """(kind, how it died) → what was left, of trainings that all ended at last."""
    root = tmp_path_factory.mktemp("lives")
    jobs = {}
    for kind, name in [*((kind, UNDISTURBED) for kind in KINDS), *CASES]:
        place = root / f"{kind}-{len(jobs)}"
        place.mkdir()
        settings = {**BASE, **KINDS[kind], "save_every": EVERY.get(name, 2)}
        jobs[kind, name] = {
            "kind": kind,
            "folder": str(place),
            "settings": settings,
            "deaths": DEATHS.get(name, []),
        }
    plan = root / "plan.json"
    plan.write_text(json.dumps(list(jobs.values())))
    done = subprocess.run(
        [sys.executable, HERE / "dying.py", tiny_model, plan], cwd=HERE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return {key: Path(job["folder"]) for key, job in jobs.items()}


def left(folder: Path) -> dict[str, Any]:
    """All that must be equal: every byte of the adapter's folder, the facts, the metric lines."""
    files = {f.name: f.read_bytes() for f in (folder / "work" / "adapter").iterdir()}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {"files": files, "facts": json.loads((folder / "facts.json").read_text()), "lines": lines}


def said(folder: Path) -> list[str]:
    path = folder / "said.jsonl"
    return [json.loads(line)["line"] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("kind", KINDS)
def test_the_training_is_long_enough_to_tell(folders, kind: str) -> None:
    lines = left(folders[kind, UNDISTURBED])["lines"]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert len({line["loss"] for line in lines}) == 6
    assert len({line["learning_rate"] for line in lines}) > 3


@pytest.mark.parametrize(("kind", "death"), CASES)
def test_a_killed_training_ends_as_one_that_never_was(folders, kind: str, death: str) -> None:
    assert left(folders[kind, death]) == left(folders[kind, UNDISTURBED])


@pytest.mark.parametrize(("kind", "death"), CASES)
def test_what_is_damaged_is_set_aside_and_told_and_nothing_else(folders, kind: str, death: str) -> None:
    set_aside = "checkpoint step-00000004 is damaged or of another training; set aside"
    assert said(folders[kind, death]) == ([set_aside] * 2 if death == "with damage" else [])
