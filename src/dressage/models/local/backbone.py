"""One frozen transformers module that many roles share; who wears which adapter is a context manager."""

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any, Literal

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from dressage.models.local import Settings, precision, quantized, weights
from dressage.models.local.prefix import Limits
from dressage.records import content_hash

Worn = Path | Literal["as is"] | None
"""An adapter folder, whatever is active in the module right now, or no adapter."""


class Backbone:
    """The module, its tokenizer, the frozen adapters loaded into it, and the lock that every use takes."""

    def __init__(self, settings: Settings) -> None:
        source = settings.resolve()
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        named: dict[str, Any] = {"trust_remote_code": settings.trust_remote_code, "revision": source.commit}
        config = AutoConfig.from_pretrained(source.load_from, **named)
        _check_attention(config, source.name)
        self.device = precision.choose_device(settings.device)
        self.dtype = precision.choose_dtype(settings.dtype, self.device, config)
        self.tokenizer = AutoTokenizer.from_pretrained(source.load_from, **named)
        self.tokenizer_lock = RLock()
        loaded = AutoModelForCausalLM.from_pretrained(
            source.load_from,
            config=config,
            dtype=self.dtype,
            use_safetensors=True,
            attn_implementation="sdpa",
            **quantized.keywords(settings, config=config, device=self.device, dtype=self.dtype),
            **named,
        )
        self.module: Any = quantized.settled(loaded, source.name).requires_grad_(False).eval().to(self.device)
        self.lock = RLock()
        self._peft: Any = None
        self._names: dict[Path, str] = {}

    def limits(self) -> Limits:
        """Bounds on one pass, by the device and what a token's keys and values take."""
        text = self.module.config.get_text_config()
        heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        column = 2 * text.num_hidden_layers * heads * size * self.dtype.itemsize
        small = self.device.type == "cpu"
        memory = 2**29 if small else 2**32
        return Limits(
            tokens=2048 if small else 16384,
            columns=max(1024, memory // column),
            logits=2**25 if small else 2**28,
        )

    def context(self) -> int | None:
        """The longest text in tokens; null where the config does not say."""
        longest: int | None = getattr(self.module.config.get_text_config(), "max_position_embeddings", None)
        return longest

    def pristine(self) -> Any:
        """The module without a trace of the adapters loaded here (those of a trainer stay)."""
        with self.lock:
            ours = set(self._names.values())
            if self._peft is not None and all(_adapters(layer) <= ours for layer in _layers(self.module)):
                self._peft.unload()
                self._peft, self._names = None, {}
                vars(self.module).pop("peft_config", None)  # which peft leaves, and would add the next adapter to
            return self.module

    @contextmanager
    def role(self, worn: Worn) -> Iterator[Any]:
        """The module for inference, wearing `worn` for as long as the context lasts; alone in it.

        What was active before, and what could be trained, is as it was afterwards.

        Raises:
            RuntimeError: a training has spread the module over several processes, and only this one is here.
        """
        with self.lock:
            if getattr(self.module, "_is_fsdp_managed_module", False):
                raise RuntimeError(
                    f"{type(self.module).__name__} is in training, and spread over several processes by FSDP: it can "
                    "neither judge nor be an opponent meanwhile. Take a judge on another model, or start without FSDP"
                )
            training = [(part, part.training) for part in self.module.modules()]
            before = [(layer, list(layer.active_adapters), layer.disable_adapters) for layer in _layers(self.module)]
            trainable = [p for p in self.module.parameters() if p.requires_grad]
            try:
                self._dress(worn)
                self.module.eval()
                with torch.inference_mode():
                    yield self.module
            finally:
                for part, flag in training:
                    part.training = flag
                if worn != "as is":
                    _restore(self.module, before, trainable)

    def _dress(self, worn: Worn) -> None:
        if worn == "as is":
            return
        name = self._loaded(worn) if worn else None
        for layer in _layers(self.module):
            if name is not None and name in _adapters(layer):
                layer.enable_adapters(True)
                layer.set_adapter([name], inference_mode=True)
            else:
                layer.enable_adapters(False)

    def _loaded(self, adapter: Path) -> str:
        """The name of an adapter in the module, which is loaded at its first use.

        A trainer that takes its adapter off takes off all of them: what is not there any more is loaded again.
        """
        held = set().union(*(_adapters(layer) for layer in _layers(self.module)))
        if not set(self._names.values()) <= held:
            self._peft, self._names = None, {}
        if adapter not in self._names:
            name = f"worn_{content_hash([str(adapter), weights.hashes(adapter)])}"
            if self._peft is None:
                with warnings.catch_warnings():
                    # Where a trainer's adapter is there already, this one goes beside it, which is what is wanted.
                    warnings.filterwarnings("ignore", message=".*PEFT for a second time.*")
                    warnings.filterwarnings("ignore", message=".*multiple adapters.*")
                    self._peft = PeftModel.from_pretrained(self.module, adapter, adapter_name=name, is_trainable=False)
            else:
                self._peft.load_adapter(adapter, adapter_name=name, is_trainable=False)
            self._names[adapter] = name
        return self._names[adapter]

    def drop(self) -> None:
        """Frees the module."""
        self.module = self._peft = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _layers(module: Any) -> list[Any]:
    return [m for m in module.modules() if isinstance(m, BaseTunerLayer | AuxiliaryTrainingWrapper)]


def _adapters(layer: Any) -> set[str]:
    """The names of the adapters that a layer holds."""
    if isinstance(layer, AuxiliaryTrainingWrapper):
        return set(layer._adapters)
    return {key for name in layer.adapter_layer_names for key in getattr(layer, name)}


def _restore(module: Any, before: list[tuple[Any, list[str], bool]], trainable: list[Any]) -> None:
    """Puts every adapter layer back; one that was not there before stays switched off."""
    known = {id(layer) for layer, _, _ in before}
    for layer in _layers(module):
        if id(layer) not in known:
            layer.enable_adapters(False)
    for layer, active, disabled in before:
        # peft switches requires_grad along with the adapter, so what was trainable is put right afterwards.
        layer.enable_adapters(True)
        layer.set_adapter(active, inference_mode=True)
        if disabled:
            layer.enable_adapters(False)
    for parameter in trainable:
        parameter.requires_grad_(True)


def _check_attention(config: Any, name: str) -> None:
    """Refuses what a cache of plain rows would get wrong: short windows, and layers without attention."""
    text = config.get_text_config()
    odd = set(getattr(text, "layer_types", None) or ()) - {"full_attention"}
    window = getattr(text, "sliding_window", None) if getattr(text, "use_sliding_window", True) else None
    if odd or (window and window < text.max_position_embeddings):
        kinds = ", ".join(sorted(odd)) or f"a window of {window} tokens"
        raise ValueError(
            f"model {name} attends by {kinds}; kind: local needs full attention in every layer, so"
            " serve this one (for example with vllm) and use kind: endpoint"
        )
