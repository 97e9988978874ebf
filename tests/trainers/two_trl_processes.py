"""A child of test_trl_grpo.py: one trl_grpo training in two processes, as torchrun would start them. MODEL FOLDER PORT.

Both are forks, so that the libraries are imported once.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from practice_parts import Gym, prompts, share_below
from training_parts import Desk

from dressage.models.local import Settings as LocalSettings
from dressage.models.local.model import open as open_local
from dressage.plugins import open_kind, settings_of

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


def train(model: str, folder: Path) -> None:
    torch.set_num_threads(1)
    local = open_local(LocalSettings(path=model, dtype="float32", device="cpu"))
    gym, desk = Gym(local, share_below(120)), Desk(folder)
    settings = settings_of("trainers", "trl_grpo").model_validate(SETTINGS)
    result = open_kind(settings, practice=gym.practice()).train(prompts(8), local, desk.workplace)
    drawn = {update: [(c.prompt_id, c.index, c.text) for c, _ in rows] for update, rows in gym.memory.items()}
    told = {"processes": dist.get_world_size(), "lines": desk.lines, "drawn": drawn, "facts": result.facts}
    (folder / f"told-{dist.get_rank()}.json").write_text(json.dumps(told))
    dist.destroy_process_group()


def main(model: str, folder: Path, port: str) -> int:
    __import__("dressage.trainers.trl_grpo.trainer")
    children = []
    for rank in ("0", "1"):
        child = os.fork()
        if child == 0:
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
            os.environ.update(place | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port})
            train(model, folder)  # what it raises is printed, and ends the child with status 1
            os._exit(0)
        children.append(child)
    for _ in range(2):
        ended, status = os.wait()
        children.remove(ended)
        if status:
            for child in children:  # it waits for the one that is gone
                os.kill(child, signal.SIGKILL)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
