"""What must be true of every step of a training: finite numbers, and gradients that reach the whole adapter."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from dressage.trainers._whole import whole


def finite(loss: Tensor, *, step: int, about: str) -> Tensor:
    """The loss, if it is a number.

    Raises:
        FloatingPointError: NaN or infinite; raised before its gradient can touch a weight.
    """
    if not torch.isfinite(loss).all():
        raise FloatingPointError(
            f"the loss of step {step} is {loss.item()}, on {about}; training stopped before this step changed "
            "anything: lower `learning_rate`, or look at these rows and at the model's dtype"
        )
    return loss


class GradientWitness:
    """Looks at the gradients before each optimizer step, and says at the end who never got one.

    With LoRA's B = 0 the gradient of A is exactly zero, so a zero counts against an A only where its own B
    was non-zero and did receive a gradient in the same step; a B must have received a non-zero one in some step.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self._parameters = dict(parameters)
        self._missing = set(self._parameters)
        self._zero = set(self._parameters)
        self._owed: set[str] = set()

    def watch(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Looks at these from now on, under the same names: FSDP puts new parameters in the place of old ones."""
        self._parameters = dict(parameters)

    @property
    def count(self) -> int:
        """Trainable numbers."""
        return sum(p.numel() for p in self._parameters.values())

    def look(self, step: int) -> None:
        """Before the optimizer's step.

        Raises:
            FloatingPointError: a gradient is not finite.
        """
        here = {name: p.grad for name, p in self._parameters.items() if p.grad is not None}
        self._missing -= set(here)
        if not here:
            return
        norms = whole(torch.stack(torch._foreach_norm(list(here.values())))).tolist()
        by_name = dict(zip(here, norms, strict=True))
        if broken := [name for name, norm in by_name.items() if not norm < float("inf")]:
            raise FloatingPointError(
                f"the gradient of step {step} is not finite in {len(broken)} tensors, the first is {broken[0]}; "
                "training stopped before this step changed anything: lower `learning_rate`, or look at the "
                "model's dtype"
            )
        moving = {name for name, norm in by_name.items() if norm > 0}
        self._zero -= moving
        for name in sorted(self._zero - self._owed):  # in one order in every process: it may take all of them to tell
            partner = name.replace("lora_A", "lora_B")
            if partner != name and partner in moving and bool(whole(self._parameters[partner]).any()):
                self._owed.add(name)

    def memory(self) -> dict[str, list[str]]:
        """What it has not seen yet, as plain JSON, for a checkpoint."""
        return {"missing": sorted(self._missing), "zero": sorted(self._zero), "owed": sorted(self._owed)}

    def recall(self, memory: Mapping[str, Sequence[str]]) -> None:
        """Goes on from what an earlier process had not seen."""
        self._missing, self._zero, self._owed = (set(memory[name]) for name in ("missing", "zero", "owed"))

    def settle(self) -> None:
        """After the last step.

        Raises:
            RuntimeError: a trainable tensor never received a gradient, or only zeros where it should not.
        """
        silent = self._missing | {name for name in self._zero if "lora_A" not in name or name in self._owed}
        if silent:
            raise RuntimeError(
                f"{len(silent)} of {len(self._parameters)} trainable tensors never received a gradient, the first "
                f"is {min(silent)}; an adapter was switched between forward and backward, or `lora.targets` names "
                "layers that the loss does not reach"
            )
