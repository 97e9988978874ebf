"""A LoRA adapter on a frozen module: put on for the length of a `with`, started from another, saved, hashed."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dressage.trainers._lora import LoraSettings
from dressage.trainers._lora.merged import merge_products
from dressage.trainers._whole import whole

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


@contextmanager
def adapted(module: Any, lora: LoraSettings, *, seed: int, start: Path | None) -> Iterator[PeftModel]:
    """`module` with a trainable adapter: new (B = 0, so the policy is the base), or a copy of the one at `start`.

    Afterwards the module is as it was found: no LoRA layers, no attributes of others, same flags.

    Raises:
        ValueError: the adapter at `start` has another rank, scale or targets than `lora`, or none match; or `lora`
            reaches the output head.
    """
    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
    )
    with _as_found(module), _own_noise(module, seed):
        model = get_peft_model(module, config)
        # A judge's adapter that hangs in the module already is switched off, and switches its whole layer off.
        model.base_model.enable_adapter_layers()
        model.set_adapter("default")
        try:
            _no_adapter_on_the_head(module)
            if start is not None:
                _copy_into(model, start, lora)
            if lora.merge:
                merge_products(model)
            yield model
        finally:
            model.unload()


def _no_adapter_on_the_head(module: Any) -> None:
    """Whatever a model calls it (the names we know are refused when the YAML is read)."""
    head = module.get_output_embeddings()
    if isinstance(head, BaseTunerLayer):
        named = next(name for name, part in module.named_modules() if part is head)
        raise ValueError(
            f"lora.targets reaches {named}, the output head of {type(module).__name__}: log-probabilities are taken "
            "from its own weights, so an adapter on it would never be trained; name the other layers"
        )


@contextmanager
def frozen(module: Any, adapter: Path | None) -> Iterator[Any]:
    """`module` as the reference: plain, or under the adapter at that path, nothing trainable."""
    if adapter is None:
        yield module
        return
    with _as_found(module):
        model = PeftModel.from_pretrained(module, str(adapter), is_trainable=False)
        try:
            yield module
        finally:
            model.unload()


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that an optimizer may move, by name.

    Raises:
        ValueError: there are none, so a run would succeed and train nothing.
    """
    found = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not found:
        raise ValueError(
            "no parameter of the policy is trainable, so training would change nothing; "
            "the adapter was loaded frozen, or `lora.targets` names no layer of this model"
        )
    return found


def adapter_hash(model: PeftModel) -> str:
    """sha256 over names, types, shapes and bytes of the adapter's tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(_tensors(model).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save(model: PeftModel, folder: Path, *, writes: bool = True) -> Path:
    """Writes the adapter as plain peft reads it: two files, no model card, the same bytes for the same weights.

    Where FSDP has spread it over processes, all of them must come here, and one of them `writes`.
    """
    tensors = {name: tensor.contiguous() for name, tensor in sorted(_tensors(model).items())}
    if not writes:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config = model.peft_config["default"]
    words = {name: sorted(v) if isinstance(v, set) else v for name, v in config.to_dict().items()}
    words["inference_mode"] = True
    (folder / CONFIG).write_text(json.dumps(words, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return folder


def _tensors(model: PeftModel) -> dict[str, Tensor]:
    state = get_peft_model_state_dict(model, adapter_name="default", save_embedding_layers=False)
    return {name: whole(tensor.detach()).cpu() for name, tensor in state.items()}


def _copy_into(model: PeftModel, start: Path, lora: LoraSettings) -> None:
    config = json.loads((start / CONFIG).read_text(encoding="utf-8"))
    wanted = {"r": lora.r, "lora_alpha": lora.alpha, "use_dora": False, "use_rslora": False, "bias": "none"}
    for name, value in wanted.items():
        if name in config and config[name] != value:
            raise ValueError(
                f"the adapter to start from, {start}, has {name} = {config[name]!r}, the trainer's `lora` asks for "
                f"{value!r}; set `lora` as that adapter was trained, or start from the plain base"
            )
    tensors, own = load_file(start / WEIGHTS), _tensors(model)
    shapes = {name: tuple(t.shape) for name, t in tensors.items()}
    if differ := sorted(set(shapes.items()) ^ {(name, tuple(t.shape)) for name, t in own.items()}):
        raise ValueError(
            f"the adapter to start from, {start}, does not cover the same layers as the trainer's `lora.targets`: "
            f"{len(differ)} tensors differ, the first is {differ[0][0]} {differ[0][1]}; "
            "set `lora.targets` as that adapter was trained, or start from the plain base"
        )
    set_peft_model_state_dict(model, tensors)


@contextmanager
def _own_noise(module: Any, seed: int) -> Iterator[None]:
    """Seeds torch for the block (LoRA's A is drawn in it, dropout uses it) and puts the old state back."""
    devices = [module.device] if module.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def _as_found(module: Any) -> Iterator[None]:
    """Puts flags back and removes what peft and trainers hang onto the module itself."""
    had, use_cache = set(vars(module)), module.config.use_cache
    training = {part: part.training for part in module.modules()}
    requires = {p: p.requires_grad for p in module.parameters()}
    try:
        yield
    finally:
        for name in set(vars(module)) - had:
            delattr(module, name)
        for part, flag in training.items():
            part.training = flag
        for parameter, flag in requires.items():
            parameter.requires_grad_(flag)
        module.config.use_cache = use_cache
