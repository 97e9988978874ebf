"""The plan counts what a run would do, by hand-computed numbers, and agrees with what the run then does."""

from pathlib import Path
from typing import Any

import pytest

from dressage.planning import CHARS_PER_TOKEN, plan
from dressage.settings import RunSettings
from run_parts import changed, manifest, prompts_file, run, small

Plain = dict[str, Any]


def planned(plain: Plain, root: Path) -> dict[str, Any]:
    found = plan(RunSettings.model_validate(plain), root)
    return {stage: (state, work) for stage, state, work in found.stages}


def test_draws_and_judgements_are_those_of_the_run(tmp_path: Path) -> None:
    plain = small(prompts_file(tmp_path / "prompts.jsonl", 12))
    work = planned(plain, tmp_path)
    assert (work["data"][0], work["judge"][0]) == ("to do", "waits")
    assert work["data"][1].draws == 4 * 3
    assert (work["judge"][1].judgements, work["judge"][1].calls) == (12, 0)
    run(plain, tmp_path)
    assert manifest(tmp_path, "data").facts["candidates"] == work["data"][1].draws
    assert manifest(tmp_path, "judge").facts["grades"] == work["judge"][1].judgements
    assert {stage: state for stage, (state, _) in planned(plain, tmp_path).items()} == {"data": "done", "judge": "done"}


def test_a_comparing_model_judge_is_called_twice_a_pair(tmp_path: Path) -> None:
    plain = small(
        prompts_file(tmp_path / "prompts.jsonl", 12), judges={"form": {"kind": "pairwise", "model": "writer"}}
    )
    _, work = planned(plain, tmp_path)["judge"]
    assert (work.judgements, work.calls) == (4 * 3, 4 * 3 * 2)
    panel = {"kind": "panel", "judges": ["one", "two"]}
    one = {"kind": "pointwise", "model": "writer"}
    _, work = planned(changed(plain, judges={"form": panel, "one": one, "two": one}), tmp_path)["judge"]
    assert (work.judgements, work.calls) == (4 * 3, 4 * 3 * 2)
    pairwise = {"kind": "pairwise", "model": "writer"}
    _, work = planned(changed(plain, judges={"form": panel, "one": pairwise, "two": pairwise}), tmp_path)["judge"]
    assert (work.judgements, work.calls) == (4 * 3, 4 * 3 * 2 * 2)


def test_caps_and_other_writers_count(tmp_path: Path) -> None:
    plain = small(prompts_file(tmp_path / "prompts.jsonl", 12))
    plain = changed(plain, data__at_most={"train": 2}, data__also=["other"])
    plain["models"]["other"] = {"kind": "scripted"}
    found = plan(RunSettings.model_validate(plain), tmp_path)
    assert found.prompts == {"train": 2, "dev": 4, "test": 4}
    assert [w.draws for _, _, w in found.stages] == [2 * 3 * 2, 0]


def test_tokens_written_are_at_most_the_limit_of_each_draw(tmp_path: Path) -> None:
    plain = changed(small(prompts_file(tmp_path / "prompts.jsonl", 9)), data__sampling={"max_new_tokens": 50})
    _, work = planned(plain, tmp_path)["data"]
    assert work.written == 9 * 50
    assert CHARS_PER_TOKEN == 4.0


def test_a_price_table_makes_a_range_of_cost(tmp_path: Path) -> None:
    plain = small(prompts_file(tmp_path / "prompts.jsonl", 9), judges={"form": {"kind": "pointwise", "model": "paid"}})
    plain["models"]["paid"] = {
        "kind": "endpoint",
        "base_url": "http://127.0.0.1:9/v1",
        "model": "judge",
        "price": {"read": 1e6, "written": 2e6},
    }
    _, work = planned(plain, tmp_path)["judge"]
    low, high = work.cost
    assert low == pytest.approx(work.read, abs=1)
    assert high == pytest.approx(low + 9 * 512 * 2)


def test_a_plan_of_data_already_drawn_still_shows_what_is_to_come(tmp_path: Path) -> None:
    plain = small(prompts_file(tmp_path / "prompts.jsonl", 9))
    run(plain, tmp_path, only="data")
    found = plan(RunSettings.model_validate(plain), tmp_path)
    assert [(stage, state) for stage, state, _ in found.stages] == [("data", "done"), ("judge", "to do")]
    fast, slow = found.seconds()
    assert 0 <= fast <= slow


def test_a_run_on_candidates_of_ones_own_can_be_planned(tmp_path: Path) -> None:
    plain = small(prompts_file(tmp_path / "prompts.jsonl", 9))
    plain["judge"] |= {"input": {"kind": "jsonl", "path": str(tmp_path / "mine.jsonl")}}
    (tmp_path / "mine.jsonl").write_text('{"prompt": "a?", "response": "b"}\n')
    del plain["data"]
    assert plan(RunSettings.model_validate(plain), tmp_path).prompts == {}
