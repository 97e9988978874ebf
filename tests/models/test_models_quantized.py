"""A base in 4 bits against the same weights written out in full: draws, scores, gradients; and what is refused."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from pydantic import ValidationError
from transformers import AutoModelForCausalLM

from dressage import tokens
from dressage.extras import installed
from dressage.models.local import Settings
from dressage.models.local.model import LocalModel
from dressage.models.local.model import open as open_local
from dressage.protocols import Sampling
from dressage.records import Message

needs_bitsandbytes = pytest.mark.skipif(not installed("bitsandbytes"), reason="the extra qlora is not installed")
ASKED = (Message(role="user", content="Where is my parcel?"),)
REPLY = [5, 9, 11, 30, 7]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def opened(folder: Path, **settings: Any) -> LocalModel:
    return open_local(Settings.model_validate({"path": str(folder), "dtype": "float32", "device": "cpu"} | settings))


def written_out(folder: Path) -> Any:
    """The quantised weights as plain linear layers in float32: a reference without a kernel of bitsandbytes."""
    module = opened(folder, quantize="4bit")._backbone.module
    found = module.dequantize().float().eval()
    assert not any("bitsandbytes" in type(part).__module__ for part in found.modules())
    return found


def ids_of(model: LocalModel) -> torch.Tensor:
    return torch.tensor([[*tokens.prompt_ids(model.tokenizer, ASKED), *REPLY]])


# ---------------------------------------------------------------- what it computes


@needs_bitsandbytes
def test_its_layers_take_a_fraction_of_the_room(tiny_model) -> None:
    whole, kept = opened(tiny_model), opened(tiny_model, quantize="4bit")
    assert kept.facts["weights"] == "4 bits"
    assert "weights" not in whole.facts
    layers = [m for m in kept.module.modules() if type(m).__name__ == "Linear4bit"]
    assert len(layers) == 14
    sizes = [
        sum(p.numel() * p.element_size() for n, p in m.module.named_parameters() if "_proj" in n) for m in (whole, kept)
    ]
    assert sizes[1] < 0.15 * sizes[0]
    head, embeddings = kept.module.get_output_embeddings(), kept.module.get_input_embeddings()
    assert head.weight.dtype == embeddings.weight.dtype == torch.float32  # log-probabilities are read from these


@needs_bitsandbytes
def test_in_4_bits_it_scores_as_the_same_weights_written_out(tiny_model) -> None:
    model, plain = opened(tiny_model, quantize="4bit"), written_out(tiny_model)
    (found,) = model.logprobs([ASKED], [REPLY])
    with torch.no_grad():
        logit_TV = plain(ids_of(model)).logits[0, -len(REPLY) - 1 : -1]
    wanted = logit_TV.log_softmax(-1).gather(1, torch.tensor(REPLY)[:, None])[:, 0].tolist()
    assert found == pytest.approx(wanted, abs=1e-4)
    (unquantised,) = opened(tiny_model).logprobs([ASKED], [REPLY])
    assert max(abs(a - b) for a, b in zip(found, unquantised, strict=True)) > 0.01  # it is not the same model


@needs_bitsandbytes
def test_after_sampling_gradients_reach_every_layer(tiny_model) -> None:
    """On some CPUs a 4-bit layer that has sampled would have no backward any more, without an error."""
    model = opened(tiny_model, quantize="4bit")
    model.complete([ASKED], sampling=Sampling(max_new_tokens=4), seeds=[1], done=lambda i, a: None)
    found, wanted = (gradients(module, ids_of(model)) for module in (model.module, written_out(tiny_model)))
    assert found.keys() == wanted.keys()
    assert len(found) == 28
    for name, gradient in wanted.items():
        assert gradient.norm() > 0
        assert (found[name] - gradient).norm() <= 1e-4 * gradient.norm(), name


def gradients(module: Any, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of one adapter, drawn by seed, under a loss that every position has a part in; the module stays in eval mode, as
    trainers keep it."""
    torch.manual_seed(5)
    worn = get_peft_model(module, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear")).eval()
    for name, parameter in worn.named_parameters():
        if "lora_" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape)
    logit_TV = worn(ids).logits[0, :-1].float()
    logit_TV.log_softmax(-1).gather(1, ids[0, 1:, None]).mean().backward()
    return {name: p.grad for name, p in worn.named_parameters() if p.requires_grad and p.grad is not None}


