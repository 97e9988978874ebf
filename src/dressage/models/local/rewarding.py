"""The score head of a reward model: a linear reading of the last hidden state, in fp32. D hidden width."""

from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor

from dressage.protocols import SCORE_HEAD, SCORE_SCALE, ScoreScale


@dataclass(frozen=True)
class Head:
    """r = w · h + b, of mean 0 over the replies it was trained on."""

    weight_D: Tensor
    bias: Tensor
    scale: ScoreScale

    def score(self, hidden_D: Tensor) -> float:
        return float(hidden_D @ self.weight_D + self.bias)


def head_of(adapter: Path, *, width: int, device: torch.device) -> Head:
    """The head that lies beside an adapter.

    Raises:
        ValueError: the folder has none, or one for a model of another width.
    """
    for name in (SCORE_HEAD, SCORE_SCALE):
        if not (adapter / name).is_file():
            raise ValueError(
                f"adapter folder {adapter} has no {name}, so it is no reward model; give the adapter folder that "
                "a run with `trainer: {kind: reward}` has left"
            )
    kept = load_file(adapter / SCORE_HEAD)
    weight_D = kept["weight"].to(device, torch.float32)
    if weight_D.shape != (width,):
        raise ValueError(
            f"the reward model in {adapter} reads hidden states of width {tuple(weight_D.shape)}, this model has "
            f"{width}; name the model that it was trained on"
        )
    try:
        scale = ScoreScale.model_validate_json((adapter / SCORE_SCALE).read_bytes())
    except ValidationError as error:
        raise ValueError(f"{adapter / SCORE_SCALE} is damaged: {error}; train the reward model again") from error
    return Head(weight_D, kept["bias"].to(device, torch.float32), scale)
