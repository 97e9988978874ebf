"""One contract that every trainer kind keeps: what it trains, leaves, says, refuses, and goes on from."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from practice_parts import Gym, prompts, share_below
from training_parts import Desk, pair_of, prompt_of, reply_of

from dressage.models.local import Settings as LocalSettings
from dressage.models.local.model import LocalModel
from dressage.models.local.model import open as open_local
from dressage.plugins import kinds, open_kind, settings_of
from dressage.protocols import Example, Trained

LORA = {"lora": {"r": 4, "alpha": 8}, "learning_rate": 3e-3, "save_every": 1}
PRACTICE = {"updates": 3, "prompts_per_update": 4, "per_prompt": 2, "kl": {"kind": "fixed", "coefficient": 0.01}}
SETTINGS: dict[str, dict[str, Any]] = {
    "dpo": {"batch_pairs": 4, "microbatch_pairs": 2},
    "sft": {"batch_examples": 4, "microbatch_examples": 2},
    "reward": {"batch_pairs": 4, "microbatch_pairs": 2},
    "ppo": PRACTICE | {"epochs": 1, "critic": {"kind": "head", "warmup_updates": 0}},
    "grpo": PRACTICE,
    "rloo": PRACTICE,
    "trl_dpo": {"batch_pairs": 4, "microbatch_pairs": 2},
    "trl_grpo": {
        "steps": 3,
        "generation_batch_size": 8,
        "num_generations": 2,
        "per_device_train_batch_size": 4,
        "beta": 0.01,
    },
}
KINDS = sorted(SETTINGS)
WITH_REFERENCE = {"dpo", "ppo", "grpo", "rloo", "trl_dpo", "trl_grpo"}
ROWS = 12


def test_no_trainer_is_left_out() -> None:
    assert set(KINDS) == set(kinds("trainers"))


@pytest.fixture
def local(tiny_model: Path) -> LocalModel:
    torch.set_num_threads(1)
    return open_local(LocalSettings(path=str(tiny_model), dtype="float32", device="cpu"))


def data_of(kind: str, n: int = ROWS) -> list[Any]:
    match settings_of("trainers", kind).learns_from:  # type: ignore[attr-defined]
        case "pairs":
            return [pair_of(i, f"thank you tea {i}", f"house no {i}", margin=0.5) for i in range(n)]
        case "examples":
            return [Example(prompt_of(i), reply_of(prompt_of(i), f"thank you tea {i}")) for i in range(n)]
        case _:
            return list(prompts(n))


def opened(kind: str, local: LocalModel, gym: Gym | None = None) -> Any:
    settings = settings_of("trainers", kind).model_validate({"kind": kind, **LORA, **SETTINGS[kind]})
    if settings.learns_from != "prompts":  # type: ignore[attr-defined]
        return open_kind(settings)
    return open_kind(settings, practice=(gym or Gym(local, share_below(120))).practice())


def trained(kind: str, local: LocalModel, folder: Path, n: int = ROWS) -> tuple[Trained, Desk]:
    desk = Desk(folder)
    return opened(kind, local).train(data_of(kind, n), local, desk.workplace), desk


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_trains_leaves_and_says(local, tmp_path, tiny_model, kind: str) -> None:
    from transformers import AutoModelForCausalLM

    before = {name: (p.detach().clone(), p.requires_grad) for name, p in local.module.named_parameters()}
    result, desk = trained(kind, local, tmp_path)
    assert result.step == 3
    assert result.adapter == tmp_path / "adapter"
    assert int(result.facts["trainable_parameters"]) > 0
    assert len(str(result.facts["adapter_hash"])) == 64
    assert [line["step"] for line in desk.lines] == [1, 2, 3]
    assert all(isinstance(x, float | int | str) for line in desk.lines for x in line.values())
    assert any(name in desk.lines[0] for name in ("loss", "policy/loss"))
    if kind in WITH_REFERENCE:
        gap = result.facts.get("start/gap", desk.lines[0].get("start/gap"))
        assert gap == 0.0
    # the module is as it was found
    after = dict(local.module.named_parameters())
    assert set(after) == set(before)
    assert all(torch.equal(after[n], p) and after[n].requires_grad == grad for n, (p, grad) in before.items())
    # plain peft loads what it left, and merging changes no logit
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype="float32").eval()
    ids = torch.tensor([[1, 40, 50, 60]])
    with torch.no_grad():
        plain = base(ids).logits
        model = PeftModel.from_pretrained(base, str(result.adapter)).eval()
        worn = model(ids).logits
        merged = model.merge_and_unload()(ids).logits
    assert not torch.allclose(plain, worn, atol=1e-5)
    assert torch.allclose(worn, merged, atol=1e-4)


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill -9."""


def timeless(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: x for k, x in line.items() if not k.startswith(("time/", "rate/"))} for line in lines]


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_step_it_ends_the_same(local, tmp_path, kind: str) -> None:
    whole, desk = trained(kind, local, tmp_path / "whole")
    for last in (1, 2, 3):
        gym = Gym(local, share_below(120))
        other = Desk(tmp_path / f"{last}", lines=Mortal(last))
        with pytest.raises(Killed):
            opened(kind, local, gym).train(data_of(kind), local, other.workplace)
        other.lines = list(other.lines)
        again = opened(kind, local, gym).train(data_of(kind), local, other.workplace)
        weights = [(r.adapter / "adapter_model.safetensors").read_bytes() for r in (whole, again)]
        assert weights[0] == weights[1]
        assert list(again.facts.items()) == list(whole.facts.items())  # in one order: the model card lists them
        assert timeless(other.lines) == timeless(desk.lines)


class Mortal(list[dict[str, Any]]):
    """Metric lines whose writer is killed once a step is written."""

    def __init__(self, last: int) -> None:
        super().__init__()
        self._last = last

    def append(self, line: dict[str, Any]) -> None:
        super().append(line)
        if line.get("step") == self._last:
            raise Killed


@pytest.mark.parametrize("kind", KINDS)
def test_nan_stops_it_before_a_weight_is_touched(local, tmp_path, kind: str) -> None:
    def poisoned(module: Any, args: Any, out: Any) -> Any:
        if torch.is_grad_enabled():
            out.last_hidden_state = out.last_hidden_state * float("nan")
        return out

    hook = local.module.base_model.register_forward_hook(poisoned)
    try:
        with pytest.raises((FloatingPointError, RuntimeError), match=r"nan|finite"):
            trained(kind, local, tmp_path)
    finally:
        hook.remove()
    assert not (tmp_path / "adapter").exists()
    assert not any("lora" in name for name, _ in local.module.named_modules())


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_learn_from_is_a_clear_error(local, tmp_path, kind: str) -> None:
    with pytest.raises(ValueError, match="nothing to"):
        trained(kind, local, tmp_path, n=0)


@pytest.mark.parametrize("kind", KINDS)
def test_one_row_is_learnt_from_or_refused_in_words(local, tmp_path, kind: str) -> None:
    if kind == "reward":  # it holds a prompt out to measure itself by
        with pytest.raises(ValueError, match="held_out"):
            trained(kind, local, tmp_path, n=1)
        return
    result, _ = trained(kind, local, tmp_path, n=1)
    assert (result.adapter / "adapter_model.safetensors").exists()
    assert json.loads((result.adapter / "adapter_config.json").read_text())["r"] == 4
