"""Merged weights compute what peft computes: values, gradients, roles, and what they must leave alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import pytest
import torch
from peft.tuners.lora import Linear
from torch import Tensor

from dressage.trainers._lora import LoraSettings
from dressage.trainers._lora.adapter import adapted, trainable
from dressage.trainers._lora.merged import _Merged

LORA = LoraSettings(r=4, alpha=8)
IDS = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 6, 5]])


@contextmanager
def worn(module: Any, lora: LoraSettings = LORA) -> Iterator[Any]:
    """The module under an adapter that says something."""
    with adapted(module, lora, seed=1, start=None) as model:
        torch.manual_seed(3)
        with torch.no_grad():
            for parameter in trainable(model).values():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        yield model


def as_peft(model: Any) -> None:
    """Puts peft's own forward back."""
    for layer in layers(model):
        layer.forward = MethodType(Linear.forward, layer)


def layers(model: Any) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, Linear)]


def passed(model: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits, and the gradient of a sum of their squares."""
    model.zero_grad()
    logits = model(input_ids=IDS).logits
    logits.square().sum().backward()
    return logits.detach(), {name: p.grad.clone() for name, p in trainable(model).items()}


def test_values_and_gradients_are_those_of_peft(backbone) -> None:
    with worn(backbone.module) as model:
        assert all(isinstance(layer.forward, _Merged) for layer in layers(model))
        logits, gradients = passed(model)
        as_peft(model)
        theirs, their_gradients = passed(model)
    assert torch.allclose(logits, theirs, atol=1e-5)
    for name, gradient in their_gradients.items():
        assert torch.allclose(gradients[name], gradient, atol=1e-5 * float(gradient.abs().max())), name


def test_a_changed_adapter_is_merged_anew_however_it_was_changed(backbone) -> None:
    with worn(backbone.module) as model, torch.no_grad():
        for change in (torch.Tensor.add_, lambda p, by: p.data.add_(by)):
            before = model(input_ids=IDS).logits
            for parameter in trainable(model).values():
                change(parameter, 0.01)
            after = model(input_ids=IDS).logits
            ours = [layer.forward for layer in layers(model)]
            as_peft(model)
            theirs = model(input_ids=IDS).logits
            for layer, forward in zip(layers(model), ours, strict=True):
                layer.forward = forward
            assert torch.allclose(after, theirs, atol=1e-5)
            assert not torch.allclose(after, before, atol=1e-3)


def test_what_was_merged_while_sampling_is_learnt_with(backbone) -> None:
    with worn(backbone.module) as model:
        with torch.inference_mode():
            drawn = model(input_ids=IDS).logits.clone()
        logits, gradients = passed(model)
    assert torch.equal(drawn, logits)
    assert all(g.abs().max() > 0 for g in gradients.values())


def test_off_or_under_another_adapter_the_layer_says_what_that_one_says(backbone) -> None:
    module = backbone.module
    with torch.no_grad():
        bare = module(input_ids=IDS).logits
    with worn(module) as model, torch.no_grad():
        first = model(input_ids=IDS).logits
        model.add_adapter("critic", model.peft_config["default"])
        model.set_adapter("critic")  # its B is 0: the base
        assert torch.equal(model(input_ids=IDS).logits, bare)
        model.set_adapter("default")
        assert torch.equal(model(input_ids=IDS).logits, first)
        with model.disable_adapter():
            assert torch.equal(model(input_ids=IDS).logits, bare)


@pytest.mark.parametrize("lora", [LORA.model_copy(update={"dropout": 0.5}), LORA.model_copy(update={"merge": False})])
def test_where_it_cannot_or_shall_not_peft_computes(backbone, lora: LoraSettings, monkeypatch) -> None:
    def refuse(*given: object) -> Tensor:
        raise AssertionError("merged")

    with worn(backbone.module, lora) as model:
        monkeypatch.setattr("dressage.trainers._lora.merged._MergedProduct.apply", refuse)
        model.train()
        passed(model)


def test_half_precision_is_left_to_peft(backbone, monkeypatch) -> None:
    def refuse(*given: object) -> Tensor:
        raise AssertionError("merged")

    layer = torch.nn.Linear(8, 8).bfloat16()
    module = torch.nn.ModuleDict({"one": layer})
    from peft import LoraConfig, inject_adapter_in_model

    from dressage.trainers._lora.merged import merge_products

    model: Any = inject_adapter_in_model(LoraConfig(r=2, target_modules=["one"]), module)
    merge_products(model)
    monkeypatch.setattr("dressage.trainers._lora.merged._MergedProduct.apply", refuse)
    assert isinstance(model["one"].forward, _Merged)
    assert model["one"](torch.ones(1, 8, dtype=torch.bfloat16)).shape == (1, 8)
