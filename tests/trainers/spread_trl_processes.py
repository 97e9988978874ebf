"""A child of test_trl_grpo_spread.py: a trl_grpo training in two processes, with whole models or spread by FSDP 2.

accelerate enters FSDP on GPUs only. Here it is told that two processes on a CPU (gloo) may do so too; all that follows
is as it comes: accelerate's wrapping, torch's FSDP 2, transformers' and TRL's trainers, and ours. MODEL FOLDER
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from forking import launch
from practice_parts import Gym, prompts, share_below
from torch.distributed.tensor import DTensor
from training_parts import Desk

from dressage.models.local import Settings as LocalSettings
from dressage.models.local.model import open as open_local
from dressage.plugins import open_kind, settings_of
from dressage.records import Candidate
from dressage.trainers._lora.checks import GradientWitness

SETTINGS: dict[str, Any] = {
    "kind": "trl_grpo",
    "steps": 4,
    "minibatches": 2,
    "generation_batch_size": 16,
    "num_generations": 4,
    "per_device_train_batch_size": 4,
    "learning_rate": 3e-3,
    "beta": 0.01,
    "save_every": 2,
    "lora": {"r": 4, "alpha": 8, "merge": False},
}
BY_LAUNCHER = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "LlamaDecoderLayer",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
}
_first = AcceleratorState.__init__


def _on_a_cpu_too(self: Any, *given: Any, fsdp_plugin: Any = None, **more: Any) -> None:
    _first(self, *given, fsdp_plugin=fsdp_plugin, **more)
    if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP


def by_fsdp(**changes: str) -> None:
    os.environ.update(BY_LAUNCHER | changes)
    AcceleratorState.__init__ = _on_a_cpu_too


def train(model: str, folder: Path, *, watch: bool = False, judges_itself: bool = False, **more: Any) -> None:
    torch.set_num_threads(1)
    local = open_local(LocalSettings(path=model, dtype="float32", device="cpu"))

    def score(candidate: Candidate) -> float | None:
        if judges_itself:
            local.logprobs([prompts(1)[0].messages], [candidate.token_ids])
        return share_below(120)(candidate)

    spread: list[bool] = []
    look = GradientWitness.look

    def looked(self: GradientWitness, step: int) -> None:
        spread.extend(isinstance(p.grad, DTensor) for p in self._parameters.values())
        look(self, step)

    GradientWitness.look = looked  # type: ignore[method-assign]
    folder.mkdir(parents=True, exist_ok=True)
    gym, desk = Gym(local, score, watch=(lambda update: 0.5) if watch else None), Desk(folder)
    settings = settings_of("trainers", "trl_grpo").model_validate(SETTINGS | more)
    result = open_kind(settings, practice=gym.practice()).train(prompts(8), local, desk.workplace)
    told = {"facts": result.facts, "lines": desk.lines, "spread": all(spread), "looked": len(spread)}
    (folder / f"told-{dist.get_rank()}.json").write_text(json.dumps(told))


def whole(model: str, folder: Path) -> None:
    train(model, folder / "whole")


def spread(model: str, folder: Path) -> None:
    """Spread from beginning to end; and spread from a checkpoint that whole copies have left in the middle."""
    by_fsdp()
    train(model, folder / "spread")
    for origin in ("whole", "spread"):
        again = folder / f"from-{origin}"
        (again / "checkpoints").mkdir(parents=True, exist_ok=True)
        if dist.get_rank() == 0:
            kept = folder / origin / "checkpoints" / "step-00000002"
            shutil.copytree(kept, again / "checkpoints" / kept.name)
        train(model, again)


def refused(model: str, folder: Path, **how: bool) -> None:
    by_fsdp()
    train(model, folder / "refused", **how)


def main(model: str, folder: Path) -> int:
    """What each launch ended with; what those that are refused say is on stderr."""
    ended = {
        "whole": launch(lambda: whole(model, folder), 2),
        "spread": launch(lambda: spread(model, folder), 2),
        "watch": launch(lambda: refused(model, folder, watch=True), 2),
        "judge": launch(lambda: refused(model, folder, judges_itself=True), 2),
    }
    (folder / "ended.json").write_text(json.dumps(ended))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
