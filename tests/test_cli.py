"""The command line: help, the verbs on a small run, and errors as one line with exit code 1."""

import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from dressage.store import Manifest, append_line, finish_stage, lines_of
from run_parts import changed, manifest, prompts_file, small

ROOT = Path(__file__).parents[1]
VERBS = ("run", "data", "judge", "train", "evaluate", "plan", "report", "show", "compare", "doctor")


def dressage(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dressage.cli", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def plain(tmp_path: Path) -> dict[str, Any]:
    return small(prompts_file(tmp_path / "prompts.jsonl"))


def config(tmp_path: Path, plain: dict[str, Any]) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(plain))
    return path


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: ")
    return line


def test_help_names_every_verb(tmp_path: Path) -> None:
    said = dressage("--help", cwd=tmp_path).stdout
    assert all(f"\n  {verb} " in said for verb in VERBS)
    assert "--redo" in dressage("run", "--help", cwd=tmp_path).stdout


def test_a_run_by_stages_then_whole_then_looked_at(tmp_path: Path, plain: dict[str, Any]) -> None:
    path = config(tmp_path, plain)
    planned = dressage("plan", path, cwd=tmp_path)
    assert planned.returncode == 0
    assert "9 draws" in planned.stdout
    assert "3 train" in planned.stdout
    assert not (tmp_path / "runs").exists()
    assert "data: starting" in dressage("data", path, cwd=tmp_path).stderr
    whole = dressage("run", path, cwd=tmp_path)
    assert whole.returncode == 0
    assert "data: already there" in whole.stderr
    assert (tmp_path / "runs" / "small" / "report" / "index.html").exists()
    shown = dressage("show", "small", "preferences", cwd=tmp_path)
    assert shown.returncode == 0
    assert "Tell me about" in shown.stdout
    assert dressage("report", "runs/small", cwd=tmp_path).returncode == 0


def test_what_a_command_took_is_kept_with_its_start_and_report(tmp_path: Path, plain: dict[str, Any]) -> None:
    path = config(tmp_path, plain)
    began = time.monotonic()
    dressage("run", path, cwd=tmp_path)
    took = time.monotonic() - began
    (line,) = lines_of(tmp_path / "runs" / "small" / "times.jsonl")
    stages = sum(manifest(tmp_path / "runs", stage).times["seconds"] for stage in ("data", "judge"))
    assert line["stages"] == pytest.approx(stages, abs=0.01)
    assert 0.5 * took < line["seconds"] <= took  # the imports alone are most of so small a run
    dressage("run", path, cwd=tmp_path)
    assert len(lines_of(tmp_path / "runs" / "small" / "times.jsonl")) == 1  # it did nothing


def overhead(run: Path, **times: float) -> subprocess.CompletedProcess[str]:
    """The benchmark on a run whose two commands took as long as this each."""
    for _ in range(2):
        append_line(run / "times.jsonl", times)
    script = [sys.executable, ROOT / "scripts" / "bench_overhead.py", run]
    return subprocess.run(script, env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True)


def test_the_benchmark_holds_all_but_the_work_of_a_command_to_five_per_cent(tmp_path: Path) -> None:
    work = {"sampling": 50.0, "training": 20.0, "scoring": 16.0, "loading": 5.0, "judging": 5.0}  # 96 of 100
    fine = overhead(tmp_path / "fine", seconds=100.0, stages=98.0, **work)
    assert fine.returncode == 0
    assert "rest             8.0 s, 4.0% of the whole" in fine.stdout
    assert "scoring         32.0 s, 16.0%; counted as overhead it would make" in fine.stdout
    slow = overhead(tmp_path / "slow", seconds=102.0, stages=98.0, **work)  # the report took longer
    assert slow.returncode == 1
    assert "rest            12.0 s, 5.9% of the whole" in slow.stdout
    assert "has no command that worked on a stage" in overhead(tmp_path / "none", seconds=0.0).stderr


def test_a_config_error_is_one_line(tmp_path: Path, plain: dict[str, Any]) -> None:
    path = config(tmp_path, changed(plain, data__per_prompt="many"))
    said = refusal(dressage("run", path, cwd=tmp_path))
    assert "data.per_prompt: Input should be a valid integer" in said
    assert not (tmp_path / "runs").exists()


def test_other_errors_are_one_line_too(tmp_path: Path, plain: dict[str, Any]) -> None:
    path = config(tmp_path, plain)
    assert "no such file" in refusal(dressage("run", "nothing.yaml", cwd=tmp_path))
    said = refusal(dressage("judge", path, "--set", "data.per_prompt=2", "--name", "x", cwd=tmp_path))
    assert "judge needs data, which is not finished" in said
    assert f"run `dressage data {path} --set data.per_prompt=2 --name x` first" in said
    assert not (tmp_path / "runs").exists()  # no ghost of a run that was never begun
    assert "has no `train:`" in refusal(dressage("train", path, cwd=tmp_path))
    assert "--from other: there is no such run" in refusal(dressage("run", path, "--from", "other", cwd=tmp_path))
    assert "no run at nobody" in refusal(dressage("report", "nobody", cwd=tmp_path))
    (tmp_path / "prompts.jsonl").write_text("not json\n")
    assert "prompts.jsonl:1" in refusal(dressage("run", path, "--name", "other", cwd=tmp_path))


