"""Training on a base in bfloat16, and on one in 4 bits: what is learnt stays in float32, and is what float32 learns."""

from pathlib import Path
from typing import Any

import pytest
import torch
from practice_parts import Gym, prompts, share_below
from safetensors.torch import load_file
from training_parts import Desk, TinyBackbone, pair_of, prompt_of, reply_of

from dressage.checkpoints import Checkpoints
from dressage.extras import installed
from dressage.models.local import Settings as LocalSettings
from dressage.models.local.model import LocalModel
from dressage.models.local.model import open as open_local
from dressage.plugins import open_kind, settings_of
from dressage.protocols import Example, Trained
from dressage.trainers._on_policy import AlarmSettings
from dressage.trainers._on_policy.alarms import Alarms, TrainingStopped
from dressage.trainers._on_policy.scoring import start_may_differ
from dressage.trainers.dpo.trainer import DPO
from dressage.trainers.trl_grpo.learner import VLLM_GAP, _in_our_names

LORA = {"lora": {"r": 4, "alpha": 8}, "learning_rate": 3e-3, "save_every": 1}
PRACTICE = {"updates": 2, "prompts_per_update": 4, "per_prompt": 4, "kl": {"kind": "fixed", "coefficient": 0.01}}
SETTINGS: dict[str, dict[str, Any]] = {
    "grpo": PRACTICE,
    "ppo": PRACTICE | {"epochs": 1, "critic": {"kind": "head", "warmup_updates": 0}},
    "dpo": {"batch_pairs": 4, "microbatch_pairs": 2},
    "sft": {"batch_examples": 4, "microbatch_examples": 2},
    "trl_dpo": {"batch_pairs": 4, "microbatch_pairs": 2},
    "trl_grpo": {"steps": 2, "generation_batch_size": 8, "num_generations": 2, "per_device_train_batch_size": 4}
    | {"beta": 0.01},
}
GRADIENT = {"grpo": "policy/grad_norm", "ppo": "policy/grad_norm", "dpo": "grad_norm"}


def opened(folder: Path, **settings: Any) -> LocalModel:
    return open_local(LocalSettings.model_validate({"path": str(folder), "device": "cpu"} | settings))


def trained(
    kind: str, local: LocalModel, folder: Path, gym: Gym | None = None, **more: Any
) -> tuple[Trained, Desk, Gym]:
    settings = settings_of("trainers", kind).model_validate({"kind": kind, **LORA, **SETTINGS[kind], **more})
    desk, gym = Desk(folder), gym or Gym(local, share_below(120))
    match settings.learns_from:  # type: ignore[attr-defined]
        case "prompts":
            trainer, rows = open_kind(settings, practice=gym.practice()), list[Any](prompts(8))
        case "examples":
            trainer = open_kind(settings)
            rows = [Example(prompt_of(i), reply_of(prompt_of(i), f"thank you tea {i}")) for i in range(8)]
        case _:
            trainer, rows = open_kind(settings), [pair_of(i, f"thank you {i}", f"house no {i}") for i in range(8)]
    return trainer.train(rows, local, desk.workplace), desk, gym


def state_of(desk: Desk) -> dict[str, torch.Tensor]:
    """Every tensor of the newest checkpoint but torch's random states."""
    found = Checkpoints(desk.folder / "checkpoints", key="test", say=desk.said.append).newest()
    assert found
    files = [f for f in found[1].glob("*.safetensors") if f.name != "noise.safetensors"]
    return {f"{f.name} {name}": tensor for f in files for name, tensor in load_file(f).items()}


@pytest.mark.parametrize("kind", sorted(GRADIENT))
def test_on_a_base_in_bfloat16_it_learns_what_it_learns_in_float32(tiny_model, tmp_path, kind: str) -> None:
    _, exact, gym = trained(kind, opened(tiny_model, dtype="float32"), tmp_path / "32")
    half = opened(tiny_model, dtype="bfloat16")
    again = Gym(half, gym.score, memory={1: gym.memory[1]} if gym.memory else {})  # the same draws, where it draws
    result, desk, _ = trained(kind, half, tmp_path / "16", again)
    assert {p.dtype for p in half.module.parameters()} == {torch.bfloat16}
    # adapter, critic and the optimizer's moments
    assert {t.dtype for t in load_file(result.adapter / "adapter_model.safetensors").values()} == {torch.float32}
    assert {t.dtype for t in state_of(desk).values()} == {torch.float32}
    # it starts at its reference to the last bit: the same pass, twice
    assert (result.facts["start/gap"] if kind == "dpo" else desk.lines[0]["start/gap"]) == 0.0
    name = GRADIENT[kind]
    assert desk.lines[0][name] == pytest.approx(exact.lines[0][name], rel=0.05)
    assert desk.lines[0][name] != exact.lines[0][name]


