"""A whole run with an endpoint: its limits hold over stages, attempts and names, not for one opening."""

from pathlib import Path
from typing import Any

import pytest
from fault_server import MODEL, FaultServer, says, serving

from dressage.models.endpoint.stops import OverBudget
from dressage.store import lines_of
from run_parts import prompts_file, run, small

USED = 12
"""Tokens of an answer of the fault server."""


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def drawn_from(server: FaultServer, folder: Path, **limits: Any) -> dict[str, Any]:
    """Data whose nine candidates all come from the endpoint, one by one."""
    settings = {"kind": "endpoint", "base_url": server.base_url, "model": MODEL, "key_env": None, "concurrency": 1}
    data = {"source": {"kind": "jsonl", "path": str(prompts_file(folder / "p.jsonl"))}, "per_prompt": 3}
    sampling = {"max_new_tokens": 8}
    models = {"writer": {**settings, **limits}}
    plain = small(folder / "p.jsonl", models=models, data={**data, "sampling": sampling, "shard_prompts": 1})
    return {k: v for k, v in plain.items() if k not in ("judge", "judges")}


def test_the_limit_of_a_run_holds_over_attempts(tmp_path: Path) -> None:
    with serving(lambda nth, body: says("ok")) as server:
        plain = drawn_from(server, tmp_path, max_tokens_total=140)
        for _ in range(3):
            with pytest.raises(OverBudget, match="all its stages and attempts together"):
                run(plain, tmp_path)
        asked = len(server.bodies)
        assert USED * asked <= 140
        plain = drawn_from(server, tmp_path, max_tokens_total=100_000)
        assert run(plain, tmp_path) == ["data: going on"]
    rows = lines_of(tmp_path / "small" / "spending.jsonl")
    assert [row["read"] + row["written"] for row in rows] == [USED] * 9
    assert len(server.bodies) == 9


def test_the_limit_of_a_run_holds_over_its_stages(tmp_path: Path) -> None:
    with serving(lambda nth, body: says("ok")) as server:
        plain = drawn_from(server, tmp_path, max_tokens_total=9 * USED + 100)
        plain |= {"judges": {"rater": {"kind": "pointwise", "model": "writer", "how": "text", "max_new_tokens": 8}}}
        plain |= {"judge": {"by": "rater", "max_failures": 1.0}}
        with pytest.raises(OverBudget, match=r"has spent 90 \+ 18 tokens"):
            run(plain, tmp_path)
    assert len(server.bodies) == 9  # all of them the data stage's: the judge's first question no longer fits
