"""What is held out is never learnt from, whoever brings it and whatever the run puts before its prompts."""

import json
from pathlib import Path
from typing import Any

import pytest

from dressage.records import Candidate, Grade, Preference, Prompt
from dressage.stages._stage import StageError
from dressage.standing import stage_folder
from dressage.store import rows_of
from run_parts import changed, jsonl, manifest, prompts_file, run, small, told, trained

Plain = dict[str, Any]


@pytest.fixture
def plain(tmp_path: Path) -> Plain:
    return small(prompts_file(tmp_path / "prompts.jsonl"))


def asked(tmp_path: Path, split: str) -> list[str]:
    rows = map(json.loads, (tmp_path / "prompts.jsonl").read_text().splitlines())
    return [row["prompt"] for row in rows if row["split"] == split]


def pairs(prompts: list[str]) -> list[Plain]:
    return [{"prompt": p, "chosen": f"Yes: {p}", "rejected": "No."} for p in prompts]


def own_pairs(plain: Plain, model: Path, source: Plain, **more: Any) -> Plain:
    whole = trained(plain, model, train__input=source, data__per_prompt=0, **more)
    del whole["judge"], whole["evaluate"]
    return whole


def test_own_candidates_are_of_the_train_split_and_others_make_no_preference(tmp_path: Path, plain: Plain) -> None:
    texts = ("Yes.", "Well, that is quite a long story to tell.")
    rows = [{"prompt": f"Number {i}?", "response": text} for i in range(6) for text in texts]
    marked = [row | {"split": "test"} if row["prompt"] == "Number 5?" else row for row in rows]
    plain = changed(plain, judge__input=jsonl(tmp_path / "mine.jsonl", marked))
    del plain["data"]
    said = told(plain, tmp_path)
    judged = stage_folder(tmp_path / "small", "judge")
    assert len(list(rows_of(judged, Grade))) == 12  # all are graded
    held_out = {p.id for p in rows_of(judged, Prompt) if p.split != "train"}
    preferences = list(rows_of(judged, Preference))
    assert len(preferences) == 5
    assert not held_out & {p.prompt_id for p in preferences}
    assert manifest(tmp_path, "judge").facts["rows_held_out"] == 2
    assert said[-1] == "judge: left out: 2 × row that is held out (dev, test)"


@pytest.mark.parametrize("system", [None, "You work in customer care."], ids=["plain", "under a system message"])
def test_pairs_on_prompts_that_the_data_stage_holds_out_are_left_out(
    tmp_path: Path, plain: Plain, tiny_model: Path, system: str | None
) -> None:
    prompts = [*asked(tmp_path, "test"), *asked(tmp_path, "dev"), *asked(tmp_path, "train")]
    source = jsonl(tmp_path / "pairs.jsonl", [*pairs(prompts), {"prompt": "no pair"}]) | {"max_bad_rows": 0.2}
    run(own_pairs(plain, tiny_model, source, data__system=system), tmp_path)
    facts = manifest(tmp_path, "train").facts
    assert (facts["rows"], facts["rows_held_out"], facts["rows_unreadable"]) == (3, 6, 1)


def test_pairs_that_are_all_held_out_are_refused(tmp_path: Path, plain: Plain, tiny_model: Path) -> None:
    source = jsonl(tmp_path / "pairs.jsonl", pairs(asked(tmp_path, "test")))
    with pytest.raises(StageError, match=r"nothing to learn from: train.input gave 3 rows, 3 of them on prompts that"):
        run(own_pairs(plain, tiny_model, source), tmp_path)


def test_own_candidates_on_test_prompts_are_not_trained_on(tmp_path: Path, plain: Plain, tiny_model: Path) -> None:
    texts = ("Yes.", "Well, that is quite a long story to tell.")
    prompts = [*asked(tmp_path, "test"), *asked(tmp_path, "train")]
    rows = [{"prompt": p, "response": text} for p in prompts for text in texts]
    plain = trained(plain, tiny_model, judge__input=jsonl(tmp_path / "mine.jsonl", rows), data__per_prompt=0)
    del plain["evaluate"]
    run(plain, tmp_path)
    assert len(list(rows_of(stage_folder(tmp_path / "small", "judge"), Candidate))) == 12
    facts = manifest(tmp_path, "train").facts
    assert (facts["pairs"], facts["rows_held_out"]) == (3, 3)


def test_a_judge_that_makes_no_preference_stops_only_a_run_that_learns_from_it(
    tmp_path: Path, plain: Plain, tiny_model: Path
) -> None:
    plain = changed(plain, judge__min_margin=1.0)
    run(plain, tmp_path)
    assert manifest(tmp_path, "judge").facts["preferences"] == 0
    whole = trained(plain, tiny_model, name="learns")
    with pytest.raises(StageError, match="judge 'form' made no preference out of 9 candidates"):
        run(whole, tmp_path)


def test_a_judge_beside_that_fails_stops_nothing_and_is_counted(tmp_path: Path, plain: Plain) -> None:
    (tmp_path / "mine.py").write_text("def score(prompt, reply, reference):\n    raise ValueError('boom')\n")
    plain["judges"]["boom"] = {"kind": "python", "path": f"{tmp_path / 'mine.py'}:score"}
    run(changed(plain, judge__beside=["boom"]), tmp_path)
    facts = manifest(tmp_path, "judge").facts
    assert facts["failures of boom: unreadable (infrastructure)"] == 9
    assert facts["preferences"] == 3


def test_a_judge_beside_whose_server_is_down_stops_nothing(tmp_path: Path, plain: Plain) -> None:
    down = {"kind": "endpoint", "base_url": "http://127.0.0.1:9/v1", "model": "x", "key_env": None, "attempts": 1}
    plain["models"]["down"] = {**down, "backoff_s": 0}
    plain["judges"]["remote"] = {"kind": "pointwise", "model": "down"}
    run(changed(plain, judge__beside=["remote"]), tmp_path)
    facts = manifest(tmp_path, "judge").facts
    assert facts["failures of remote: EndpointDown (infrastructure)"] == 9
    assert facts["preferences"] == 3
