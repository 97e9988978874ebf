"""Opened judges before scripted models, for the tests of the engines."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_parts import Bar, MakeBench, scripted

from dressage.engines.asking import Asker
from dressage.engines.hearing import Bench
from dressage.plugins import open_kind, settings_of
from dressage.protocols import JudgeTools
from dressage.store import Journal


@pytest.fixture
def bench(tmp_path: Path) -> MakeBench:
    """Builds a bench: a judge kind with its settings, whose questions to `m` a scripted model answers."""

    def build(
        kind: str, *, asks: dict[str, Any] | None = None, bar: Callable[[int], None] | None = None, **settings: Any
    ) -> Bench:
        tools = JudgeTools(secret="sesame", members={}, reads_labels=lambda name: True)
        judge = open_kind(settings_of("judges", kind).model_validate({"kind": kind, **settings}), tools=tools)
        asker = Asker({"m": scripted(**(asks or {}))}, journal=Journal(tmp_path / "journal.jsonl"), seed=0)
        return Bench("judge", judge, asker, 200, bar or Bar())

    return build


@pytest.fixture
def scorer(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """Settings of a `python` judge whose function is the given expression over `reply`."""

    def write(expression: str) -> dict[str, str]:
        file = tmp_path / "scorer.py"
        file.write_text(f"def score(prompt, reply, reference):\n    return {expression}\n")
        return {"path": f"{file}:score"}

    return write
