"""Parts for tests of reward models: an adapter with a score head, made without training it."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from dressage.protocols import SCORE_HEAD, SCORE_SCALE, ScoreScale
from dressage.trainers._lora import LoraSettings
from dressage.trainers._lora.adapter import adapted, save


def reward_model(model: Path, folder: Path, *, seed: int = 0, deviation: float = 0.5) -> Path:
    """A random reward model of that base in `folder`."""
    module = AutoModelForCausalLM.from_pretrained(model, dtype="float32").requires_grad_(False)
    noise = torch.Generator().manual_seed(seed)
    with adapted(module, LoraSettings(r=2, alpha=4), seed=seed, start=None) as worn:
        for parameter in worn.parameters():
            if parameter.requires_grad:
                parameter.data.normal_(std=0.1, generator=noise)
        save(worn, folder)
    weight_D = torch.randn(module.config.hidden_size, generator=noise) / 8
    save_file({"weight": weight_D, "bias": torch.tensor(0.25)}, folder / SCORE_HEAD)
    (folder / SCORE_SCALE).write_text(ScoreScale(deviation=deviation, replies=10).model_dump_json())
    return folder
