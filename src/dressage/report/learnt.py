"""What a training came to, in the few numbers a reader asks for first, each a (name, value) in words."""

from collections.abc import Iterator, Mapping
from typing import Any

from dressage.report.wording import counted, percent, trimmed

Line = tuple[str, str]


def learnt(facts: Mapping[str, Any]) -> list[Line]:
    """From the facts of a finished train stage; a number that the trainer does not tell is left out."""
    return [*_held_out(facts), *_start_and_end(facts), *_watched(facts)]


def _held_out(facts: Mapping[str, Any]) -> Iterator[Line]:
    """A reward model on pairs it has not seen, beside what length alone would say of them."""
    if "held_out/accuracy" in facts:
        ends = _ends(facts, "held_out/accuracy_low", "held_out/accuracy_high")
        on = counted(facts["held_out/prompts"], "held-out prompt", "held-out prompts")
        yield "pairs told apart rightly", f"{percent(facts['held_out/accuracy'])}{ends} on {on}"
        yield "by length alone", percent(facts["held_out/length_only_accuracy"])
    elif "pairs_held_out" in facts:
        yield "pairs told apart rightly", "not measured: no pair was held out"


def _start_and_end(facts: Mapping[str, Any]) -> Iterator[Line]:
    if {"start/score", "end/score"} <= facts.keys():
        yield "mean grade of the draws", _change(facts["start/score"], facts["end/score"])
    if "end/kl" in facts:
        yield "KL from the reference at the end", f"{_rounded(facts['end/kl'])} nats per reply"
    if {"start/loss", "end/loss"} <= facts.keys():
        yield "loss on what was learnt", _change(facts["start/loss"], facts["end/loss"])


def _watched(facts: Mapping[str, Any]) -> Iterator[Line]:
    prefers = facts.get("watch_prefers_trained")
    if prefers is not None:
        ends = _ends(facts, "watch_prefers_low", "watch_prefers_high")
        on = counted(facts["watch_prompts"], "dev prompt", "dev prompts")
        yield f"preferred to its start by {facts['watch_judge']}", f"{percent(prefers)}{ends} on {on}"


def _ends(facts: Mapping[str, Any], low: str, high: str) -> str:
    if facts.get(low) is None or facts.get(high) is None:
        return ""
    return f" [{100 * facts[low]:.1f}, {100 * facts[high]:.1f}]"


def _change(start: float, end: float) -> str:
    first, last = _rounded(start), _rounded(end)
    return f"{first} throughout" if first == last else f"{first} → {last}"


def _rounded(value: float) -> str:
    return trimmed(round(value, 4))
