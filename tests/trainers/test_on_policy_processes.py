"""Two processes (gloo) learn what one does from the same recorded replies."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from practice_parts import Gym, prompts, share_below
from safetensors.torch import load_file
from test_on_policy import COMMON, local, settings  # noqa: F401

from dressage.models.local.model import LocalModel
from dressage.plugins import open_kind

HERE = Path(__file__).parent


def test_two_processes_have_the_gradients_of_one(local: LocalModel, tiny_model, tmp_path) -> None:  # noqa: F811
    # A value head starts at zero, so the adapter under it has its first gradient in the second pass.
    critic = {"kind": "adapter", "warmup_updates": 0}
    chosen = settings("ppo", updates=1, epochs=2, microbatch_prompts=1, learning_rate=1e-6, critic=critic)
    gym = Gym(local, share_below(COMMON))
    practice = open_kind(chosen, practice=gym.practice()).practice
    drawn = practice.draw(prompts(4), 4, 1)
    graded = practice.reward([p for p in prompts(4) for _ in range(4)], drawn)
    rows = [[c.model_dump(mode="json"), g.model_dump(mode="json")] for c, g in zip(drawn, graded, strict=True)]
    (tmp_path / "rows.json").write_text(json.dumps({"settings": chosen.model_dump(mode="json"), "rows": rows}))

    launchers = {
        1: [sys.executable],
        2: [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
    }
    told, states = {}, {}
    for size, launcher in launchers.items():
        folder = tmp_path / str(size)
        folder.mkdir()
        command = [*launcher, str(HERE / "two_processes.py"), str(tiny_model), str(tmp_path / "rows.json"), str(folder)]
        path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-3000:]
        told[size] = json.loads((folder / "told.json").read_text())
        states[size] = load_file(folder / "checkpoints" / "step-00000001" / "state.safetensors")
    assert {size: one["processes"] for size, one in told.items()} == {1: 1, 2: 2}
    assert told[1]["drawn"] == told[2]["drawn"] == []
    moments = [name for name in states[1] if name.endswith("exp_avg")]
    assert moments
    for name in moments:  # after one step Adam's first moment is a tenth of the gradient, after two a fifth of both
        assert torch.allclose(10 * states[1][name], 10 * states[2][name], atol=1e-5), name
    assert any(float(states[1][name].abs().max()) > 1e-4 for name in moments)
