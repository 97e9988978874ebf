#!/usr/bin/env python3
"""How far a reward model can be trusted: pairs it was not trained on, and the policy's own replies, rated by hand.

    dressage run configs/reward.yaml
    python scripts/measure_teacher.py --adapter runs/reward/round-0/train/adapter

Written pairs of one author are easy to tell apart; what counts is the last block: pairs of replies that the demo's
policy drew itself, each read and rated blind before any score was looked at. Beside every figure stands what length
alone would say (the longer reply, or the shorter, whichever is right more often). Ties of the rater are left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dressage.maths.stats import wilson
from dressage.models.local import Settings
from dressage.models.local.model import LocalModel
from dressage.models.local.model import open as open_local
from dressage.protocols import Score
from dressage.records import Message

TEACHER = Path(__file__).parents[1] / "configs" / "teacher"
SYSTEM = "You work in customer care. Answer kindly and concretely, in one to three sentences."
"""What the demo's policy is told; its own replies are scored under it."""


class Pair(NamedTuple):
    prompt: str
    better: str
    worse: str
    sure: int = 3


def written(path: Path) -> list[Pair]:
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [Pair(row["prompt"], row["chosen"], row["rejected"]) for row in rows]


def rated(path: Path) -> list[Pair]:
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    other = {"first": "second", "second": "first"}
    return [
        Pair(row["prompt"], row[row["better"]], row[other[row["better"]]], row["sure"])
        for row in rows
        if row["better"] != "tie"
    ]


def scores(model: LocalModel, adapter: Path, pairs: Sequence[Pair], *, system: str | None) -> list[tuple[float, float]]:
    """The reward model's raw scores of (better, worse)."""
    before = (Message(role="system", content=system),) if system else ()
    asked = [
        (*before, Message(role="user", content=pair.prompt), Message(role="assistant", content=reply))
        for pair in pairs
        for reply in (pair.better, pair.worse)
    ]
    answers = model.scalars(asked, str(adapter), done=lambda i, answer: None)
    raw = [answer.raw for answer in answers if isinstance(answer, Score)]
    assert len(raw) == len(asked), "a pair is too long for the model"
    return list(zip(raw[::2], raw[1::2], strict=True))


def lines(name: str, pairs: Sequence[Pair], scored: Sequence[tuple[float, float]]) -> Iterator[str]:
    """The accuracy with its interval, and that of length alone."""
    right = sum(better > worse for better, worse in scored)
    longer = sum(len(pair.better) > len(pair.worse) for pair in pairs)
    by_length = max(longer, len(pairs) - longer)
    for what, hits in (("reward model", right), ("length alone", by_length)):
        found = wilson(hits, len(pairs))
        yield f"{name:32} {what:13} {found.value:6.1%}  [{found.low:.1%}, {found.high:.1%}]  n = {len(pairs)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapter", type=Path, required=True, help="what a run with trainer kind reward has left")
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct", help="its base: a folder or hub name")
    asked = parser.parse_args()
    model = open_local(Settings(path=asked.model, dtype="float32"))
    for path in (TEACHER / "first.jsonl", TEACHER / "second.jsonl"):
        pairs = written(path)
        for line in lines(path.stem, pairs, scores(model, asked.adapter, pairs, system=None)):
            print(line)
    own = rated(TEACHER / "own_replies.jsonl")
    scored = scores(model, asked.adapter, own, system=SYSTEM)
    for least, name in ((1, "the policy's own replies"), (2, "… where the rater was sure")):
        chosen = [i for i, pair in enumerate(own) if pair.sure >= least]
        for line in lines(name, [own[i] for i in chosen], [scored[i] for i in chosen]):
            print(line)


if __name__ == "__main__":
    main()
