"""What the files of a run's models say against its YAML: their context, their layers, the adapter that is worn.

Reads the small files and the heads of the large ones, where they lie on this machine; no torch, no hub. What is not
there yet, or not as it should be, is for whoever opens the model to tell.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from dressage.plugins import meant
from dressage.protocols import Sampling
from dressage.settings import RunSettings
from dressage.strict_yaml import KeyPath
from dressage.tokens import TURN_ENDS

Lora = Any
"""The settings of an adapter: r, alpha, targets."""


def at_hand(run: RunSettings) -> Iterator[tuple[KeyPath, str]]:
    """What would be found out only once a model is there, or much later."""
    yield from _replies_fit(run)
    if run.train is None:
        return
    base, adapter = run.models[run.policy].at_hand()
    if base is not None and not _ends(base):
        yield (
            ("policy",),
            f"{run.policy!r} has no token that ends a reply: neither tokenizer_config.json (eos_token) nor "
            f"generation_config.json (eos_token_id) of {base} names one, and its chat template writes none that is "
            "known, so every reply would run to its limit; name the one that the template ends a turn with",
        )
    for where, lora in _loras(run.train.trainer):
        yield from _layers_are_there(base, where, lora)
    if adapter is not None and (lora := getattr(run.train.trainer, "lora", None)) is not None:
        yield from _goes_on(base, adapter, lora)


def _loras(trainer: Any) -> Iterator[tuple[KeyPath, Lora]]:
    """The adapters that a trainer makes: the policy's, and the critic's if it has one of its own."""
    here: KeyPath = ("train", "trainer")
    if hasattr(trainer, "lora"):
        yield (*here, "lora"), trainer.lora
    if (lora := getattr(getattr(trainer, "critic", None), "lora", None)) is not None:
        yield (*here, "critic", "lora"), lora


# ---------------------------------------------------------------- the context


def _replies_fit(run: RunSettings) -> Iterator[tuple[KeyPath, str]]:
    """A reply as long as the context leaves no prompt."""
    drawn: list[tuple[KeyPath, Sampling, list[str]]] = []
    if run.data is not None:
        drawn.append((("data", "sampling"), run.data.sampling, [run.policy, *run.data.also]))
    if run.evaluate is not None and run.evaluate.sampling is not None:
        named = (run.evaluate.predecessor, run.evaluate.policy, *run.evaluate.baselines)
        sides = [run.policy, *(name for name in named if name in run.models)]
        drawn.append((("evaluate", "sampling"), run.evaluate.sampling, sides))
    for where, sampling, names in drawn:
        for name in dict.fromkeys(n for n in names if n):
            context = _context(run.models[name].at_hand()[0])
            if context is not None and sampling.max_new_tokens >= context:
                yield (
                    (*where, "max_new_tokens"),
                    f"is {sampling.max_new_tokens}, and the context of {name!r} holds {context} tokens, prompt and "
                    "reply together; lower it",
                )


def _context(folder: Path | None) -> int | None:
    config = _json(folder / "config.json") if folder else {}
    text = config.get("text_config")
    found = (text if isinstance(text, dict) else config).get("max_position_embeddings")
    return found if isinstance(found, int) else None


def _ends(folder: Path) -> bool:
    """Whether anything in the folder names a token that ends a reply; true where its files are not as we know them."""
    words = _json(folder / "tokenizer_config.json")
    if not words or words.get("eos_token"):
        return True
    config = _json(folder / "config.json")
    text = config.get("text_config")
    said = _json(folder / "generation_config.json") or (text if isinstance(text, dict) else config)
    if said.get("eos_token_id") not in (None, []):
        return True
    template = folder / "chat_template.jinja"
    written = template.read_text("utf-8", "replace") if template.is_file() else str(words.get("chat_template"))
    return any(token in written for token in TURN_ENDS)


# ---------------------------------------------------------------- layers and adapters


def _layers_are_there(base: Path | None, where: KeyPath, lora: Lora) -> Iterator[tuple[KeyPath, str]]:
    """Every target ends the name of a layer, as peft will look for it."""
    names = _layers(base) if base else ()
    if not names or isinstance(lora.targets, str):
        return
    for target in lora.targets:
        if not _on(names, [target]):
            ends = sorted({name.rpartition(".")[2] for name in names if name.rpartition(".")[2] not in OTHERS})
            yield (*where, "targets"), f"names {target!r}, which no layer of {base} is called{meant(target, ends)}"


OTHERS = frozenset({"lm_head", "embed_out", "output_layer", "embed_tokens", "wte", "wpe"})
"""Layers with a weight matrix that no adapter of ours is put on."""


def _goes_on(base: Path | None, adapter: Path, lora: Lora) -> Iterator[tuple[KeyPath, str]]:
    """Training goes on from a copy of the adapter that the policy wears, so both must be alike."""
    config = _json(adapter / "adapter_config.json")
    start = f"the adapter that training starts from, {adapter},"
    for key, name in (("r", "r"), ("alpha", "lora_alpha")):
        if name in config and config[name] != getattr(lora, key):
            yield (
                ("train", "trainer", "lora", key),
                f"is {getattr(lora, key):g}, and {start} has {name}: {config[name]}; set it so, or start from "
                "the plain base",
            )
    for name in ("use_dora", "use_rslora"):
        if config.get(name):
            yield (
                ("policy",),
                f"wears {adapter}, which has {name}: {config[name]}; training goes on from plain LoRA only",
            )
    targets, names = config.get("target_modules"), _layers(base) if base else ()
    if not isinstance(targets, list) or isinstance(lora.targets, str):
        return
    if _on(names, targets) != _on(names, lora.targets):
        yield (
            ("train", "trainer", "lora", "targets"),
            f"is [{', '.join(lora.targets)}], and {start} is on [{', '.join(sorted(targets))}]; set it so, or "
            "start from the plain base",
        )


def _on(names: Sequence[str], targets: Sequence[str]) -> set[str]:
    """The layers whose names a target ends, as peft looks for them."""
    return {name for name in names if any(name == t or name.endswith(f".{t}") for t in targets)}


@cache
def _layers(folder: Path) -> tuple[str, ...]:
    """The names of the layers that have a weight matrix, from the heads of the safetensors files."""
    found = set()
    for file in sorted(folder.glob("*.safetensors")):
        found |= {
            name.removesuffix(".weight")
            for name, tensor in _head(file).items()
            if name.endswith(".weight") and isinstance(tensor, dict) and len(tensor.get("shape", ())) == 2
        }
    return tuple(sorted(found))


def _head(file: Path) -> Mapping[str, Any]:
    """What a safetensors file says of its tensors: eight bytes of length, then JSON."""
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            return _mapping(opened.read(min(length, MOST)))
    except OSError:
        return {}


MOST = 100_000_000
"""Bytes of a head; safetensors itself takes no longer one."""


def _json(file: Path) -> Mapping[str, Any]:
    try:
        return _mapping(file.read_bytes())
    except OSError:
        return {}


def _mapping(text: bytes) -> Mapping[str, Any]:
    """An object of JSON; anything else is for whoever opens the model to tell."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
