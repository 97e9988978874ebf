"""Makes the copy that scripts/fetch_demo_model.py keeps: fp32 weights, the tokenizer put right, checked, sealed."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

# torch and transformers are imported where they are used: asking for the path must not take seconds.

NAME = "SmolLM2-135M-Instruct"
HUB_REPO = f"HuggingFaceTB/{NAME}"

SUMS = "SHA256SUMS"  # in the format of sha256sum, so that `sha256sum -c SHA256SUMS` works too

BOS, EOS, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
SYSTEM_PROMPT = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"

NOTICE = """\
# SmolLM2-135M-Instruct

Source: {source}

The model is SmolLM2-135M-Instruct by Hugging Face (HuggingFaceTB), https://huggingface.co/{repo},
licensed under the Apache License, Version 2.0 (https://www.apache.org/licenses/LICENSE-2.0).

Changes, as section 4 (b) of that licence asks for:

{changes}
- The weights are stored in fp32, and the tokenizer pads with {pad} instead of {eos}.

Made by scripts/fetch_demo_model.py of dressage. {sums} lists the hashes of all files.
"""
GGUF_CHANGES = """\
- The weights were taken from a 4-bit quantisation ({gguf}: linear layers Q4_1, embeddings Q8_0)
  and dequantised, so they are **not bit-identical** to the published ones, nor are the model's answers.
- The tokenizer was rebuilt from the same file, and its splitting of digits restored."""
HUB_CHANGES = "- The values of the weights are those published."


class FetchError(Exception):
    """Something the user can act on: what failed, where, and what to do."""


class Origin(NamedTuple):
    """Where the weights were found, in a form that transformers can load."""

    source: str
    folder: Path
    changes: str
    gguf: str | None = None
    licence: Path | None = None


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_model(origin: Origin) -> Any:
    """The model in fp32; to transformers, a GGUF that is dequantised on loading was never quantised."""
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    if origin.gguf is None:
        return AutoModelForCausalLM.from_pretrained(origin.folder, dtype=torch.float32)
    # fp32, because a 4-bit value times its fp16 scale plus its fp16 offset does not fit into bf16.
    return AutoModelForCausalLM.from_pretrained(
        origin.folder,
        gguf_file=origin.gguf,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )


def load_tokenizer(origin: Origin) -> Any:
    """The tokenizer, with what the GGUF loses, and what training needs, put right."""
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    options = {"gguf_file": origin.gguf} if origin.gguf else {}
    tokenizer = AutoTokenizer.from_pretrained(origin.folder, **options)
    # SmolLM2 was trained with every digit split off before the byte-level split. A GGUF only names that rule
    # ("smollm"), and transformers takes GPT-2's instead: "\n\n1." becomes \n, \n, 1 and not \n\n, 1, so that
    # numbered lists, the model's favourite form, look wrong to it.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    # As published, padding is the end of a turn. Whoever masks padding by its id then also masks every real
    # end, and the model is never taught to stop.
    tokenizer.pad_token = PAD
    return tokenizer


def save_copy(origin: Origin, folder: Path) -> None:
    """Write a folder that `from_pretrained` loads without knowing where it came from."""
    from transformers import GenerationConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer, model = load_tokenizer(origin), load_model(origin)
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    model.config.update(ids)
    # What a GGUF calls the model ("Smollm2 135M 8k Lc100K Mix1 Ep2") is the name of a training run.
    model.config.__dict__.pop("_model_name_or_path", None)
    model.generation_config = GenerationConfig(**ids)
    # A GGUF does not say how long a text may be, and transformers then assumes that there is no limit.
    tokenizer.model_max_length = model.config.max_position_embeddings
    # How this process loaded the tokenizer must not be in the copy: its hashes should be the same everywhere.
    for key in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(key, None)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if origin.licence:
        shutil.copyfile(origin.licence, folder / "LICENSE")
    notice = NOTICE.format(
        source=origin.source,
        repo=HUB_REPO,
        changes=origin.changes,
        pad=PAD,
        eos=EOS,
        sums=SUMS,
    )
    (folder / "NOTICE.md").write_text(notice, encoding="utf-8")


def check_copy(folder: Path) -> None:
    """Refuse a copy whose tokenizer is wrong: a later transformers may read a GGUF differently."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    wanted = f"{BOS}system\n{SYSTEM_PROMPT}{EOS}\n{BOS}user\nHi{EOS}\n{BOS}assistant\n"
    special = (tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token)
    checks = {
        "its special tokens": special == (PAD, BOS, EOS),
        "their ids": tokenizer.convert_tokens_to_ids(special) == [0, 1, 2],
        "its chat template": asked == wanted,
        "its splitting of digits": tokenizer.tokenize(":\n\n12") == [":", "ĊĊ", "1", "2"],
    }
    wrong = [what for what, right in checks.items() if not right]
    if wrong:
        import transformers

        raise FetchError(
            f"The tokenizer did not survive the copy: {', '.join(wrong)} came out wrong with transformers "
            f"{transformers.__version__}. Nothing was kept. Use the version that dressage pins."
        )


def seal(folder: Path) -> None:
    """Write the checksums, and have everything on the disk before the folder gets its name."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    lines = [f"{sha256(path)}  {path.name}\n" for path in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")
    for path in [*files, folder / SUMS]:
        path.chmod(0o644)  # safetensors writes weights that only their owner may read; caches are shared
        sync(path)
    sync(folder)


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
