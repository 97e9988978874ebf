"""What a YAML asks of its training is looked at before anything is drawn: reward, draws, alarms, prompts, and sizes."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dressage import config
from dressage.config import ConfigError
from dressage.planning import plan
from dressage.practising import TooFewPrompts
from run_parts import prompts_file, run, small

Plain = dict[str, Any]
OWN = {"ppo": {"updates": 20}, "grpo": {"updates": 20}, "rloo": {"updates": 20}, "trl_grpo": {"steps": 20}}
"""The trainers that draw for themselves, and how they say how long."""
GIVEN = ("dpo", "sft", "reward", "trl_dpo")
EVERY = (*OWN, *GIVEN)


def plain(kind: str, tmp_path: Path, **trainer: Any) -> Plain:
    """A run that a trainer of that kind could do, were its model there."""
    (tmp_path / "my.py").write_text("def near(prompt, reply, reference):\n    return 0.5\n")
    settings = {"kind": kind, **OWN.get(kind, {}), **trainer}
    return {
        "name": "x",
        "policy": "tiny",
        "models": {"tiny": {"kind": "local", "path": "not-here"}, "other": {"kind": "scripted", "says": "A"}},
        "judges": {
            "form": {"kind": "rules", "rules": [{"check": {"rule": "ends_cleanly"}}]},
            "two": {"kind": "pairwise", "model": "other"},
            "near": {"kind": "python", "path": f"{tmp_path / 'my.py'}:near"},
        },
        "data": {
            "source": {"kind": "jsonl", "path": str(prompts_file(tmp_path / "p.jsonl", 9))},
            "per_prompt": 0 if kind in OWN else 4,
        },
        "judge": {"by": "form"},
        "train": {"trainer": settings},
    }


def refusal(tmp_path: Path, asked: Plain) -> str:
    """The one line a user reads, without the file and its line number."""
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(asked))
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    (line,) = str(caught.value).splitlines()
    return line.removeprefix(f"{path}:").partition(": ")[2]


@pytest.mark.parametrize("kind", EVERY)
def test_what_can_be_done_is_not_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(plain(kind, tmp_path)))
    assert config.load(path).train


@pytest.mark.parametrize("kind", OWN)
def test_a_judge_that_compares_is_offered_an_opponent(tmp_path: Path, kind: str) -> None:
    asked = plain(kind, tmp_path)
    asked["judge"]["by"] = "two"
    said = refusal(tmp_path, asked)
    assert said.startswith(
        f"judge.by: 'two' compares two replies, and {kind} needs a grade of one; set train.opponent:"
    )
    asked["train"]["opponent"] = "reference"
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(asked))
    assert config.load(tmp_path / "run.yaml").train


@pytest.mark.parametrize("kind", EVERY)
def test_an_adapter_on_the_output_head_is_refused(tmp_path: Path, kind: str) -> None:
    for target in ("lm_head", "model.lm_head"):
        said = refusal(tmp_path, plain(kind, tmp_path, lora={"targets": ["q_proj", target]}))
        assert said.startswith(f"train.trainer.lora.targets: names {target}, the output head")


@pytest.mark.parametrize("kind", EVERY)
def test_an_absurd_learning_rate_is_refused(tmp_path: Path, kind: str) -> None:
    for rate in (3e-10, 0.5):
        assert refusal(tmp_path, plain(kind, tmp_path, learning_rate=rate)).startswith("train.trainer.learning_rate: ")


TRAININGS: dict[str, tuple[str, Plain, str]] = {
    "minibatches": ("ppo", {"minibatches": 17}, "minibatches (17) is more than prompts_per_update (16)"),
    "trl's minibatches": (
        "trl_grpo",
        {"minibatches": 16, "steps": 16, "save_every": 16},
        "are more replies than a generation has",
    ),
    "siblings": ("grpo", {"per_prompt": 1}, "must be 2 at least: a reply is compared with its siblings"),
    "no siblings": ("rloo", {"per_prompt": 1}, "must be 2 at least"),
    "critic alone": ("ppo", {"updates": 2}, "critic.warmup_updates (2) leaves none of 2 updates in which the policy"),
    "critic's noise": (
        "ppo",
        {"critic": {"kind": "adapter", "lora": {"dropout": 0.1}}},
        "critic.lora.dropout must be 0",
    ),
    "no updates": ("grpo", {"updates": 0}, "Input should be greater than or equal to 1"),
    "steered out": (
        "rloo",
        {"kl": {"kind": "adaptive", "target": 60}},
        "kl.target (60) is not below alarms.kl_at_most",
    ),
    "patience": (
        "grpo",
        {"alarms": {"patience": 21}},
        "alarms.patience (21) is more than the training has updates (20)",
    ),
    "trl's patience": ("trl_grpo", {"alarms": {"patience": 21}}, "alarms.patience (21) is more than"),
    "unread": ("ppo", {"truncation_penalty": 2.0}, "truncation_penalty is read by `truncated: penalise` only"),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    kind, more, text = TRAININGS[name]
    said = refusal(tmp_path, plain(kind, tmp_path, **more))
    assert text in said
    assert said.startswith("train.trainer")
    assert "{'kind'" not in said  # the whole mapping says nothing that the line does not


@pytest.mark.parametrize("kind", OWN)
def test_a_watch_judge_must_look_in_time(tmp_path: Path, kind: str) -> None:
    asked = plain(kind, tmp_path)
    asked["train"]["watch"] = "near"
    said = refusal(tmp_path, asked)
    assert said.startswith("train.trainer.alarms.watch_every: is 10, and train.watch can stop a training at its look 3")
    assert "there are 20 updates: lower it to 6 or less, or set alarms.watch_falls_by: null" in said
    for alarms in ({"watch_every": 6}, {"watch_falls_by": None}):
        asked["train"]["trainer"]["alarms"] = alarms
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(asked))
        assert config.load(tmp_path / "run.yaml").train


@pytest.mark.parametrize("kind", GIVEN)
def test_one_reply_or_the_same_again_has_no_better_one(tmp_path: Path, kind: str) -> None:
    asked = plain(kind, tmp_path)
    asked["data"]["per_prompt"] = 1
    assert refusal(tmp_path, asked).startswith(f"data.per_prompt: is 1: {kind} learns from the better of two replies")
    asked["data"] |= {"per_prompt": 3, "sampling": {"temperature": 0}}
    assert refusal(tmp_path, asked).startswith("data.sampling.temperature: is 0, so all 3 replies to a prompt are the")


def test_only_the_policys_own_replies_have_recorded_probabilities(tmp_path: Path) -> None:
    rows = {"kind": "jsonl", "path": "rows.jsonl"}
    for section, more in (("train", {"input": rows}), ("judge", {"input": rows}), ("data", {"also": ["other"]})):
        asked = plain("dpo", tmp_path, reference="sampled")
        asked[section] |= more
        said = refusal(tmp_path, asked)
        assert said.startswith(
            f"train.trainer.reference: is sampled, and {section}.{next(iter(more))} brings replies of"
        )
        asked["train"]["trainer"]["reference"] = "computed"
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(asked))
        assert config.load(tmp_path / "run.yaml").train


# ---------------------------------------------------------------- prompts


def scripted(tmp_path: Path, splits: dict[str, int]) -> Plain:
    """A run with a policy that says what it is told, over so many prompts of each split."""
    rows = [f'{{"prompt": "{split} {i}?", "split": "{split}"}}\n' for split, n in splits.items() for i in range(n)]
    (tmp_path / "some.jsonl").write_text("".join(rows))
    return small(tmp_path / "some.jsonl")


def both(asked: Plain, root: Path) -> str:
    """What `plan` and the run say, which is the same; nothing is drawn."""
    path = root / "run.yaml"
    path.write_text(yaml.safe_dump(asked))
    with pytest.raises(TooFewPrompts) as planned:
        plan(config.load(path), root)
    with pytest.raises(TooFewPrompts) as ran:
        run(asked, root)
    assert str(planned.value) == str(ran.value)
    assert not list(root.rglob("*.parquet"))
    return str(ran.value)


def test_battles_need_prompts_before_anything_is_drawn(tmp_path: Path) -> None:
    asked = scripted(tmp_path, {"train": 3, "dev": 2})
    asked["judges"]["near"] = {"kind": "embedding", "model": "writer", "mode": "relevance"}
    asked["evaluate"] = {"by": ["near"], "policy": "writer"}
    said = both(asked, tmp_path)
    assert said.startswith(
        "evaluate.split is test, and data gives no such prompts (3 train, 2 dev, 0 test); name anothe"
    )
    asked["evaluate"]["split"] = "dev"
    asked["data"]["at_most"] = {"dev": 0}
    assert both(asked, tmp_path).startswith(
        "evaluate.split is dev, and data gives no such prompts (3 train, 0 dev, 0 t"
    )


def test_candidates_need_prompts_to_learn_from(tmp_path: Path) -> None:
    asked = scripted(tmp_path, {"test": 3})
    assert both(asked, tmp_path).startswith(
        "candidates are drawn and judged on the train split, and data gives no such"
    )


@pytest.mark.parametrize("kind", ["ppo", "grpo", "rloo"])
def test_an_update_needs_as_many_prompts_as_it_says(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(plain(kind, tmp_path)))
    with pytest.raises(TooFewPrompts) as caught:
        plan(config.load(path), tmp_path)
    assert str(caught.value) == (
        "train.trainer.prompts_per_update is 16, and data gives 3 such prompts (3 train, 3 dev, 3 test); lower it, or "
        "give data.source more of that split (`split`, data.at_most)"
    )
    path.write_text(yaml.safe_dump(plain(kind, tmp_path, prompts_per_update=3)))
    assert plan(config.load(path), tmp_path).prompts["train"] == 3


def test_a_watch_judge_needs_prompts(tmp_path: Path) -> None:
    asked = plain("dpo", tmp_path)
    asked["train"]["watch"] = "near"
    asked["data"]["at_most"] = {"dev": 0}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(asked))
    with pytest.raises(
        TooFewPrompts, match=r"train.watch looks at the dev split, and data gives no such prompts \(3 tr"
    ):
        plan(config.load(path), tmp_path)
