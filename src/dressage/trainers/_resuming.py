"""The whole state of a transformers training in plain files, from which it goes on as if it had never stopped.

    trained.safetensors      what the optimizer moves, by name
    optimizer.safetensors    its moments
    noise.safetensors        torch's random states
    memory.json              the optimizer's groups, the schedule, other random states, the trainer's own tallies
    trainer_state.json       transformers' own: step, epoch and all that was logged

Nothing is pickled. transformers knows when each part must be read back (weights before the optimizer is made,
random states after the skipped batches), so `Resumes` stands in for the three methods that read its own files.
"""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dressage.trainers._lora.adapter import trainable
from dressage.trainers._lora.checks import GradientWitness
from dressage.trainers._whole import spread_like, whole

TRAINED, OPTIMIZER, NOISE = "trained.safetensors", "optimizer.safetensors", "noise.safetensors"
MEMORY, STATE = "memory.json", "trainer_state.json"


class Gathered(NamedTuple):
    """What may be spread over processes, made whole."""

    parameters: dict[str, Tensor]
    moments: dict[str, Tensor]
    plain: dict[str, Any]
    """The optimizer's groups."""


class Resumes:
    """Stands before a transformers Trainer: `train(resume_from_checkpoint=folder)` then reads what `keep` wrote."""

    model: Any
    optimizer: Any
    lr_scheduler: Any
    state: Any
    witness: GradientWitness

    @property
    def steps(self) -> list[dict[str, float]]:
        """What each optimizer step has logged, those before a crash included."""
        return [row for row in self.state.log_history if "loss" in row]

    def memory(self) -> dict[str, Any]:
        """What the trainer itself must not forget, as plain JSON."""
        return {}

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Takes back what `memory` gave."""

    def keep(self, folder: Path) -> None:
        """Writes everything, as it is between two optimizer steps."""
        self.write(self.gathered(), folder)

    def gathered(self) -> Gathered:
        """What the optimizer moves and its moments, whole: where they are spread over processes, all come here."""
        moments, plain = _apart(self.optimizer.state_dict())
        parameters = {name: whole(p.detach()).cpu().contiguous() for name, p in trainable(self.model).items()}
        return Gathered(parameters, moments, plain)

    def write(self, now: Gathered, folder: Path) -> None:
        """All that was gathered, with what one process knows by itself."""
        save_file(now.parameters, folder / TRAINED)
        save_file(now.moments, folder / OPTIMIZER)
        save_file(_torch_noise(), folder / NOISE)
        memory = {
            "optimizer": now.plain,
            "schedule": self.lr_scheduler.state_dict(),
            "noise": _other_noise(),
            "witness": self.witness.memory(),
            "trainer": self.memory(),
        }
        (folder / MEMORY).write_text(json.dumps(memory), encoding="utf-8")
        self.state.save_to_json(str(folder / STATE))

    def _load_from_checkpoint(self, folder: str, model: Any = None) -> None:
        kept, memory = load_file(Path(folder) / TRAINED), _memory(folder)
        for name, parameter in trainable(self.model).items():
            parameter.data.copy_(spread_like(kept[name], parameter))
        self.witness.recall(memory["witness"])
        self.recall(memory["trainer"])

    def _load_optimizer_and_scheduler(self, folder: str | None) -> None:
        if folder is not None:
            memory = _memory(folder)
            moved = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
            kept = _together(load_file(Path(folder) / OPTIMIZER), memory["optimizer"], moved)
            self.optimizer.load_state_dict(kept)
            self.lr_scheduler.load_state_dict(memory["schedule"])

    def _load_rng_state(self, folder: str | None) -> None:
        if folder is not None:
            _restore_noise(load_file(Path(folder) / NOISE), _memory(folder)["noise"])


def _memory(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(folder) / MEMORY).read_text("utf-8"))
    return found


def _apart(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's state dict as tensors named `parameter.moment`, and the rest."""
    tensors = {
        f"{parameter}.{moment}": whole(value.detach()).cpu().contiguous()
        for parameter, moments in state["state"].items()
        for moment, value in moments.items()
    }
    return tensors, {name: value for name, value in state.items() if name != "state"}


def _together(tensors: Mapping[str, Tensor], plain: Mapping[str, Any], moved: Sequence[Any]) -> dict[str, Any]:
    """`moved`: the parameters in the optimizer's own order; a moment is spread over processes as its parameter is."""
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in sorted(tensors.items()):
        parameter, _, moment = name.partition(".")
        moments.setdefault(int(parameter), {})[moment] = spread_like(tensor, moved[int(parameter)])
    return {**plain, "state": moments}


def _torch_noise() -> dict[str, Tensor]:
    found = {"cpu": torch.random.get_rng_state()}
    if torch.cuda.is_available():
        found |= {f"cuda:{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return found


def _other_noise() -> dict[str, Any]:
    name, words, *rest = np.random.get_state(legacy=True)
    return {"python": random.getstate(), "numpy": [name, np.asarray(words).tolist(), *rest]}


def _restore_noise(torch_noise: Mapping[str, Tensor], other: Mapping[str, Any]) -> None:
    for device, state in torch_noise.items():
        if device == "cpu":
            torch.random.set_rng_state(state)
        else:
            torch.cuda.set_rng_state(state, device)
    version, words, gauss = other["python"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(tuple(other["numpy"]))
