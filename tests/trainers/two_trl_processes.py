"""A child of test_trl_grpo.py: one trl_grpo training in two processes, as torchrun would start them. MODEL FOLDER PORT.

With `more` for PORT, a child of test_on_policy_processes.py: a step of some of TRL's losses from the same replies in
one process and in two; and a training in two that goes on from a checkpoint.
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from forking import launch
from practice_parts import Gym, prompts, share_below
from training_parts import Desk

from dressage.models.local import Settings as LocalSettings
from dressage.models.local.model import open as open_local
from dressage.plugins import open_kind, settings_of
from dressage.trainers.trl_grpo import trainer as trl_grpo
from dressage.trainers.trl_grpo.learner import Guarded

SETTINGS = {
    "kind": "trl_grpo",
    "steps": 4,
    "minibatches": 2,
    "generation_batch_size": 16,
    "num_generations": 4,
    "per_device_train_batch_size": 4,
    "learning_rate": 3e-3,
    "beta": 0.01,
    "save_every": 2,
    "lora": {"r": 4, "alpha": 8},
}
ONE_STEP = {"steps": 1, "minibatches": 1, "save_every": 1}
LOSSES = ("dapo", "grpo", "bnpo")


def train(model: str, folder: Path, **more: Any) -> None:
    torch.set_num_threads(1)
    local = open_local(LocalSettings(path=model, dtype="float32", device="cpu"))
    gym, desk = Gym(local, share_below(120)), Desk(folder)
    settings = settings_of("trainers", "trl_grpo").model_validate(SETTINGS | more)
    result = open_kind(settings, practice=gym.practice()).train(prompts(8), local, desk.workplace)
    drawn = {update: [(c.prompt_id, c.index, c.text) for c, _ in rows] for update, rows in gym.memory.items()}
    rank, size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    told = {"processes": size, "lines": desk.lines, "drawn": drawn, "facts": result.facts}
    (folder / f"told-{rank}.json").write_text(json.dumps(told))


class Replaying(Guarded):
    """Every prompt has replies of its own, the same whoever draws: token ids made of its number and the reply's."""

    def _generate_single_turn(self, prompt_ids: Any, *others: Any, **more: Any) -> tuple[list[list[int]], None]:
        number = {p.id: i for i, p in enumerate(prompts(8))}
        (end, *_) = self.eos_token_ids
        replies = []
        for place, prompt_id in enumerate(self._asked):
            one = 1 + 7 * number[prompt_id] + place % self.num_generations
            replies.append([40 + (one * k * k) % 160 for k in range(1, 2 + one % 9)] + [end])
        return replies, None


def replay(model: str, folder: Path, size: int) -> None:
    """A step over one generation, all of it in memory at once: TRL's numbers are means over forward passes."""
    trl_grpo.Guarded = Replaying  # type: ignore[misc]
    for loss in LOSSES:
        (folder / loss).mkdir(parents=True, exist_ok=True)
        train(model, folder / loss, **ONE_STEP, per_device_train_batch_size=16 // size, loss_type=loss)


def resume(model: str, folder: Path) -> None:
    """A training, and one that goes on from the first one's checkpoint in the middle."""
    train(model, folder / "whole")
    (folder / "again" / "checkpoints").mkdir(parents=True, exist_ok=True)
    if dist.get_rank() == 0:
        kept = folder / "whole" / "checkpoints" / "step-00000002"
        shutil.copytree(kept, folder / "again" / "checkpoints" / kept.name)
    train(model, folder / "again")


def main(model: str, folder: Path, port: str) -> int:
    if port != "more":
        return launch(lambda: train(model, folder), 2)
    jobs: list[tuple[Callable[[], None], int]] = [
        (lambda: replay(model, folder / "1", 1), 1),
        (lambda: replay(model, folder / "2", 2), 2),
        (lambda: resume(model, folder), 2),
    ]
    return max(launch(work, size) for work, size in jobs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
