"""A child of test_on_policy_processes.py: trainings over recorded replies, in one process and in two. MODEL FOLDER."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from forking import launch
from practice_parts import Gym, prompts, share_below
from training_parts import Desk

from dressage.models.local import Settings as LocalSettings
from dressage.models.local.model import open as open_local
from dressage.plugins import open_kind, settings_of
from dressage.records import Candidate, Grade


def train(model: str, folder: Path) -> None:
    """One update of each of the recorded settings; what it said lies beside its checkpoints."""
    torch.set_num_threads(1)
    local = open_local(LocalSettings(path=model, dtype="float32", device="cpu"))
    recorded = json.loads((folder.parent / "recorded.json").read_text())
    kept = [(Candidate.model_validate(c), Grade.model_validate(g)) for c, g in recorded["rows"]]
    told = []
    for number, plain in enumerate(recorded["settings"]):
        gym = Gym(local, share_below(0), memory={1: kept})
        settings = settings_of("trainers", plain["kind"]).model_validate(plain)
        desk = Desk(folder / str(number))
        open_kind(settings, practice=gym.practice()).train(prompts(8), local, desk.workplace)
        told.append({"drawn": gym.drawn, "lines": desk.lines})
    rank, size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    (folder / f"told-{rank}.json").write_text(json.dumps({"processes": size, "told": told}))


def main(model: str, folder: Path) -> int:
    for module in ("ppo.trainer", "grpo.trainer"):
        __import__(f"dressage.trainers.{module}")
    for size in (1, 2):
        (folder / str(size)).mkdir()
        if launch(lambda size=size: train(model, folder / str(size)), size):
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