def test_changed_settings_are_refused_and_a_new_name_takes_over(tmp_path: Path, plain: dict[str, Any]) -> None:
    path = config(tmp_path, plain)
    assert dressage("run", path, cwd=tmp_path).returncode == 0
    change = ("--set", "judge.min_margin=0.3")
    said = refusal(dressage("run", path, *change, cwd=tmp_path))
    assert "these keys differ: judge.min_margin; stages that no longer fit: judge. Either --redo judge" in said
    new = dressage("run", path, *change, "--name", "2024", "--from", "small", cwd=tmp_path)
    assert new.returncode == 0, new.stderr
    assert "data: taken over from small" in new.stderr
    assert (tmp_path / "runs" / "2024").is_dir()
    redone = dressage("judge", path, *change, "--redo", cwd=tmp_path)
    assert redone.returncode == 0, redone.stderr
    assert (tmp_path / "runs" / "small" / "round-0" / "judge.old-1").is_dir()
    assert "judge: the old output lies in runs/small/round-0/judge.old-1 now" in redone.stderr


def test_a_traceback_can_be_asked_for(tmp_path: Path) -> None:
    done = dressage("run", "nothing.yaml", cwd=tmp_path, DRESSAGE_TRACEBACK="1")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_the_version(tmp_path: Path) -> None:
    assert dressage("--version", cwd=tmp_path).stdout == f"dressage {version('dressage')}\n"


def test_a_word_that_is_none_of_the_known_is_told_plainly(tmp_path: Path) -> None:
    said = dressage("show", "small", "battle", cwd=tmp_path)
    assert said.returncode == 2
    assert "'battle'; did you mean 'battles'?" in said.stderr
    assert "Value error" not in said.stderr
    assert "'trian'; did you mean 'train'?" in dressage("show", "small", "--stage", "trian", cwd=tmp_path).stderr


def test_wrong_usage_says_so(tmp_path: Path) -> None:
    done = dressage("run", cwd=tmp_path)
    assert done.returncode == 2
    assert "Missing argument 'CONFIG'" in done.stderr


def test_a_run_says_what_every_stage_left_and_left_out(tmp_path: Path, plain: dict[str, Any]) -> None:
    with (tmp_path / "prompts.jsonl").open("a") as file:
        file.write((tmp_path / "prompts.jsonl").read_text().splitlines()[0] + "\n")
        file.write('{"nothing": 1}\n')
    path = config(tmp_path, changed(plain, data__source__max_bad_rows=0.2, data__at_most={"dev": 2}))
    done = dressage("run", path, cwd=tmp_path)
    line = "left out: 1 × doubled prompt, 1 × unreadable row, 1 × prompt over data.at_most"
    assert f"data: {line}" in done.stderr
    rows = {row.split()[0]: row for row in done.stdout.splitlines() if row.strip()}
    assert "9 candidates, 8 prompts" in rows["data"]
    assert "1 × doubled prompt" in rows["data"]
    assert "3 preferences" in rows["judge"]
    assert done.stdout == dressage("run", path, cwd=tmp_path).stdout


def test_seeds_of_a_run_that_evaluates_nothing_end_well(tmp_path: Path, plain: dict[str, Any]) -> None:
    path = config(tmp_path, plain)
    done = dressage("run", path, "--seeds", "0,1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "nothing to compare over the seeds" in done.stderr
    assert (tmp_path / "runs" / "small-seed-1" / "report" / "index.html").exists()
    change = ("--set", "judge.min_margin=0.3", "--name", "other", "--from", "small")
    (tmp_path / "runs" / "small-seed-1").rename(tmp_path / "runs" / "small")
    again = dressage("run", path, "--seeds", "0,1", *change, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "data: taken over from small-seed-0" in again.stderr
    assert "data: taken over from small\n" in again.stderr  # there is no small-seed-1, so the run itself is tried


@pytest.mark.parametrize("seeds", ["²", "0,,1", "one", "-1"])
def test_seeds_are_whole_numbers(tmp_path: Path, plain: dict[str, Any], seeds: str) -> None:
    done = dressage("run", config(tmp_path, plain), "--seeds", seeds, cwd=tmp_path)
    assert done.returncode == 2
    assert "give whole numbers, e.g. --seeds 0,1,2" in done.stderr


def test_a_seed_that_stands_twice_is_refused(tmp_path: Path, plain: dict[str, Any]) -> None:
    done = dressage("run", config(tmp_path, plain), "--seeds", "1,0,01", cwd=tmp_path)
    assert done.returncode == 2
    assert "1 stands twice" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_whoever_stops_a_run_is_told_that_it_goes_on(
    tmp_path: Path, plain: dict[str, Any], number: signal.Signals, code: int
) -> None:
    slow = {**plain["models"]["writer"], "delay_s": 0.5}
    path = config(tmp_path, changed(plain, models__writer=slow))
    process = subprocess.Popen(
        [sys.executable, "-m", "dressage.cli", "run", str(path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    while "sampling" not in process.stderr.readline():
        pass
    process.send_signal(number)
    said = process.stderr.read()
    assert process.wait(timeout=60) == code
    assert said.splitlines()[-1] == "stopped; what was committed is kept, and the same command goes on from here"
    assert "Traceback" not in said
    assert dressage("run", config(tmp_path, plain), cwd=tmp_path).returncode == 0


def test_a_run_that_only_trains_ends_with_what_its_training_came_to(tmp_path: Path) -> None:
    facts = {"held_out/accuracy": 0.8, "held_out/accuracy_low": 0.6, "held_out/accuracy_high": 0.9}
    facts |= {"held_out/prompts": 20, "held_out/length_only_accuracy": 0.5}
    place = tmp_path / "rm" / "round-0" / "train"
    blank = {"stage": "train", "fingerprint": "f", "parts": {}, "shards": [], "rows_hash": "h", "times": {}}
    finish_stage(place, Manifest.model_validate(blank | {"facts": facts}))
    code = "from pathlib import Path; from dressage.cli import _summary; _summary(Path('rm'))"
    said = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-3:] == [
        "training",
        "pairs told apart rightly  80.0 % [60.0, 90.0] on 20 held-out prompts",
        "by length alone           50.0 %",
    ]
