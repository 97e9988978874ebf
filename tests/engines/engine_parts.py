"""Parts for tests of the engines: prompts, replies, scripted models, a bar that remembers its steps."""

from collections.abc import Callable, Iterable
from typing import Any

from dressage.engines.hearing import Bench
from dressage.plugins import open_kind, settings_of
from dressage.protocols import Model
from dressage.records import Candidate, Message, Prompt

MakeBench = Callable[..., Bench]


def prompt(text: str, **fields: Any) -> Prompt:
    return Prompt.of((Message(role="user", content=text),), source="test", split="train", **fields)


def reply(to: Prompt, text: str, index: int = 0) -> Candidate:
    return Candidate.of(
        prompt_id=to.id, messages=(Message(role="assistant", content=text),), model="m", index=index, seed=index
    )


def replies(to: Prompt, texts: Iterable[str]) -> list[tuple[Prompt, Candidate]]:
    return [(to, reply(to, text, i)) for i, text in enumerate(texts)]


def scripted(**settings: Any) -> Model:
    opened: Model = open_kind(settings_of("models", "scripted").model_validate({"kind": "scripted", **settings}))
    return opened


class Bar:
    """A progress bar that remembers each step it made."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def __call__(self, units: int) -> None:
        self.steps.append(units)

    @property
    def total(self) -> int:
        return sum(self.steps)
