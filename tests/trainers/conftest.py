"""Fixtures for tests of trainers: a tiny real model as a backbone, a workplace, pairs and examples."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from training_parts import WORDS, Desk, TinyBackbone, pair_of, prompt_of, reply_of

from dressage.protocols import Example, Pair


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """The tiny model is slower on two threads than on one, by far where the machine is busy."""
    torch.set_num_threads(1)


@pytest.fixture
def backbone(tiny_model: Path) -> TinyBackbone:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    module = AutoModelForCausalLM.from_pretrained(tiny_model, dtype="float32").eval().requires_grad_(False)
    return TinyBackbone(module, AutoTokenizer.from_pretrained(tiny_model))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "work")


@pytest.fixture
def pairs() -> list[Pair]:
    """Twelve pairs of unequal lengths."""
    noise = random.Random(7)
    return [
        pair_of(
            i,
            "thank you " + " ".join(noise.choices(WORDS, k=2 + i % 5)),
            " ".join(noise.choices(WORDS, k=3 + i % 4)) + " no",
            margin=(1 + i % 3) / 4,
        )
        for i in range(12)
    ]


@pytest.fixture
def examples() -> Sequence[Example]:
    noise = random.Random(8)
    made = []
    for i in range(8):
        prompt = prompt_of(i)
        made.append(Example(prompt, reply_of(prompt, " ".join(noise.choices(WORDS, k=2 + i % 4)))))
    return made
