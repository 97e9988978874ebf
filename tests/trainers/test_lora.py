"""The adapter on a frozen module: on and off, saved and loaded, copied, hashed; gradients witnessed."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from dressage.trainers._lora import LoraSettings
from dressage.trainers._lora.adapter import adapted, adapter_hash, frozen, save, trainable
from dressage.trainers._lora.checks import GradientWitness, finite

LORA = LoraSettings(r=4, alpha=8)
IDS = torch.tensor([[5, 6, 7, 8, 9]])


def moved(model: PeftModel) -> PeftModel:
    torch.manual_seed(3)
    for parameter in trainable(model).values():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return model


def _fails_inside(model: PeftModel) -> None:
    raise KeyError("out")


def weights_hash(module: torch.nn.Module) -> str:
    return hashlib.sha256(b"".join(t.numpy().tobytes() for t in module.state_dict().values())).hexdigest()


def test_saved_adapter_has_equal_logits_in_plain_peft(backbone, tmp_path: Path) -> None:
    unmerged = LORA.model_copy(update={"merge": False})  # peft's own arithmetic, so that every bit must agree
    with adapted(backbone.module, unmerged, seed=1, start=None) as model, torch.no_grad():
        plain = model(IDS).logits
        trained = moved(model)(IDS).logits
        save(model, tmp_path / "a")
    with torch.no_grad():
        assert torch.equal(backbone.module(IDS).logits, plain)
        again = PeftModel.from_pretrained(backbone.module, str(tmp_path / "a"))(IDS).logits
    assert torch.equal(again, trained)
    assert not torch.allclose(again, plain)
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert config["inference_mode"] is True
    assert config["base_model_name_or_path"] == backbone.module.name_or_path
    assert config["target_modules"] == sorted(config["target_modules"])


def test_module_is_left_as_it_was_found(backbone) -> None:
    module = backbone.module
    before = (weights_hash(module), set(vars(module)), [n for n, _ in module.named_modules()])
    with pytest.raises(KeyError, match="out"), adapted(module, LORA, seed=1, start=None) as model:
        _fails_inside(moved(model).train())
    assert (weights_hash(module), set(vars(module)), [n for n, _ in module.named_modules()]) == before
    assert not any(p.requires_grad for p in module.parameters())
    assert not any(part.training for part in module.modules())


def test_a_copy_starts_from_the_same_weights_and_leaves_noise_alone(backbone, tmp_path: Path) -> None:
    with adapted(backbone.module, LORA, seed=1, start=None) as model:
        first = adapter_hash(moved(model))
        save(model, tmp_path / "a")
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    with adapted(backbone.module, LORA, seed=2, start=tmp_path / "a") as model:
        assert adapter_hash(model) == first
        assert len(trainable(model)) == 2 * 2 * 7  # A and B, two layers, seven linear modules each
    assert torch.equal(torch.rand(1), expected)


def test_the_seed_decides_a_new_adapter(backbone) -> None:
    hashes = []
    for seed in (1, 1, 2):
        with adapted(backbone.module, LORA, seed=seed, start=None) as model:
            hashes.append(adapter_hash(model))
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("other", "word"),
    [
        (LoraSettings(r=8, alpha=8), "r = 4"),
        (LoraSettings(r=4, alpha=16), "lora_alpha"),
        (LoraSettings(r=4, alpha=8, targets=("q_proj",)), "targets"),
    ],
)
def test_an_adapter_of_another_shape_is_refused(backbone, tmp_path: Path, other: LoraSettings, word: str) -> None:
    with adapted(backbone.module, LORA, seed=1, start=None) as model:
        save(model, tmp_path / "a")
    with pytest.raises(ValueError, match=word), adapted(backbone.module, other, seed=1, start=tmp_path / "a"):
        pass


def test_an_adapter_on_the_head_is_refused_whatever_it_is_called(backbone) -> None:
    module = backbone.module
    by_another_name = LoraSettings.model_construct(**{**LORA.model_dump(), "targets": ("q_proj", "lm_head")})
    before = list(module.state_dict())
    with (
        pytest.raises(ValueError, match=r"reaches lm_head, the output head of LlamaForCausalLM"),
        adapted(module, by_another_name, seed=1, start=None),
    ):
        pass
    assert list(module.state_dict()) == before


def test_a_frozen_adapter_trains_nothing_and_that_is_an_error(backbone, tmp_path: Path) -> None:
    with adapted(backbone.module, LORA, seed=1, start=None) as model:
        save(moved(model), tmp_path / "a")
    with frozen(backbone.module, tmp_path / "a") as module, pytest.raises(ValueError, match="trainable"):
        GradientWitness(trainable(module))


class Two(torch.nn.Module):
    """One LoRA layer by hand, and a second that the loss may not reach."""

    def __init__(self) -> None:
        super().__init__()
        self.near_lora_A = torch.nn.Parameter(torch.ones(2, 3))
        self.near_lora_B = torch.nn.Parameter(torch.zeros(3, 2))
        self.far_lora_A = torch.nn.Parameter(torch.ones(2, 3))
        self.far_lora_B = torch.nn.Parameter(torch.zeros(3, 2))

    def near(self) -> torch.Tensor:
        return (self.near_lora_B @ self.near_lora_A).sum()

    def far(self) -> torch.Tensor:
        return (self.far_lora_B @ self.far_lora_A).sum()


def test_zero_gradients_of_a_are_fine_while_b_is_zero() -> None:
    model = Two()
    witness = GradientWitness(trainable(model))
    (model.near() + model.far()).backward()
    witness.look(1)
    witness.settle()
    assert witness.count == 24


def test_a_layer_without_gradient_is_named() -> None:
    model = Two()
    witness = GradientWitness(trainable(model))
    model.near().backward()
    witness.look(1)
    with pytest.raises(RuntimeError, match="far_lora_A"):
        witness.settle()


def test_a_zero_gradient_of_a_with_a_moving_b_is_named() -> None:
    model = Two()
    witness = GradientWitness(trainable(model))
    for step in (1, 2):
        (model.near() + model.far()).backward()
        if step == 2:
            model.near_lora_A.grad = torch.zeros(2, 3)
        witness.look(step)
        model.near_lora_B.data.add_(1)
        model.far_lora_B.data.add_(1)
        model.zero_grad()
    with pytest.raises(RuntimeError, match="near_lora_A"):
        witness.settle()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_stops(bad: float) -> None:
    with pytest.raises(FloatingPointError, match="step 3"):
        finite(torch.tensor(bad), step=3, about="prompts x")
    model = Two()
    (model.near() * bad).backward()
    with pytest.raises(FloatingPointError, match="near_lora"):
        GradientWitness(trainable(model)).look(1)
