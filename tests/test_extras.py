"""Packages that only some runs need are asked for before a run draws anything, and named with the extra they are in."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from dressage.extras import BRINGS, demand, installed
from run_parts import changed, prompts_file, run, small, trained

ROOT = Path(__file__).parents[1]
absent = [package for package in BRINGS if not installed(package)]


def test_every_package_is_in_the_extra_that_is_named() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for package, extra in BRINGS.items():
        (pinned,) = extras[extra]
        assert pinned.partition("==")[0] in (package, f"{package}-skinny")
        assert "==" in pinned


def test_what_is_there_passes_and_what_is_not_is_named() -> None:
    demand("torch", asked_by="anything")
    for package in absent:
        with pytest.raises(ValueError, match=rf"who asks needs the package {package}.*'dressage\[{BRINGS[package]}\]'"):
            demand(package, asked_by="who asks")


def test_a_bare_folder_is_no_package(tmp_path, monkeypatch) -> None:
    (tmp_path / "wandb_of_ours").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not installed("wandb_of_ours")


def refused(plain: dict[str, Any], root: Path, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        run(plain, root)
    assert not list(root.rglob("*.parquet"))  # nothing was drawn


@pytest.mark.skipif("bitsandbytes" not in absent, reason="it is installed")
@pytest.mark.parametrize("name", ["tiny", "judge_model"])
def test_a_quantised_model_without_bitsandbytes_stops_the_run_before_a_draw(tmp_path, tiny_model, name: str) -> None:
    plain = trained(small(prompts_file(tmp_path / "prompts.jsonl")), tiny_model)
    plain["models"]["judge_model"] = plain["models"]["tiny"]
    plain["judges"]["asks"] = {"kind": "pointwise", "model": "judge_model"}
    plain = changed(plain, evaluate__by=["asks"], allow_shared_judges="a test")
    plain["models"][name] = plain["models"][name] | {"quantize": "4bit"}
    refused(plain, tmp_path / "runs", rf"models.{name}: quantize: 4bit needs the package bitsandbytes.*\[qlora\]")


@pytest.mark.skipif("bitsandbytes" not in absent, reason="it is installed")
def test_a_model_that_no_stage_uses_is_not_asked(tmp_path) -> None:
    plain = small(prompts_file(tmp_path / "prompts.jsonl"))
    plain["models"]["unused"] = {"kind": "local", "path": "no-such-folder", "quantize": "4bit"}
    assert run(plain, tmp_path / "runs")[-1].startswith("judge: starting")


def test_a_tracker_that_is_not_installed_stops_the_run_before_a_draw(tmp_path, tiny_model) -> None:
    trackers = [package for package in absent if package != "bitsandbytes"]
    if not trackers:
        pytest.skip("all of them are installed")
    plain = trained(small(prompts_file(tmp_path / "prompts.jsonl")), tiny_model)
    plain["train"]["trainer"]["report_to"] = trackers[:1]
    refused(plain, tmp_path / "runs", rf"train.trainer: report_to: \[{trackers[0]}\] needs the package {trackers[0]}")
