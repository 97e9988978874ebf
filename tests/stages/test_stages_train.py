"""A trained adapter is the same whatever its run is called and wherever its base lies; what it says of itself stays."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from dressage.records import Checkpoint
from dressage.stages._stage import StageError, whole_files
from dressage.standing import RunRefused, stage_folder
from dressage.store import rows_of
from run_parts import changed, jsonl, manifest, prompts_file, run, small, trained

Plain = dict[str, Any]


@pytest.fixture
def own(tmp_path: Path, tiny_model: Path) -> Plain:
    """Four pairs of the user's own, straight to train."""
    rows = [{"prompt": f"Number {i}?", "chosen": f"Yes, {i}.", "rejected": "No."} for i in range(4)]
    source = jsonl(tmp_path / "pairs.jsonl", rows)
    plain = trained(small(prompts_file(tmp_path / "prompts.jsonl")), tiny_model, train__input=source)
    return {key: value for key, value in plain.items() if key not in ("data", "judge", "evaluate")}


def checkpoint(root: Path, name: str) -> Checkpoint:
    (found,) = rows_of(stage_folder(root / name, "train"), Checkpoint)
    return found


def test_the_name_of_the_run_and_the_place_of_the_base_change_no_hash(
    tmp_path: Path, own: Plain, tiny_model: Path
) -> None:
    moved = tmp_path / "moved" / "elsewhere"
    shutil.copytree(tiny_model, moved)
    run(own, tmp_path)
    run(changed(own, name="other", models__tiny__path=str(moved)), tmp_path)
    one, two = (checkpoint(tmp_path, name) for name in ("small", "other"))
    assert manifest(tmp_path, "train", "small").rows_hash == manifest(tmp_path, "train", "other").rows_hash
    assert one.beside != two.beside
    assert (one.files, one.config, one.row_hash()) == (two.files, two.config, two.row_hash())
    assert one.files.keys() == {"adapter_model.safetensors"}


@pytest.mark.parametrize("file", ["README.md", "adapter_config.json"])
def test_damage_of_a_file_that_is_not_hashed_is_seen_all_the_same(tmp_path: Path, own: Plain, file: str) -> None:
    run(own, tmp_path)
    whole = manifest(tmp_path, "train").rows_hash
    (stage_folder(tmp_path / "small", "train") / "adapter" / file).write_text("x")
    assert run(own, tmp_path)[0].endswith(f"{file} is gone or damaged; doing again what is")
    assert manifest(tmp_path, "train").rows_hash == whole


def test_the_card_names_data_counts_and_the_judges_settings(tmp_path: Path, tiny_model: Path) -> None:
    plain = trained(small(prompts_file(tmp_path / "prompts.jsonl")), tiny_model)
    del plain["evaluate"]
    run(plain, tmp_path)
    card = (stage_folder(tmp_path / "small", "train") / "adapter" / "README.md").read_text()
    pairs = manifest(tmp_path, "judge").facts["preferences"]
    assert pairs
    for words in (
        "judge `form` labelled replies of the policy",
        str(tmp_path / "prompts.jsonl"),
        f"| pairs | {pairs} |",
    ):
        assert words in card
    assert '"rule": "length_window"' in card


def test_a_resumed_training_still_says_where_it_ran(tmp_path: Path, own: Plain) -> None:
    run(own, tmp_path)
    facts = manifest(tmp_path, "train").facts
    place = stage_folder(tmp_path / "small", "train")
    said = facts["model: tiny"]
    assert isinstance(said, dict)
    assert said["device"] == "cpu"
    # Killed between the last note and the manifest: the next attempt opens no model at all.
    (place / "attempts.json").write_text(json.dumps({"times": {"training": 5.0}, "machine": {"model: tiny": said}}))
    (place / "manifest.json").unlink()
    run(own, tmp_path)
    again = manifest(tmp_path, "train")
    assert again.facts == facts
    assert again.times["training"] == 5.0


def test_an_adapter_of_the_run_itself_is_refused(tmp_path: Path, own: Plain) -> None:
    run(own, tmp_path)
    adapter = stage_folder(tmp_path / "small", "train") / "adapter"
    live = changed(own, models__live={**own["models"]["tiny"], "adapter": str(adapter)})
    with pytest.raises(RunRefused, match=r"models\.live wears .*adapter, an adapter of this very run"):
        run(live, tmp_path)
    run(changed(live, name="other"), tmp_path)


def cut(folder: Path, copy: Path) -> Path:
    """A copy of a folder whose weights end too early."""
    shutil.copytree(folder, copy)
    (weights,) = copy.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:5000])
    return copy


def test_weights_that_are_cut_short_are_told_in_words(tmp_path: Path, own: Plain, tiny_model: Path) -> None:
    broken = cut(tiny_model, tmp_path / "broken")
    with pytest.raises(StageError, match=r"model 'tiny': .*broken/model\.safetensors is damaged or cut short"):
        run(changed(own, models__tiny__path=str(broken)), tmp_path)


def test_an_adapter_that_is_cut_short_is_told_too(tmp_path: Path, own: Plain, tiny_model: Path) -> None:
    """It is loaded when it is first worn, in the midst of a stage."""
    run(own, tmp_path)
    broken = cut(stage_folder(tmp_path / "small", "train") / "adapter", tmp_path / "broken")
    plain = trained(small(prompts_file(tmp_path / "prompts.jsonl")), tiny_model, name="other")
    plain["models"]["tiny"]["adapter"] = str(broken)
    with pytest.raises(StageError, match=r"stage data in .*: .*broken/adapter_model\.safetensors is damaged or cut"):
        run(plain, tmp_path)


def test_a_full_disk_while_an_adapter_is_saved_is_told_with_the_way_out() -> None:
    words = r"training of 'tiny': .*No space left on device.*; make room if the disk is full"
    with pytest.raises(StageError, match=words), whole_files("training of 'tiny'"):
        raise SafetensorError("I/O error: No space left on device (os error 28)")
    with pytest.raises(KeyError), whole_files("training"):
        raise KeyError("passes through")
