"""The whole loop of configs/smoke.yaml through the command line, twice: the second time does nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dressage.fingerprints import STAGES
from dressage.records import Battle, Candidate, Checkpoint, Measure, Preference
from dressage.store import manifest_of, rows_of
from run_parts import files

ROOT = Path(__file__).parents[1]


def dressage(tiny_model: Path, root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dressage.cli", "run", str(ROOT / "configs" / "smoke.yaml")]
    return subprocess.run(
        [*command, "--runs", str(root), "--set", f"models.tiny.path={tiny_model}", "--set", "models.tiny.threads=1"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def runs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = tmp_path_factory.mktemp("runs")
    done = dressage(tiny_model, root)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr  # what libraries have to say to one another is no user's concern
    return root, done.stdout


def test_every_stage_is_done_and_the_report_is_there(runs: tuple[Path, str]) -> None:
    root, said = runs
    rounds = root / "smoke" / "round-0"
    assert all(manifest_of(rounds / stage) for stage in STAGES)
    page = (root / "smoke" / "report" / "index.html").read_text("utf-8")
    assert "preference" in page.lower()
    assert "Content-Security-Policy" in page
    assert "preference_rate" in said
    assert len(list(rows_of(rounds / "data", Candidate))) == 66
    assert list(rows_of(rounds / "judge", Preference))
    (checkpoint,) = rows_of(rounds / "train", Checkpoint)
    assert (rounds / "train" / checkpoint.adapter / "adapter_model.safetensors").stat().st_size > 1000
    assert {b.a for b in rows_of(rounds / "evaluate", Battle)} == {"policy", "best_of_2"}
    assert {m.of for m in rows_of(rounds / "evaluate", Measure)} == {"policy", "predecessor", "best_of_2"}


def test_the_second_run_does_nothing(runs: tuple[Path, str], tiny_model: Path) -> None:
    root, said = runs
    before = {k: v for k, v in files(root / "smoke").items() if not k.startswith("report")}
    again = dressage(tiny_model, root)
    assert again.returncode == 0, again.stderr
    assert {k: v for k, v in files(root / "smoke").items() if not k.startswith("report")} == before
    assert [line for line in again.stderr.splitlines() if "already there" in line][-1].startswith("evaluate")
    assert "starting" not in again.stderr
    assert again.stdout == said
