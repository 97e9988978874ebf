"""Trackers are told what metrics.jsonl is told: read back from the files that a tracker has written."""

from pathlib import Path
from typing import Any

import pytest
from practice_parts import Gym, prompts, share_below
from training_parts import Desk, pair_of, prompt_of, reply_of

from dressage.extras import installed
from dressage.models.local import Settings as LocalSettings
from dressage.models.local.model import LocalModel
from dressage.models.local.model import open as open_local
from dressage.plugins import open_kind, settings_of
from dressage.protocols import Example

SETTINGS: dict[str, dict[str, Any]] = {
    "ppo": {"updates": 2, "prompts_per_update": 4, "per_prompt": 2, "critic": {"kind": "head", "warmup_updates": 0}},
    "dpo": {"batch_pairs": 4},
    "sft": {"batch_examples": 4},
    "reward": {"batch_pairs": 4},
    "trl_dpo": {"batch_pairs": 4},
    "trl_grpo": {"steps": 2, "generation_batch_size": 8, "num_generations": 2, "per_device_train_batch_size": 4},
}


@pytest.fixture
def local(tiny_model: Path) -> LocalModel:
    return open_local(LocalSettings(path=str(tiny_model), dtype="float32", device="cpu"))


def trained(kind: str, local: LocalModel, folder: Path, *trackers: str) -> Desk:
    own = {"kind": kind, "learning_rate": 1e-3, "lora": {"r": 2, "alpha": 4}, "report_to": trackers}
    settings = settings_of("trainers", kind).model_validate(own | SETTINGS[kind])
    desk, handed, rows = Desk(folder), {}, list[Any]()
    match settings.learns_from:  # type: ignore[attr-defined]
        case "prompts":
            handed, rows = {"practice": Gym(local, share_below(120)).practice()}, list(prompts(8))
        case "examples":
            rows = [Example(prompt_of(i), reply_of(prompt_of(i), f"thank you tea {i}")) for i in range(8)]
        case _:
            rows = [pair_of(i, f"thank you tea {i}", f"house no {i}") for i in range(8)]
    open_kind(settings, **handed).train(rows, local, desk.workplace)
    return desk


@pytest.mark.parametrize("kind", sorted(SETTINGS))
def test_tensorboard_is_told_every_number_of_the_metrics(local, tmp_path, kind: str) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    desk = trained(kind, local, tmp_path, "tensorboard")
    (folder,) = (tmp_path / "trackers").iterdir()
    assert folder.name == "training"  # the run's name
    events = EventAccumulator(str(folder))
    events.Reload()
    found = {(tag, e.step): e.value for tag in events.Tags()["scalars"] for e in events.Scalars(tag)}
    wanted = {(name, line["step"]): x for line in desk.lines for name, x in line.items() if name != "step"}
    assert {step for _, step in wanted} == {1, 2}
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert found[key] == pytest.approx(value, rel=1e-6)
    settings = next(folder.glob("*/hparams.yml")).read_text()
    assert "learning_rate: 0.001" in settings
    assert "lora.r: 2" in settings


def test_without_trackers_nothing_is_written_for_them(local, tmp_path) -> None:
    trained("dpo", local, tmp_path)
    assert not (tmp_path / "trackers").exists()


@pytest.mark.parametrize("kind", sorted(SETTINGS))
def test_one_that_is_not_installed_is_named_before_anything_is_done(local, tmp_path, kind: str) -> None:
    absent = next((name for name in ("wandb", "mlflow", "trackio", "tensorboard") if not installed(name)), None)
    if absent is None:
        pytest.skip("all of them are installed")
    with pytest.raises(ValueError, match=rf"report_to: \[{absent}\] needs the package {absent}.*dressage\[{absent}\]"):
        trained(kind, local, tmp_path, absent)
    assert not (tmp_path / "checkpoints").exists()
