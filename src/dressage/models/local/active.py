"""The adapter that is active in a module right now, written as peft reads it: how a policy in training is shown."""

import json
from pathlib import Path
from typing import Any

from peft import get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file

_PREFIX = "base_model.model."
"""What stands before a tensor's name in a saved adapter: the two modules that peft puts around a base."""


def write_active(module: Any, folder: Path) -> bool:
    """Writes the active adapter into `folder`, the same bytes for the same weights; false where none is active.

    Args:
        module: A transformers module that peft's layers were put into.

    Raises:
        ValueError: several are active at once, which no saved adapter could be.
    """
    name = _active(module)
    if name is None:
        return False
    config = module.peft_config[name]
    state = get_peft_model_state_dict(module, adapter_name=name, save_embedding_layers=False)
    tensors = {f"{_PREFIX}{key}": tensor.detach().cpu().contiguous() for key, tensor in sorted(state.items())}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    words = {key: sorted(v) if isinstance(v, set) else v for key, v in config.to_dict().items()}
    words["inference_mode"] = True
    (folder / "adapter_config.json").write_text(json.dumps(words, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return True


def _active(module: Any) -> str | None:
    layers = [m for m in module.modules() if isinstance(m, BaseTunerLayer) and not m.disable_adapters]
    names = {name for layer in layers for name in layer.active_adapters}
    if len(names) > 1:
        raise ValueError(f"the adapters {', '.join(sorted(names))} are active at once; a role wears one")
    return names.pop() if names else None
