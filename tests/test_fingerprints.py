"""What a stage's output depends on, and what it does not: libraries, own records, the data stage behind own rows."""

from pathlib import Path
from typing import Any

import pytest

from dressage.fingerprints import Stage, inputs_of, parts_of
from dressage.settings import RunSettings
from run_parts import changed, jsonl, prompts_file, small, trained

Plain = dict[str, Any]


def parts(plain: Plain, stage: Stage) -> Any:
    return parts_of(RunSettings.model_validate(plain), stage, {})


@pytest.fixture
def whole(tmp_path: Path, tiny_model: Path) -> Plain:
    return trained(small(prompts_file(tmp_path / "prompts.jsonl")), tiny_model)


def test_labels_bought_from_an_endpoint_outlive_an_upgrade_of_torch(whole: Plain) -> None:
    teacher = {"kind": "endpoint", "base_url": "http://127.0.0.1:9/v1", "model": "big"}
    judged = changed(whole, judges__form={"kind": "pointwise", "model": "teacher"}, models__teacher=teacher)
    assert parts(judged, "judge")["libraries"] == {}
    assert parts(whole, "judge")["libraries"] == {}  # rules ask nobody
    own = changed(whole, judges__form={"kind": "pointwise", "model": "tiny"})
    assert parts(own, "judge")["libraries"].keys() == {"torch", "transformers"}
    assert parts(judged, "data")["libraries"].keys() == {"torch", "transformers"}
    assert "peft" in parts(judged, "train")["libraries"]
    assert "peft" in parts(judged, "evaluate")["libraries"]


def test_rows_of_ones_own_stand_on_the_prompts_that_are_held_out(tmp_path: Path, whole: Plain) -> None:
    source = jsonl(tmp_path / "pairs.jsonl", [{"prompt": "a?", "chosen": "b", "rejected": "c"}])
    own = changed(whole, train__input=source)
    assert inputs_of(RunSettings.model_validate(own), "train") == ("data",)
    assert inputs_of(RunSettings.model_validate(whole), "train") == ("data", "judge")
    alone = {key: value for key, value in own.items() if key not in ("data", "evaluate")}
    assert inputs_of(RunSettings.model_validate(alone), "train") == ()


def test_own_records_are_of_the_train_split_unless_the_yaml_says_otherwise(tmp_path: Path, whole: Plain) -> None:
    source = jsonl(tmp_path / "mine.jsonl", [{"prompt": "a?", "response": "b"}])
    split = {"train": 0.5, "test": 0.5}
    sections = [
        RunSettings.model_validate(changed(whole, judge__input=given)).judge
        for given in (source, {**source, "split": split})
    ]
    assert [getattr(s.input, "split", None) for s in sections if s] == ["train", split]
    assert parts(whole, "data")["settings"]["source"]["content"]["split"] == {"train": 0.7, "dev": 0.1, "test": 0.2}
