"""Parts for tests of trainers: a backbone's shape, a workplace that remembers, and rows made of words."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dressage.checkpoints import Checkpoints
from dressage.protocols import Pair, Workplace
from dressage.records import Candidate, Message, Prompt

WORDS = ("rice", "water", "dog", "river", "train", "house", "book", "tea", "bread", "time", "answer", "question")


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

    said: list[str] = field(default_factory=list)

    @property
    def workplace(self) -> Workplace:
        return Workplace(
            folder=self.folder,
            seed=self.seed,
            log=lambda line: self.lines.append(dict(line)),
            progress=self.progress,
            checkpoints=Checkpoints(self.folder / "checkpoints", key="test", say=self.said.append),
            rewind=self._rewind,
        )

    def _rewind(self, after: int) -> None:
        self.lines[:] = [line for line in self.lines if 0 < line.get("step", 0) <= after]


def prompt_of(i: int, words: int = 4) -> Prompt:
    drawn = random.Random(1000 + i).choices(WORDS, k=words)
    text = f"{i} {' '.join(drawn)}?"
    return Prompt.of((Message(role="user", content=text),), source="made", split="train")


def reply_of(prompt: Prompt, text: str, **more: Any) -> Candidate:
    return Candidate.of(prompt_id=prompt.id, messages=(Message(role="assistant", content=text),), model="given", **more)


def pair_of(i: int, chosen: str, rejected: str, margin: float = 1.0) -> Pair:
    prompt = prompt_of(i)
    return Pair(prompt, reply_of(prompt, chosen), reply_of(prompt, rejected), margin)
