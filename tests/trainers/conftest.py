"""A tiny real model as a backbone, a workplace in a temporary folder, and pairs and examples made of words."""

import importlib.util
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dressage.protocols import Example, Pair, Workplace
from dressage.records import Candidate, Message, Prompt

ROOT = Path(__file__).parents[2]
WORDS = "rice water dog river train house book tea friend school bread flour time answer question".split()


@dataclass
class TinyBackbone:
    module: Any
    tokenizer: Any
    adapter: Path | None = None
    fingerprint: str = "tiny"


class Quiet:
    """A progress that remembers what it was told."""

    def __init__(self) -> None:
        self.done: dict[str, list[int]] = {}

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        self.done[name] = [total, 0]

        def advance(units: int) -> None:
            self.done[name][1] += units

        yield advance

    def say(self, line: str) -> None:
        pass


@dataclass
class Desk:
    """A workplace, and what was reported to it."""

    folder: Path
    seed: int = 0
    lines: list[dict[str, Any]] = field(default_factory=list)
    progress: Quiet = field(default_factory=Quiet)

    @property
    def workplace(self) -> Workplace:
        return Workplace(self.folder, self.seed, lambda line: self.lines.append(dict(line)), self.progress)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = importlib.util.spec_from_file_location("make_tiny_model", ROOT / "scripts" / "make_tiny_model.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script.make_tiny_model(tmp_path_factory.mktemp("tiny"), seed=0)


@pytest.fixture
def backbone(tiny_folder: Path) -> TinyBackbone:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    module = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype="float32").eval().requires_grad_(False)
    return TinyBackbone(module, AutoTokenizer.from_pretrained(tiny_folder))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "work")


def prompt_of(i: int, words: int = 4) -> Prompt:
    drawn = random.Random(1000 + i).choices(WORDS, k=words)
    text = f"{i} {' '.join(drawn)}?"
    return Prompt.of((Message(role="user", content=text),), source="made", split="train")


def reply_of(prompt: Prompt, text: str, **more: Any) -> Candidate:
    return Candidate.of(
        prompt_id=prompt.id, messages=(Message(role="assistant", content=text),), model="given", **more
    )


def pair_of(i: int, chosen: str, rejected: str, margin: float = 1.0) -> Pair:
    prompt = prompt_of(i)
    return Pair(prompt, reply_of(prompt, chosen), reply_of(prompt, rejected), margin)


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
