"""For whoever labels: a judge that clears the floors gives its card, once; one that does not stops in words."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from audit_parts import FORM, MODELS

from dressage.accounts import Accounts
from dressage.auditing import cleared
from dressage.floors import BelowFloor
from dressage.settings import RunSettings
from dressage.stages._stage import Cast
from run_parts import Quiet


def settings(folder: Path, by: str, **floors: Any) -> RunSettings:
    rows = [{"prompt": f"{i}?", "chosen": f"long and good answer {i}", "rejected": f"bad {i}"} for i in range(60)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"kind": "jsonl", "path": str(folder / "pairs.jsonl")}
    models = {"m": {**MODELS["m"], "log": str(folder / "log.jsonl")}}
    judge = {"by": by, "floors": {"pairs": source, "worst_tactic": None, **floors}}
    judges = {"blind": {"kind": "pairwise", "model": "m"}, "form": FORM}
    plain = {"name": "small", "policy": "m", "models": models, "judges": judges, "judge": judge}
    return RunSettings.model_validate(plain)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "here"


def check(run: RunSettings, folder: Path) -> Any:
    cast = Cast(run.models, run.judges, seed=run.seed, accounts=Accounts(folder / "spending.jsonl"))
    with closing(cast):
        return cleared(run, cast, folder, progress=Quiet())


def asked(tmp_path: Path) -> int:
    log = tmp_path / "log.jsonl"
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_without_floors_nobody_is_asked(tmp_path: Path, folder: Path) -> None:
    run = settings(tmp_path, "blind")
    assert run.judge is not None
    bare = run.model_copy(update={"judge": run.judge.model_copy(update={"floors": None})})
    assert check(bare, folder) is None
    assert not folder.exists()
    assert asked(tmp_path) == 0


def test_a_judge_that_is_blind_stops_and_is_told_why(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(BelowFloor, match="it just names the reply that is shown first"):
        check(settings(tmp_path, "blind"), folder)


def test_a_card_is_made_once_and_again_where_something_differs(tmp_path: Path, folder: Path) -> None:
    low: dict[str, Any] = {"agreement": 0.2, "consistency": None}
    first = check(settings(tmp_path, "blind", **low), folder)
    once = asked(tmp_path)
    assert once == 240  # 60 pairs in both orders, asked twice; no red team
    assert first.red_team is None
    assert check(settings(tmp_path, "blind", **low), folder) == first
    assert asked(tmp_path) == once
    lower = {**low, "agreement": 0.1}  # a floor is not what a card is made from
    assert check(settings(tmp_path, "blind", **lower), folder).hash() == first.hash()
    assert asked(tmp_path) == once
    fewer = check(settings(tmp_path, "blind", **low, at_most=50), folder)
    assert asked(tmp_path) == once + 200
    assert fewer.made_from != first.made_from


def test_a_card_that_cannot_be_read_is_made_again(tmp_path: Path, folder: Path) -> None:
    first = check(settings(tmp_path, "form"), folder)
    (folder / "card.json").write_text("[]")
    assert check(settings(tmp_path, "form"), folder).hash() == first.hash()
    assert json.loads((folder / "card.json").read_text())["judge"] == "form"
