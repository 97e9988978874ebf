"""The model card of a trained adapter: what data, judge and settings made it, in words and as they were set."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from dressage.store import commit_text

Plain = Mapping[str, JsonValue]


@dataclass(frozen=True)
class Origin:
    """Where an adapter comes from."""

    run: str
    base: str
    """The model it stands on, as a person would name it."""
    source: Plain | None
    """The settings of the source of its prompts, or of the user's own rows."""
    own: str | None
    """What the user brought: `pairs`, `examples`, `candidates`; null: the policy drew its own."""
    judges: Mapping[str, Plain]
    """The judge whose labels it learnt from, and its members, by name; none where rows came with their labels."""


def write_card(adapter: Path, origin: Origin, trainer: Plain, facts: Plain) -> None:
    """Puts README.md into the adapter's folder."""
    commit_text(adapter / "README.md", "\n".join(_lines(origin, trainer, facts)) + "\n")


def _lines(origin: Origin, trainer: Plain, facts: Plain) -> Iterator[str]:
    yield from ("---", f"base_model: {origin.base}", "library_name: peft", "tags: [dressage, lora]", "---")
    yield from (f"# Adapter of run `{origin.run}`", "")
    yield f"LoRA adapter on `{origin.base}`, trained by dressage with `{trainer['kind']}`; {_labels(origin)}."
    yield from ("It loads with `peft.PeftModel.from_pretrained(base_model, this_folder)`.", "")
    yield from ("| fact | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items()), "")
    if origin.source is not None:
        yield from _settings(f"Source of the {origin.own or 'prompts'}", origin.source)
    for name, judge in origin.judges.items():
        yield from _settings(f"Judge `{name}`", judge)
    yield from _settings("Trainer", trainer)
    yield "The run's folder has the prompts, candidates, labels and the resolved config. Nothing here says that "
    yield "the adapter is safe or better: see the run's report for who preferred it, on what, and at what price."


def _labels(origin: Origin) -> str:
    if not origin.judges:
        return f"it learnt from {origin.own} of the user's own"
    judge = next(iter(origin.judges))
    candidates = f"{origin.own} of the user's own" if origin.own else "replies of the policy"
    return f"judge `{judge}` labelled {candidates}"


def _settings(title: str, settings: Plain) -> Iterator[str]:
    yield from (f"{title}:", "", "```json", json.dumps(dict(settings), indent=1, ensure_ascii=False), "```", "")
