"""trl_grpo with its model spread over two processes by FSDP 2: the same training; and who may not spread it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dressage.plugins import settings_of

HERE = Path(__file__).parent


def test_spread_by_fsdp_it_is_the_same_training_and_goes_on(tiny_model: Path, tmp_path: Path) -> None:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "spread_trl_processes.py"), str(tiny_model), str(tmp_path)]
    done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, check=False, timeout=290)
    assert done.returncode == 0, done.stderr[-3000:]
    ended = json.loads((tmp_path / "ended.json").read_text())
    assert ended == {"whole": 0, "spread": 0, "watch": 1, "judge": 1}, done.stderr[-3000:]
    assert (
        "train.watch looks at the policy from the first process alone, of which FSDP 2 leaves it a part" in done.stderr
    )
    assert "is in training, and spread over several processes by FSDP: it can neither judge nor" in done.stderr
    told = {
        (name, rank): json.loads((tmp_path / name / f"told-{rank}.json").read_text())
        for name in ("whole", "spread", "from-whole", "from-spread")
        for rank in (0, 1)
    }
    assert [told[name, 0]["spread"] for name in ("whole", "spread", "from-whole")] == [False, True, True]
    assert all(one["looked"] for one in told.values())  # the witness has seen gradients in every process
    first = told["whole", 0]
    for (name, rank), one in told.items():
        assert one["facts"].keys() == first["facts"].keys(), name
        for key, value in first["facts"].items():
            assert one["facts"][key] == (value if isinstance(value, str) else pytest.approx(value, abs=1e-6)), (
                name,
                key,
            )
        steps = [line["step"] for line in one["lines"]]
        assert steps == ([] if rank else [1, 2, 3, 4] if name in ("whole", "spread") else [3, 4])
    adapters = [
        (tmp_path / name / "adapter" / "adapter_model.safetensors").read_bytes() for name in ("whole", "spread")
    ]
    assert adapters[0] == adapters[1]


@pytest.mark.parametrize("kind", ["ppo", "grpo", "rloo", "dpo", "trl_dpo", "sft", "reward"])
def test_kinds_that_keep_the_model_whole_say_so(kind: str, monkeypatch) -> None:
    settings = settings_of("trainers", kind).model_validate({"kind": kind})
    settings.usable()
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    with pytest.raises(
        ValueError, match=f"a launcher asks for FSDP 2, and {kind} keeps a whole model in every process"
    ):
        settings.usable()


def test_trl_grpo_says_who_may_not_spread_it_before_anything_is_drawn(monkeypatch) -> None:
    settings = settings_of("trainers", "trl_grpo").model_validate({"kind": "trl_grpo"})
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match=r"asks for FSDP 1, which lays .* set fsdp_version: 2"):
        settings.usable()
    monkeypatch.setenv("FSDP_VERSION", "2")
    settings.usable()
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(ValueError, match="asks for DeepSpeed, whose engine keeps gradients and moments to itself"):
        settings.usable()
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"vLLM, whose package is not installed here.*trl\[vllm\]"):
        settings_of("trainers", "trl_grpo").model_validate({"kind": "trl_grpo", "vllm": {"mode": "colocate"}}).usable()


def test_accelerate_reads_the_launch_that_is_offered() -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    told = load_config_from_file(str(HERE.parents[1] / "configs" / "launch" / "fsdp2.yaml"))
    assert (told.distributed_type, told.fsdp_config["fsdp_version"], told.mixed_precision) == ("FSDP", 2, "no")