@needs_bitsandbytes
def test_an_adapter_gives_what_plain_peft_gives(tiny_model, tmp_path) -> None:
    from transformers import BitsAndBytesConfig

    torch.manual_seed(3)
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    get_peft_model(
        base, LoraConfig(r=4, lora_alpha=64, target_modules="all-linear", init_lora_weights=False)
    ).save_pretrained(tmp_path)
    chosen = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    plain = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32, quantization_config=chosen)
    peft = PeftModel.from_pretrained(plain, tmp_path).train()  # in training mode no layer repacks its weights
    model = opened(tiny_model, quantize="4bit")
    (found,) = model.wearing(tmp_path).logprobs([ASKED], [REPLY])
    (bare,) = model.logprobs([ASKED], [REPLY])
    with torch.no_grad():
        logit_TV = peft(ids_of(model)).logits[0, -len(REPLY) - 1 : -1]
    wanted = logit_TV.log_softmax(-1).gather(1, torch.tensor(REPLY)[:, None])[:, 0].tolist()
    assert found == pytest.approx(wanted, abs=1e-4)
    assert max(abs(a - b) for a, b in zip(found, bare, strict=True)) > 0.01


# ---------------------------------------------------------------- what makes it another model, and what is refused


def test_it_is_part_of_the_content_and_the_plain_model_keeps_its_name(tiny_model) -> None:
    plain, four = Settings(path=str(tiny_model)), Settings(path=str(tiny_model), quantize="4bit")
    contents = [json.dumps(s.content(), sort_keys=True) for s in (plain, four)]
    assert contents[0] != contents[1]
    assert "quantize" not in contents[0]  # labels of before there was the setting stay valid
    assert plain.identity() == four.identity()  # as a judge it is no independent one


def test_other_widths_are_refused_where_the_yaml_is_read(tiny_model) -> None:
    with pytest.raises(ValidationError, match="4bit"):
        Settings.model_validate({"path": str(tiny_model), "quantize": "8bit"})


@pytest.mark.skipif(installed("bitsandbytes"), reason="it is installed")
def test_a_missing_package_is_named_with_its_extra(tiny_model) -> None:
    for use in (Settings.usable, open_local):
        with pytest.raises(ValueError, match=r"quantize: 4bit needs the package bitsandbytes.*'dressage\[qlora\]'"):
            use(Settings(path=str(tiny_model), quantize="4bit"))


@needs_bitsandbytes
def test_weights_that_are_quantised_already_are_not_quantised_again(tiny_model, tmp_path) -> None:
    kept = opened(tiny_model, quantize="4bit")
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    (copy / "model.safetensors").unlink()
    kept._backbone.module.save_pretrained(copy)
    with pytest.raises(ValueError, match="quantised already"):
        opened(copy, quantize="4bit")
    again = opened(copy)
    assert again.logprobs([ASKED], [REPLY]) == kept.logprobs([ASKED], [REPLY])


@needs_bitsandbytes
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"load_in_4bit": True, "llm_int8_skip_modules": ["nothing"]}, "output head"),
        ({"load_in_8bit": True}, "kept in 8 bits"),
    ],
)
def test_weights_that_no_log_probability_can_be_had_from_are_refused(tiny_model, tmp_path, how, words: str) -> None:
    from transformers import BitsAndBytesConfig

    made = AutoModelForCausalLM.from_pretrained(tiny_model, quantization_config=BitsAndBytesConfig(**how))
    made.save_pretrained(tmp_path)
    for file in tiny_model.glob("*token*"):
        shutil.copy(file, tmp_path)
    with pytest.raises(ValueError, match=words):
        opened(tmp_path)


@needs_bitsandbytes
def test_a_device_it_cannot_use_is_said_before_the_weights_are_read(tiny_model) -> None:
    from dressage.models.local import quantized

    config = AutoModelForCausalLM.from_pretrained(tiny_model).config
    with pytest.raises(ValueError, match=r"does not work on device meta.*python -m bitsandbytes"):
        quantized.keywords(
            Settings(path=str(tiny_model), quantize="4bit"),
            config=config,
            device=torch.device("meta"),
            dtype=torch.float32,
        )
