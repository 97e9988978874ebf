"""Two processes (gloo) learn what one does from the same recorded replies, and say the same of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from practice_parts import Gym, prompts, share_below
from safetensors.torch import load_file
from test_on_policy import COMMON, local, settings  # noqa: F401

from dressage.models.local.model import LocalModel
from dressage.plugins import open_kind

HERE = Path(__file__).parent
SAID = {"policy/loss", "policy/approx_kl", "policy/clipfrac", "policy/entropy", "policy/grad_norm", "ratio/mean"}
SAID |= {"ratio/max", "ratio/first_gap", "objective/kl", "objective/scores"}


def test_two_processes_have_the_gradients_and_the_numbers_of_one(local: LocalModel, tiny_model, tmp_path) -> None:  # noqa: F811
    # A value head starts at zero, so the adapter under it has its first gradient in the second pass.
    critic = {"kind": "adapter", "warmup_updates": 0}
    chosen = [
        settings("ppo", updates=1, epochs=2, microbatch_prompts=1, learning_rate=1e-6, critic=critic),
        settings("grpo", updates=1, microbatch_prompts=4, entropy=0.01),  # one microbatch: the second has no share
    ]
    gym = Gym(local, share_below(COMMON))
    practice = open_kind(chosen[0], practice=gym.practice()).practice
    drawn = practice.draw(prompts(4), 4, 1)
    graded = practice.reward([p for p in prompts(4) for _ in range(4)], drawn)
    rows = [[c.model_dump(mode="json"), g.model_dump(mode="json")] for c, g in zip(drawn, graded, strict=True)]
    plain = [one.model_dump(mode="json") for one in chosen]
    (tmp_path / "recorded.json").write_text(json.dumps({"settings": plain, "rows": rows}))
    _run("two_processes.py", str(tiny_model), str(tmp_path))
    alone, leader, follower = (
        json.loads((tmp_path / name).read_text()) for name in ("1/told-0.json", "2/told-0.json", "2/told-1.json")
    )
    assert (alone["processes"], leader["processes"], follower["processes"]) == (1, 2, 2)
    for number, (one, two, other) in enumerate(zip(alone["told"], leader["told"], follower["told"], strict=True)):
        assert one["drawn"] == two["drawn"] == []
        assert other["lines"] == []
        _same_numbers(one["lines"], two["lines"], SAID)
        _same_gradients(*(tmp_path / f"{n}/{number}/checkpoints/step-00000001/state.safetensors" for n in (1, 2)))


def test_trl_has_the_gradients_of_one_process_where_its_loss_allows_it_and_resumes(tiny_model, tmp_path) -> None:
    _run("two_trl_processes.py", str(tiny_model), str(tmp_path), "more")
    for loss in ("dapo", "grpo", "bnpo"):
        alone, shared = (tmp_path / n / loss for n in ("1", "2"))
        one, two = (json.loads((folder / "told-0.json").read_text()) for folder in (alone, shared))
        assert one["drawn"] == two["drawn"]
        moments = [folder / "checkpoints" / "step-00000001" / "optimizer.safetensors" for folder in (alone, shared)]
        if loss == "bnpo":  # TRL weighs the forward passes alike, whatever their tokens
            with pytest.raises(AssertionError):
                _same_gradients(*moments)
        else:
            _same_numbers(one["lines"], two["lines"], {"loss", "grad_norm", "kl", "policy/entropy", "reward"})
            _same_gradients(*moments)
    whole, again = (json.loads((tmp_path / name / "told-0.json").read_text()) for name in ("whole", "again"))
    assert whole["facts"] == again["facts"]  # the adapter's hash among them
    assert [line["step"] for line in again["lines"]] == [3, 4]
    assert {"2": whole["drawn"]["2"]} == again["drawn"]


def _run(script: str, *arguments: str) -> None:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / script), *arguments]
    done = subprocess.run(command, env=environment, cwd=HERE, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]


def _same_numbers(alone: list[dict[str, float]], shared: list[dict[str, float]], wanted: set[str]) -> None:
    """What an update says of itself is said of all processes' shares."""
    (one,), (two,) = alone, shared
    assert one.keys() == two.keys() > wanted
    for name in one.keys() - {n for n in one if n.startswith(("time/", "rate/"))}:
        assert two[name] == pytest.approx(one[name], abs=1e-5), name


def _same_gradients(alone: Path, shared: Path) -> None:
    one, two = load_file(alone), load_file(shared)
    moments = [name for name in one if name.endswith("exp_avg")]
    assert moments
    for name in moments:  # after one step Adam's first moment is a tenth of the gradient, after two a fifth of both
        assert torch.allclose(10 * one[name], 10 * two[name], atol=1e-5), name
    assert any(float(one[name].abs().max()) > 1e-4 for name in moments)