def test_in_bfloat16_sampler_and_trainer_differ_by_rounding_only(tiny_model, tmp_path) -> None:
    _, half, _ = trained("grpo", opened(tiny_model, dtype="bfloat16"), tmp_path / "16")
    _, exact, _ = trained("grpo", opened(tiny_model, dtype="float32"), tmp_path / "32")
    for line in half.lines:
        assert 1e-4 < line["ratio/first_gap_mean"] < 0.05
        assert line["ratio/first_gap_mean"] < line["ratio/first_gap"] < 0.3
    assert all(line["ratio/first_gap_mean"] < 1e-5 for line in exact.lines)


def test_a_sampler_that_disagrees_rings_and_where_fp32_should_agree_stops_at_once(tiny_model, tmp_path) -> None:
    half = opened(tiny_model, dtype="bfloat16")
    _, _, gym = trained("grpo", half, tmp_path / "a")
    for update, rows in gym.memory.items():
        gym.memory[update] = [
            (c.model_copy(update={"logprobs": tuple(x - 0.5 for x in c.logprobs or ())}), g) for c, g in rows
        ]
    with pytest.raises(TrainingStopped, match=r"by 0\.5\d? nats a token, over alarms\.sampler_gap_at_most"):
        trained("grpo", half, tmp_path / "b", Gym(half, gym.score, memory=gym.memory))
    exact = opened(tiny_model, dtype="float32")
    with pytest.raises(RuntimeError, match="sampler and the trainer"):
        trained("grpo", exact, tmp_path / "c", Gym(exact, gym.score, memory=gym.memory))


def test_the_alarm_hears_of_vllm_under_trls_name() -> None:
    alarms = Alarms(AlarmSettings(patience=1))
    alarms.look(_in_our_names({"loss": 0.1, VLLM_GAP: 0.02}), update=1)
    with pytest.raises(TrainingStopped, match="sampler_gap_at_most"):
        alarms.look(_in_our_names({"loss": 0.1, VLLM_GAP: 0.2}), update=2)


class Elsewhere:
    """What a module on a GPU says of itself: there is none here."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype, self.device = dtype, torch.device("cuda")


def test_how_far_a_gpu_may_be_from_itself_is_stated() -> None:
    plain = torch.nn.Linear(1, 1)
    module = type("M", (), {"dtype": torch.bfloat16, "device": plain.weight.device})()
    assert start_may_differ(module) == 0.0
    assert start_may_differ(Elsewhere(torch.float32)) == 1e-3
    assert start_may_differ(Elsewhere(torch.bfloat16)) == 0.5
    dpo = DPO(settings_of("trainers", "dpo").model_validate({"kind": "dpo"}))  # type: ignore[arg-type]
    for dtype, most in ((torch.float32, 1e-3), (torch.bfloat16, 2.0)):
        assert dpo._gap_at_most(TinyBackbone(Elsewhere(dtype), None), longest=20) == pytest.approx(most)


# ---------------------------------------------------------------- on a base in 4 bits


@pytest.mark.skipif(not installed("bitsandbytes"), reason="the extra qlora is not installed")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", sorted(SETTINGS))
def test_a_base_in_4_bits_can_be_trained_on(tiny_model, tmp_path, kind: str, dtype: str) -> None:
    local = opened(tiny_model, dtype=dtype, quantize="4bit")
    before = [p.detach().clone() for p in local.module.parameters()]
    on_a_gpu = {"gradient_checkpointing": dtype == "bfloat16"}  # as both are by default there
    result, desk, _ = trained(kind, local, tmp_path, **on_a_gpu)
    assert len(desk.lines) == result.step == 2
    after = list(local.module.parameters())
    assert all(torch.equal(a, b) and not b.requires_grad for a, b in zip(before, after, strict=True))
    tensors = load_file(result.adapter / "adapter_model.safetensors")
    assert len(tensors) == 28  # A and B on seven layers of two blocks: all-linear, without the head
    assert {t.dtype for t in tensors.values()} == {torch.float32}  # also where TRL would round them
    assert {t.dtype for t in state_of(desk).values()} == {torch.float32}
    gap = result.facts.get("start/gap", desk.lines[0].get("start/gap", 0.0))
    assert gap == 0.0
    if dtype == "float32" and kind in ("grpo", "ppo"):
        assert desk.lines[0]["ratio/first_gap"] < 1e-4  # sampler and trainer compute with the same quantised weights


@pytest.mark.skipif(not installed("bitsandbytes"), reason="the extra qlora is not installed")
def test_a_second_round_on_4_bits_starts_from_the_first(tiny_model, tmp_path) -> None:
    local = opened(tiny_model, dtype="float32", quantize="4bit")
    first, _, _ = trained("dpo", local, tmp_path / "1")
    for kind in ("grpo", "dpo", "trl_dpo"):
        worn = local.wearing(first.adapter)
        result, desk, _ = trained(kind, worn, tmp_path / kind, Gym(worn, share_below(120)))
        assert result.facts.get("start/gap", desk.lines[0].get("start/gap")) == 0.0
        assert result.facts["adapter_hash"] != first.facts["adapter_hash"]
