"""What each process of test_on_policy_processes.py runs: one update over recorded replies. MODEL ROWS FOLDER."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from practice_parts import Gym, prompts, share_below
from training_parts import Desk

from dressage.models.local import Settings as LocalSettings
from dressage.models.local.model import open as open_local
from dressage.plugins import open_kind, settings_of
from dressage.records import Candidate, Grade


def main(model: str, rows: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    local = open_local(LocalSettings(path=model, dtype="float32", device="cpu"))
    recorded = json.loads(rows.read_text())
    kept = [(Candidate.model_validate(c), Grade.model_validate(g)) for c, g in recorded["rows"]]
    gym = Gym(local, share_below(0), memory={1: kept})
    settings = settings_of("trainers", recorded["settings"]["kind"]).model_validate(recorded["settings"])
    desk = Desk(folder)
    open_kind(settings, practice=gym.practice()).train(prompts(8), local, desk.workplace)
    if not dist.is_initialized() or dist.get_rank() == 0:
        size = dist.get_world_size() if dist.is_initialized() else 1
        (folder / "told.json").write_text(json.dumps({"processes": size, "drawn": gym.drawn, "lines": desk.lines}))
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
