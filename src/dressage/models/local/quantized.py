"""A base whose linear layers are kept in 4 bits by bitsandbytes: how it is loaded, and what must hold then.

The output head and the embeddings stay in full precision, so log-probabilities are computed as always; a LoRA adapter
on such a layer reads its input in float32 and adds to what the layer gives (peft's lora.Linear4bit).

8 bits (LLM.int8(), arXiv:2208.07339) are not offered: a layer then rounds what it reads by what shares the batch. On
the demo model the same tokens differ by 0.18 nats in the mean between a batch of four rows and each row alone, nearly
as much as from the model in float32 (0.22), and a ratio of two such numbers teaches noise.
"""

import logging
from typing import Any

import torch

from dressage.models.local import Settings


def keywords(settings: Settings, *, config: Any, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What `from_pretrained` needs besides; nothing where neither the setting nor the weights are quantised.

    Raises:
        ValueError: bitsandbytes is missing or cannot compute on this device, or the weights are quantised already.
    """
    before = getattr(config, "quantization_config", None)
    if not settings.quantize:
        return {"device_map": {"": device}} if before else {}
    settings.usable()
    if before:
        raise ValueError(
            f"quantize: {settings.quantize} is set, but the weights in {settings.path} are quantised already; leave "
            "`quantize` out, or give the weights they were made from"
        )
    _works_on(device)
    from transformers import BitsAndBytesConfig

    chosen = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": chosen, "device_map": {"": device}}


def settled(module: Any, name: str) -> Any:
    """The loaded module, made fit to be trained through and sampled from.

    Raises:
        ValueError: weights that were quantised before in a way that log-probabilities cannot be had from.
    """
    if getattr(module, "is_loaded_in_8bit", False):
        raise ValueError(
            f"{name} is kept in 8 bits, where a reply's probability depends on what shares its batch; take the weights "
            "it was made from, with quantize: 4bit if they are too large"
        )
    head = module.get_output_embeddings()
    if head is not None and not head.weight.is_floating_point():
        raise ValueError(
            f"the output head of {name} is quantised, and log-probabilities are read from its weights; take a copy "
            "whose head is in full precision, as bitsandbytes leaves it by default"
        )
    for layer in module.modules():
        # On CPUs with AVX-512 bf16, a 4-bit layer would repack its weights at the first inference; from then on it
        # has no backward, and what lies below it would get zero gradients without an error.
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
    return module


def _works_on(device: torch.device) -> None:
    """Quantises a few ones on the device and reads them back: bitsandbytes finds out only then whether it has code for
    it."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of kernels that it does not need
    one = torch.ones(2, 64, device=device, dtype=torch.float16)
    try:
        from bitsandbytes import functional as bits

        again = bits.dequantize_4bit(*bits.quantize_4bit(one, quant_type="nf4"))
        wrong = "" if abs(float(again.float().mean()) - 1) < 0.01 else "a 1 comes back as another number"
    except (ImportError, OSError, RuntimeError) as error:
        wrong = (str(error).strip() or type(error).__name__).splitlines()[0]
    if wrong:
        raise ValueError(
            f"quantize: 4bit does not work on device {device} here: {wrong}; choose another device, or leave "
            "`quantize` out (`python -m bitsandbytes` tells what it has found)"
        )
