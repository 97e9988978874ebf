"""A whole run whose every reply a vLLM server draws: data, GRPO's updates, battles; as if the model drew by itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from vllm_server import BASE, VERSION, Likeness, serving

from dressage.engines.failing import TooManyFailures
from dressage.models.local import Settings
from dressage.models.local.vllm.stops import OtherSampler, ServerAway
from dressage.plugins import open_kind
from dressage.records import Candidate
from dressage.standing import stage_folder
from dressage.store import lines_of, rows_of
from run_parts import changed, manifest, prompts_file, run, small, trained

GRPO = {
    "kind": "grpo",
    "updates": 2,
    "prompts_per_update": 2,
    "per_prompt": 2,
    "learning_rate": 1e-2,
    "lora": {"r": 4, "alpha": 8},
}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(tiny_model: Path) -> Iterator[Likeness]:
    own = open_kind(Settings(path=str(tiny_model), dtype="float32", device="cpu"))
    with serving(Likeness(own)) as likeness:
        yield likeness


def plain(tiny_model: Path, folder: Path, server: Likeness | None, **more: Any) -> dict[str, Any]:
    whole = trained(small(prompts_file(folder / "p.jsonl")), tiny_model, **more)
    if server:
        sampler = {"base_url": server.address, "model": BASE, "version": VERSION, "attempts": 2, "backoff_s": 0.01}
        whole["models"]["tiny"]["sampler"] = sampler
    return whole


def texts(root: Path, stage: Any) -> dict[tuple[str, int, int], str]:
    """What was drawn, by prompt, index and seed."""
    rows = rows_of(stage_folder(root / "small", stage), Candidate)
    return {(c.prompt_id, c.index, c.seed): c.text for c in rows}


def test_an_on_policy_run_through_the_server_learns_what_it_would_have_learnt(tiny_model, tmp_path, server):
    asks = {"train": {"trainer": GRPO}, "data__per_prompt": 0, "data__sampling": {"max_new_tokens": 12}}
    for name, by in (("own", None), ("served", server)):
        assert run(plain(tiny_model, tmp_path, by, **asks), tmp_path / name)[-1] == "evaluate: starting"
    for stage in ("train", "evaluate"):
        drawn = texts(tmp_path / "served", stage)
        assert drawn
        assert drawn == texts(tmp_path / "own", stage)
    one, other = (
        load_file(stage_folder(tmp_path / name / "small", "train") / "adapter" / "adapter_model.safetensors")
        for name in ("own", "served")
    )
    for key, tensor in one.items():
        assert tensor.abs().max() > 0
        assert (tensor - other[key]).abs().max() < 1e-5, key
    told = [row for row in lines_of(tmp_path / "served" / "small" / "metrics.jsonl") if "ratio/first_gap" in row]
    assert len(told) == 2
    assert all(row["ratio/first_gap"] < 1e-3 for row in told)
    # Two updates and what was learnt, each loaded once; nothing of the run stays on the server.
    assert len(server.loaded) == len(set(server.loaded)) == 3
    assert server.adapters == {}
    said = manifest(tmp_path / "served", "train").facts["model: tiny"]
    assert said["sampler"].startswith("vllm 0.32.0, within ")


def test_every_role_is_drawn_by_the_server_and_another_version_draws_anew(tiny_model, tmp_path, server):
    whole = plain(tiny_model, tmp_path, server)
    assert run(whole, tmp_path / "served") == [f"{s}: starting" for s in ("data", "judge", "train", "evaluate")]
    own = plain(tiny_model, tmp_path, None)
    run(own, tmp_path / "own")
    assert texts(tmp_path / "served", "data") == texts(tmp_path / "own", "data")
    shown = [body for body in server.asked if "ignore_eos" not in body]
    assert len(shown) == sum(len(texts(tmp_path / "served", s)) for s in ("data", "evaluate")) + _best_of(tmp_path)
    models = {c.model for c in rows_of(stage_folder(tmp_path / "served" / "small", "data"), Candidate)}
    assert models.isdisjoint({c.model for c in rows_of(stage_folder(tmp_path / "own" / "small", "data"), Candidate)})
    moved = changed(whole, models__tiny__sampler__base_url="http://127.0.0.1:1")
    assert {line.partition(": ")[2] for line in run(moved, tmp_path / "served")} == {"already there"}
    upgraded = changed(whole, models__tiny__sampler__version="0.33.0")
    with pytest.raises(RuntimeError, match=r"sampler\.version"):
        run(upgraded, tmp_path / "served")
    with pytest.raises(OtherSampler, match=r"runs vLLM 0\.32\.0"):
        run(changed(upgraded, name="anew"), tmp_path / "served")


def _best_of(root: Path) -> int:
    """Replies of the predecessor that lost to its best: they are drawn and not kept."""
    kept = len(texts(root / "served", "evaluate"))
    return kept // 3  # of policy, predecessor and best of two, the last was chosen among twice as many


def test_a_run_whose_server_goes_away_goes_on_when_it_is_back(tiny_model, tmp_path, server):
    whole = plain(tiny_model, tmp_path, server)
    away = changed(whole, models__tiny__sampler__base_url="http://127.0.0.1:1")
    with pytest.raises(ServerAway, match="what was committed is kept"):
        run(away, tmp_path)
    assert run(whole, tmp_path)[0] == "data: going on"


def test_a_training_whose_draws_come_to_nothing_stops(tiny_model, tmp_path, server):
    server.draws = False
    asks = {"train": {"trainer": GRPO}, "data__per_prompt": 0, "data__sampling": {"max_new_tokens": 12}}
    with pytest.raises(TooManyFailures, match=r"'sampling: policy' failed on 4 of the 8 .* than train\.max_failures"):
        run(plain(tiny_model, tmp_path, server, **asks), tmp_path)
