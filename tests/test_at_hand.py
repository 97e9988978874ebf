"""What a run's YAML says against the files of its models: told with the key, before a model is opened."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from dressage import config
from dressage.config import ConfigError
from dressage.models.local import weights

KINDS = ("ppo", "grpo", "rloo", "trl_grpo", "dpo", "sft", "reward", "trl_dpo")
CONTEXT = 1024


def loaded(
    tmp_path: Path, model: dict[str, Any], trainer: dict[str, Any], sampling: dict[str, Any] | None = None, **more: Any
) -> str:
    """What the reader says against a run of that model and trainer; empty where nothing is."""
    own = trainer["kind"] in ("ppo", "grpo", "rloo", "trl_grpo")
    asked = {
        "name": "x",
        "policy": "tiny",
        "models": {"tiny": {"kind": "local", **model}, "words": {"kind": "scripted"}},
        "judges": {
            "form": {"kind": "rules", "rules": [{"check": {"rule": "ends_cleanly"}}]},
            "near": {"kind": "embedding", "model": "words", "mode": "relevance"},
        },
        "data": {
            "source": {"kind": "jsonl", "path": "p.jsonl"},
            "per_prompt": 0 if own else 4,
            "sampling": sampling or {},
        },
        "judge": {"by": "form"},
        "train": {"trainer": trainer},
        **more,
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(asked))
    try:
        config.load(path)
    except ConfigError as error:
        return "\n".join(line.removeprefix(f"{path}:").partition(": ")[2] for line in str(error).splitlines())
    return ""


def adapter(folder: Path, **more: Any) -> str:
    """What is read of an adapter before it is opened."""
    folder.mkdir(exist_ok=True)
    told = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "use_dora": False, **more}
    (folder / "adapter_config.json").write_text(json.dumps(told))
    return str(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_reply_as_long_as_the_context_leaves_no_prompt(tmp_path: Path, tiny_model: Path, kind: str) -> None:
    here = {"path": str(tiny_model)}
    said = loaded(tmp_path, here, {"kind": kind}, {"max_new_tokens": CONTEXT})
    assert said == (
        f"data.sampling.max_new_tokens: is {CONTEXT}, and the context of 'tiny' holds {CONTEXT} tokens, prompt and "
        "reply together; lower it"
    )
    assert loaded(tmp_path, here, {"kind": kind}, {"max_new_tokens": CONTEXT - 1}) == ""


def test_so_does_one_in_the_battles(tmp_path: Path, tiny_model: Path) -> None:
    evaluate = {"by": ["near"], "sampling": {"max_new_tokens": 5000}}
    said = loaded(tmp_path, {"path": str(tiny_model)}, {"kind": "dpo"}, evaluate=evaluate)
    assert said.startswith("evaluate.sampling.max_new_tokens: is 5000, and the context of 'tiny' holds 1024")


@pytest.mark.parametrize("kind", KINDS)
def test_a_target_that_names_no_layer(tmp_path: Path, tiny_model: Path, kind: str) -> None:
    here = {"path": str(tiny_model)}
    said = loaded(tmp_path, here, {"kind": kind, "lora": {"targets": ["q_prj"]}})
    assert said.startswith("train.trainer.lora.targets: names 'q_prj', which no layer of ")
    assert "did you mean 'q_proj'? (there is: down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj)" in said
    for targets in (["q_proj"], ["self_attn.q_proj", "model.layers.0.mlp.up_proj"]):
        assert loaded(tmp_path, here, {"kind": kind, "lora": {"targets": targets}}) == ""


def test_so_may_the_critics(tmp_path: Path, tiny_model: Path) -> None:
    critic = {"kind": "adapter", "lora": {"targets": ["proj_q"]}}
    said = loaded(tmp_path, {"path": str(tiny_model)}, {"kind": "ppo", "critic": critic})
    assert said.startswith("train.trainer.critic.lora.targets: names 'proj_q'")


@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on_from_an_adapter_like_its_own(tmp_path: Path, tiny_model: Path, kind: str) -> None:
    worn = {"path": str(tiny_model), "adapter": adapter(tmp_path / "a")}
    lora = {"r": 4, "alpha": 8, "targets": ["q_proj", "v_proj"]}
    assert loaded(tmp_path, worn, {"kind": kind, "lora": lora}) == ""
    assert loaded(tmp_path, worn, {"kind": kind, "lora": lora | {"targets": ["v_proj", "self_attn.q_proj"]}}) == ""
    said = loaded(tmp_path, worn, {"kind": kind, "lora": lora | {"r": 8}})
    assert said == (
        f"train.trainer.lora.r: is 8, and the adapter that training starts from, {tmp_path / 'a'}, has r: 4; set it "
        "so, or start from the plain base"
    )
    assert "train.trainer.lora.alpha: is 16" in loaded(tmp_path, worn, {"kind": kind, "lora": lora | {"alpha": 16}})
    said = loaded(tmp_path, worn, {"kind": kind, "lora": lora | {"targets": ["q_proj"]}})
    assert said.startswith("train.trainer.lora.targets: is [q_proj], and the adapter that training starts from")
    adapter(tmp_path / "a", use_dora=True)
    assert loaded(tmp_path, worn, {"kind": kind, "lora": lora}).startswith("policy: wears ")


ENDLESS = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}{% endfor %}"


def test_a_model_without_a_token_that_ends_a_reply(tmp_path: Path, tiny_model: Path) -> None:
    model = tmp_path / "endless"
    shutil.copytree(tiny_model, model)
    assert loaded(tmp_path, {"path": str(model)}, {"kind": "ppo"}) == ""
    for name, key in (("tokenizer_config.json", "eos_token"), ("generation_config.json", "eos_token_id")):
        told = json.loads((model / name).read_text())
        assert told.pop(key) is not None
        (model / name).write_text(json.dumps(told))
        assert loaded(tmp_path, {"path": str(model)}, {"kind": "ppo"}) == ""  # the template writes <|im_end|> still
    (model / "chat_template.jinja").write_text(ENDLESS)
    said = loaded(tmp_path, {"path": str(model)}, {"kind": "ppo"})
    assert said.startswith("policy: 'tiny' has no token that ends a reply: neither tokenizer_config.json (eos_token)")
    (model / "generation_config.json").unlink()  # its config says one, which then counts
    assert loaded(tmp_path, {"path": str(model)}, {"kind": "ppo"}) == ""


def test_what_is_not_here_or_damaged_is_for_whoever_opens_it(tmp_path: Path, tiny_model: Path) -> None:
    lora = {"targets": ["q_prj"]}
    assert loaded(tmp_path, {"path": "not/here", "adapter": "nor-this"}, {"kind": "dpo", "lora": lora}) == ""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{")
    (broken / "model.safetensors").write_bytes(b"\x09\x00\x00\x00\x00\x00\x00\x00{")
    long = {"max_new_tokens": 30_000}
    assert loaded(tmp_path, {"path": str(broken)}, {"kind": "dpo", "lora": lora}, long) == ""


def test_the_hubs_cache_is_looked_into_and_the_hub_is_not_asked(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    assert weights.at_hand("some/model", None) is None
    cached = tmp_path / "models--some--model"
    snapshot = cached / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc123")
    assert weights.at_hand("some/model", None) == snapshot
    assert weights.at_hand("some/model", "abc123") == snapshot
    assert weights.at_hand("some/model", "v2") is None
    assert weights.at_hand("no-folder", None) is None
