"""Stages that change hands: a half-paid one goes on under another name, and what is to be redone is not taken."""

from pathlib import Path
from typing import Any

import pytest

from dressage.engines.failing import TooManyFailures
from dressage.standing import RunRefused, stage_folder
from dressage.store import manifest_of
from run_parts import changed, files, manifest, prompts_file, run, small

Plain = dict[str, Any]


@pytest.fixture
def plain(tmp_path: Path) -> Plain:
    return small(prompts_file(tmp_path / "prompts.jsonl"))


def paid(plain: Plain, log: Path) -> Plain:
    """Judged by words that are paid for; the third question asked has no readable answer, ever."""
    words = {"kind": "scripted", "says": ["SCORE-{nonce}: 7", "SCORE-{nonce}: 3"], "paid": True, "log": str(log)}
    plain = changed(plain, judge__pairing="all_pairs", models__words=words)
    return changed(plain, judges={"form": {"kind": "pointwise", "model": "words", "how": "text"}})


def test_from_goes_on_where_a_half_paid_stage_stopped(tmp_path: Path, plain: Plain) -> None:
    log = tmp_path / "asked.jsonl"
    plain = paid(plain, log)
    run(plain, tmp_path)
    whole, asked = manifest(tmp_path, "judge").rows_hash, len(log.read_text().splitlines())

    place = stage_folder(tmp_path / "small", "judge")
    journal = b'{"key": "paid", "answer": null}\n'
    (place / "journal.jsonl").write_bytes(journal)
    for name in ("manifest.json", "shard-00002.json"):
        (place / name).unlink()
    before = files(place)
    said = run(changed(plain, name="new", data__max_failures=0.5), tmp_path, origin="small")
    assert said == [
        "data: taken over from small",
        "judge: taken over from small as far as it is there",
        "judge: going on",
    ]
    assert manifest(tmp_path, "judge", "new").rows_hash == whole
    assert len(log.read_text().splitlines()) == asked + 3  # one prompt's candidates, of three prompts
    assert files(place) == before


def test_from_takes_nothing_of_a_stage_that_no_longer_fits(tmp_path: Path, plain: Plain) -> None:
    run(plain, tmp_path)
    (stage_folder(tmp_path / "small", "judge") / "manifest.json").unlink()
    said = run(changed(plain, name="new", judge__min_margin=0.1), tmp_path, origin="small")
    assert said == ["data: taken over from small", "judge: starting"]


def test_from_never_replaces_work_that_is_here_already(tmp_path: Path, plain: Plain) -> None:
    run(plain, tmp_path)
    new = changed(plain, name="new")
    run(new, tmp_path)
    place = stage_folder(tmp_path / "new", "data")
    (place / "manifest.json").unlink()
    (place / "stage.json").write_text("torn")
    before = {name: state for name, state in files(place).items() if "0000" in name}
    assert run(new, tmp_path, origin="small")[0] == "data: starting"
    assert {name: state for name, state in files(place).items() if "0000" in name} == before


def test_what_is_to_be_redone_is_not_taken_over(tmp_path: Path, plain: Plain) -> None:
    run(plain, tmp_path)
    said = run(changed(plain, name="new"), tmp_path, origin="small", redo="judge")
    assert said == ["data: taken over from small", "judge: starting"]


def test_stages_without_their_config_are_not_moved_aside_unasked(tmp_path: Path, plain: Plain) -> None:
    run(plain, tmp_path)
    (tmp_path / "small" / "config.yaml").unlink()
    before = files(tmp_path / "small")
    other = changed(plain, data__per_prompt=2)
    with pytest.raises(RunRefused, match=r"settings\.per_prompt changed; stages that no longer fit: data"):
        run(other, tmp_path)
    assert files(tmp_path / "small") == before
    assert run(plain, tmp_path) == ["data: already there", "judge: already there"]
    assert (tmp_path / "small" / "config.yaml").exists()


def test_a_resumed_stage_keeps_its_times(tmp_path: Path, plain: Plain) -> None:
    slow = {**plain["models"]["writer"], "delay_s": 0.01}
    run(changed(plain, models__writer=slow), tmp_path, only="data")
    first = manifest(tmp_path, "data").times["sampling"]
    (stage_folder(tmp_path / "small", "data") / "candidates-00001.parquet").write_bytes(b"x")
    run(plain, tmp_path, only="data")
    found = manifest_of(stage_folder(tmp_path / "small", "data"))
    assert found
    assert first >= 0.09  # nine draws
    assert found.times["sampling"] >= first
    assert not (stage_folder(tmp_path / "small", "data") / "attempts.json").exists()


def test_an_attempt_that_failed_counts_too(tmp_path: Path, plain: Plain) -> None:
    slow = {**plain["models"]["writer"], "delay_s": 0.02, "fails": 0.5}
    failing = changed(plain, models__writer=slow, data__max_failures=0.0)
    with pytest.raises(TooManyFailures):
        run(failing, tmp_path, only="data")
    run(changed(failing, data__max_failures=1.0, models__writer={**slow, "delay_s": 0}), tmp_path, only="data")
    times = manifest(tmp_path, "data").times
    assert times["sampling"] >= 0.06  # the three draws of the first prompt, at least
    assert times["seconds"] >= times["sampling"]
