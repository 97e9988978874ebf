"""All that an on-policy training needs to go on: adapters, critic, optimizers, KL coefficient, alarms, witnesses.

No random state: every draw and every order is a function of named seeds, and dropout is off.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dressage.maths.kl import AdaptiveKL, FixedKL
from dressage.trainers._on_policy.alarms import Alarms
from dressage.trainers._on_policy.learner import Learner

TENSORS, WORDS = "state.safetensors", "state.json"


@dataclass
class Standing:
    """What changes from update to update, besides the weights."""

    update: int
    """Updates behind us."""
    kl: FixedKL | AdaptiveKL
    alarms: Alarms
    layout: str | None = None
    ends: list[dict[str, float]] | None = None
    """What each update said, for the facts at the end."""


def write(folder: Path, learner: Learner, standing: Standing) -> None:
    """Puts the whole state into an empty folder."""
    tensors: dict[str, Tensor] = {f"policy/{name}": p for name, p in learner.policy.items()}
    tensors |= _moments("policy", learner.optimizer)
    if learner.critic is not None and learner.critic_optimizer is not None:
        tensors |= {f"critic/{name}": p for name, p in learner.critic.named.items()}
        tensors |= _moments("critic", learner.critic_optimizer)
    save_file({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, folder / TENSORS)
    words = {
        "update": standing.update,
        "coefficient": standing.kl.coefficient,
        "layout": standing.layout,
        "ends": standing.ends,
        "alarms": {
            "ringing": standing.alarms.ringing,
            "watched": standing.alarms.watched,
            "scores": standing.alarms.scores,
        },
        "witnesses": [w.memory() for w in learner.witnesses()],
    }
    (folder / WORDS).write_text(json.dumps(words) + "\n", encoding="utf-8")


@torch.no_grad()
def read(folder: Path, learner: Learner, standing: Standing) -> Standing:
    """Brings the learner to the state in a folder; returns where the training stands."""
    tensors = load_file(folder / TENSORS)
    for name, parameter in learner.policy.items():
        parameter.copy_(tensors[f"policy/{name}"])
    _recall("policy", learner.optimizer, tensors)
    if learner.critic is not None and learner.critic_optimizer is not None:
        for name, parameter in learner.critic.named.items():
            parameter.copy_(tensors[f"critic/{name}"])
        _recall("critic", learner.critic_optimizer, tensors)
    words = json.loads((folder / WORDS).read_text(encoding="utf-8"))
    for witness, memory in zip(learner.witnesses(), words["witnesses"], strict=True):
        witness.recall(memory)
    kl = standing.kl
    if isinstance(kl, AdaptiveKL):
        kl = AdaptiveKL(words["coefficient"], kl.target, kl.horizon)
    rung = words["alarms"]
    watched = [(prefers, mean) for prefers, mean in rung["watched"]]
    alarms = replace(standing.alarms, ringing=rung["ringing"], watched=watched, scores=rung["scores"])
    return Standing(words["update"], kl, alarms, words["layout"], words["ends"])


def _moments(whose: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's moments and step counts, by the parameter's number."""
    return {
        f"{whose}-optimizer/{number}/{name}": value
        for number, kept in optimizer.state_dict()["state"].items()
        for name, value in kept.items()
    }


def _recall(whose: str, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    kept: dict[int, dict[str, Any]] = {}
    for path, tensor in tensors.items():
        owner, _, rest = path.partition("/")
        if owner == f"{whose}-optimizer":
            number, _, name = rest.partition("/")
            kept.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({"state": kept, "param_groups": optimizer.state_dict()["param_groups"]})
