"""What the benchmarks share: interleaved repeats, medians, and the demo's prompts."""

import json
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

import dressage.sources.builtin as builtin
from dressage.records import Message

SYSTEM = "You work in customer care. Answer kindly and concretely, in one to three sentences."


def prompts(n: int) -> list[tuple[Message, ...]]:
    """The first prompts of the demo's category, under the demo's system message."""
    lines = (Path(builtin.FOLDER) / "customer_service.jsonl").read_text("utf-8").splitlines()[:n]
    return [
        (Message(role="system", content=SYSTEM), Message(role="user", content=json.loads(line)["prompt"]))
        for line in lines
    ]


def side_by_side(sides: Mapping[str, Callable[[], float]], *, repeats: int, unit: str) -> dict[str, list[float]]:
    """Runs every side once per repeat, in turn, and prints rates and their ratios to the first side."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    print("repeat  " + "".join(f"{name:>28}" for name in sides))
    for number in range(1, repeats + 1):
        for name, side in sides.items():
            rates[name].append(side())
        print(f"{number:6}  " + "".join(f"{rates[name][-1]:22.1f} {unit}" for name in sides), flush=True)
    first, *others = sides
    for name in others:
        ratios = [b / a for a, b in zip(rates[first], rates[name], strict=True)]
        low, high = min(ratios), max(ratios)
        print(f"{name} / {first}: median {statistics.median(ratios):.2f}× ({low:.2f} … {high:.2f})")
    return rates
