"""LoRA layers that compute with merged weights: one product where peft takes three, forward and backward.

T tokens · I, O width in and out · R rank.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn

ADAPTERS = frozenset({"default", "reference", "critic", "ref"})
"""Those that trainers put on; `ref` is TRL's. A judge's, on the same backbone, computes as where nobody trains."""
AT_MOST = 2
"""Merged copies a layer keeps: a policy's and a critic's are worn in turn."""


def merge_products(module: nn.Module) -> None:
    """From here on the LoRA layers of `module` compute x (W + s·B A)ᵀ instead of x Wᵀ + s·(x Aᵀ) Bᵀ.

    The sum is made anew where A or B changed: once an optimizer step and not once a pass. It takes a copy of the
    weights in memory, and pays where arithmetic is what one waits for: on a CPU, in fp32 (half precision would round
    the update away), without dropout. Everywhere else a layer computes as peft wrote it.
    """
    layers: Iterator[Any] = module.modules()
    for layer in layers:
        if type(layer) is Linear and type(layer.get_base_layer()) is nn.Linear and "forward" not in vars(layer):
            layer.forward = _Merged(layer)


class _Kept(NamedTuple):
    """A sum, and copies of what it was made of: torch does not count what is written through `.data`."""

    a_RI: Tensor
    b_OR: Tensor
    weight_OI: Tensor


class _Merged:
    """The forward of one layer."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self._kept: dict[str, _Kept] = {}

    def __call__(self, x: Tensor, *args: Any, **named: Any) -> Tensor:
        layer = self._layer
        name = self._worn(x) if not (args or named) else None
        if name is None:
            plain: Tensor = type(layer).forward(layer, x, *args, **named)
            return plain
        a_RI, b_OR = layer.lora_A[name].weight, layer.lora_B[name].weight
        known = _Sum(self._weight(name, a_RI, b_OR), layer.get_base_layer().bias, layer.scaling[name])
        merged: Tensor = _MergedProduct.apply(x, a_RI, b_OR, known)  # type: ignore[no-untyped-call]
        return merged

    def _worn(self, x: Tensor) -> str | None:
        """The one adapter that is worn and can be merged, or null."""
        layer = self._layer
        if layer.disable_adapters or layer.merged or len(layer.active_adapters) != 1:
            return None
        (name,) = layer.active_adapters
        if name not in ADAPTERS or name not in layer.lora_A or name in layer.lora_variant or layer.fan_in_fan_out:
            return None
        dropout, base = layer.lora_dropout[name], layer.get_base_layer()
        if (dropout.training and getattr(dropout, "p", 0)) or layer.lora_B[name].bias is not None:
            return None
        parameters = (base.weight, layer.lora_A[name].weight, layer.lora_B[name].weight)
        whole = all(type(p) is nn.Parameter for p in parameters)  # a shard is of another class
        plain = all(t.device.type == "cpu" and t.dtype == torch.float32 for t in (x, *parameters))
        return name if whole and plain else None

    def _weight(self, name: str, a_RI: Tensor, b_OR: Tensor) -> Tensor:
        kept = self._kept.pop(name, None)
        if kept is None or not (torch.equal(kept.a_RI, a_RI) and torch.equal(kept.b_OR, b_OR)):
            if len(self._kept) >= AT_MOST:
                self._kept.pop(next(iter(self._kept)))
            base_OI = self._layer.get_base_layer().weight
            with torch.inference_mode(False), torch.no_grad():  # what sampling merged is learnt with as well
                weight_OI = torch.addmm(base_OI, b_OR, a_RI, alpha=self._layer.scaling[name])
                kept = _Kept(a_RI.clone(), b_OR.clone(), weight_OI)
        self._kept[name] = kept
        return kept.weight_OI


class _Sum(NamedTuple):
    """What is known of a layer besides what learns."""

    weight_OI: Tensor
    bias_O: Tensor | None
    scale: float


class _MergedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, a_RI: Tensor, b_OR: Tensor, merged: _Sum) -> Tensor:
        ctx.save_for_backward(x, a_RI, b_OR, merged.weight_OI)
        ctx.scale = merged.scale
        return nn.functional.linear(x, merged.weight_OI, merged.bias_O)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, a_RI, b_OR, weight_OI = ctx.saved_tensors
        gradient_TO, x_TI = gradient.reshape(-1, gradient.shape[-1]), x.reshape(-1, x.shape[-1])
        of_x = gradient @ weight_OI if ctx.needs_input_grad[0] else None
        of_a = ctx.scale * ((gradient_TO @ b_OR).T @ x_TI) if ctx.needs_input_grad[1] else None
        of_b = ctx.scale * (gradient_TO.T @ (x_TI @ a_RI.T)) if ctx.needs_input_grad[2] else None
        return of_x, of_a, of_b, None
