"""Whole on-policy trainings of a tiny model: what they learn, leave, report, refuse, and go on from."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from practice_parts import Gym, prompts, share_below
from pydantic import ValidationError
from training_parts import Desk

from dressage.models.local import Settings as LocalSettings
from dressage.models.local.model import LocalModel
from dressage.models.local.model import open as open_local
from dressage.plugins import open_kind, settings_of
from dressage.protocols import Trained
from dressage.trainers._on_policy import AlarmSettings
from dressage.trainers._on_policy.alarms import Alarms, TrainingStopped
from dressage.trainers._on_policy.telling import mean_of

KINDS = ("ppo", "grpo", "rloo")
COMMON = 120
"""About a fifth of what the tiny model says has a smaller id."""


def settings(kind: str, **more: Any) -> Any:
    """Quick settings of a kind."""
    base: dict[str, Any] = {
        "kind": kind,
        "updates": 3,
        "prompts_per_update": 4,
        "per_prompt": 4,
        "microbatch_prompts": 2,
        "learning_rate": 3e-3,
        "save_every": 1,
        "kl": {"kind": "fixed", "coefficient": 0.01},
        "lora": {"r": 4, "alpha": 8},
    }
    if kind == "ppo":
        base |= {"epochs": 1, "critic": {"kind": "head", "warmup_updates": 0}}
    return settings_of("trainers", kind).model_validate(base | more)


@pytest.fixture
def local(tiny_model: Path) -> LocalModel:
    return open_local(LocalSettings(path=str(tiny_model), dtype="float32", device="cpu"))


def trained(
    local: LocalModel, folder: Path, gym: Gym | None = None, *, kind: str = "grpo", n: int = 8, **more: Any
) -> tuple[Trained, Desk, Gym]:
    desk, gym = Desk(folder), gym or Gym(local, share_below(COMMON))
    trainer = open_kind(settings(kind, **more), practice=gym.practice())
    return trainer.train(prompts(n), local, desk.workplace), desk, gym


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_reports_and_starts_at_its_reference(local, tmp_path, kind: str) -> None:
    result, desk, gym = trained(local, tmp_path, kind=kind)
    first = desk.lines[0]
    assert result.step == 3
    assert [line["step"] for line in desk.lines] == [1, 2, 3]
    assert first["start/gap"] == 0.0
    assert abs(first["objective/kl"]) < 1e-3  # the sampler's numbers against the trainer's: rounding only
    assert first["ratio/first_gap"] < 1e-4
    assert first["ratio/mean"] == pytest.approx(1, abs=1e-4)
    assert first["policy/clipfrac"] == 0
    wanted = {"objective/scores", "objective/scores_std", "objective/kl_coefficient", "policy/loss", "policy/approx_kl"}
    wanted |= {"policy/entropy", "policy/grad_norm", "ratio/max", "judge/failed", "judge/cost", "reply/truncated"}
    wanted |= {"time/drawing", "time/judging", "time/scoring", "time/learning", "rate/drawing_tokens_per_second"}
    assert wanted <= set(first)
    assert ({"value/loss", "value/explained_variance"} <= set(first)) == (kind == "ppo")
    assert gym.drawn == [1, 2, 3]
    assert all(len(rows) == 16 for rows in gym.memory.values())
    shapes = [m.weight.shape for n, m in local.module.named_modules() if n.endswith("_proj")]
    assert result.facts["trainable_parameters"] == sum(4 * (a + b) for a, b in shapes)
    assert not any("time" in name or "rate" in name for name in result.facts)
    assert sorted(p.name for p in result.adapter.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


@pytest.mark.parametrize("critic", ["head", "adapter"])
def test_both_critics_learn_to_expect(local, tmp_path, critic: str) -> None:
    _, desk, _ = trained(
        local,
        tmp_path,
        Gym(local, lambda c: len(c.token_ids) / 12),
        kind="ppo",
        updates=6,
        kl={"kind": "fixed", "coefficient": 0.0},
        learning_rate=1e-6,
        critic={"kind": critic, "learning_rate": 1e-2, "warmup_updates": 0, "clip": 10.0},
    )
    losses = [line["value/loss"] for line in desk.lines]
    assert losses[-1] < losses[0] / 2


def test_while_the_critic_warms_up_the_policy_stays(local, tmp_path) -> None:
    critic = {"kind": "head", "warmup_updates": 2}
    _, desk, _ = trained(local, tmp_path, kind="ppo", critic=critic)
    assert ["policy/grad_norm" in line for line in desk.lines] == [False, False, True]
    assert all("value/grad_norm" in line for line in desk.lines)
    with pytest.raises(ValidationError, match="leaves none of 3 updates in which the policy learns"):
        settings("ppo", critic={"kind": "head", "warmup_updates": 3})


@pytest.mark.parametrize("kind", KINDS)
def test_microbatches_change_nothing_that_is_learnt(local, tmp_path, kind: str) -> None:
    runs = [trained(local, tmp_path / str(m), kind=kind, microbatch_prompts=m)[1].lines for m in (4, 1)]
    for mine, theirs in zip(*runs, strict=True):
        for name in ("policy/loss", "policy/grad_norm", "objective/kl", "objective/scores"):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("kind", [*KINDS, "ppo-adapter"])
def test_going_on_from_any_update_ends_in_the_same_bytes(local, tmp_path, kind: str) -> None:
    more: dict[str, Any] = {"updates": 4, "minibatches": 2, "schedule": "linear"}
    if kind == "ppo-adapter":
        more |= {"critic": {"kind": "adapter", "warmup_updates": 1, "learning_rate": 1e-3}}
        kind = "ppo"
    more |= {"kl": {"kind": "adaptive", "coefficient": 0.05, "target": 0.01, "horizon": 100}}
    whole, desk, _ = trained(local, tmp_path / "whole", kind=kind, **more)

    class Killed(BaseException):
        pass

    for last in (1, 2, 3):
        gym, other = Gym(local, share_below(COMMON)), Desk(tmp_path / f"killed-{last}")
        dying = replace(gym.practice(), keep=_dies_after(gym, last, Killed))
        trainer = open_kind(settings(kind, **more), practice=dying)
        with pytest.raises(Killed):
            trainer.train(prompts(8), local, other.workplace)
        result = open_kind(settings(kind, **more), practice=gym.practice()).train(prompts(8), local, other.workplace)
        assert gym.drawn == [1, 2, 3, 4]  # what was drawn and graded before the end is not drawn again
        weights = [(r.adapter / "adapter_model.safetensors").read_bytes() for r in (whole, result)]
        assert weights[0] == weights[1]
        assert result.facts == whole.facts
        assert [_timeless(line) for line in other.lines] == [_timeless(line) for line in desk.lines]


def _dies_after(gym: Gym, update: int, killed: type[BaseException]) -> Any:
    """Keeps the draws of an update, then dies before anything is learnt from them."""

    def keep(now: int, rows: Any) -> None:
        gym.memory[now] = list(rows)
        if now == update + 1:
            raise killed

    return keep


def _timeless(line: dict[str, Any]) -> dict[str, Any]:
    return {name: x for name, x in line.items() if not name.startswith(("time/", "rate/"))}


def test_failed_judgements_are_left_out(local, tmp_path) -> None:
    def score(candidate: Any) -> float | None:
        return None if candidate.index == 0 else share_below(COMMON)(candidate)

    _, desk, gym = trained(local, tmp_path, Gym(local, score))
    assert [line["judge/failed"] for line in desk.lines] == [0.25] * 3
    # the same without the failed ones ever drawn is the same update
    kept = {u: [row for row in rows if row[0].index] for u, rows in gym.memory.items()}
    again = Gym(local, score, memory={1: kept[1]})
    _, other, _ = trained(local, tmp_path / "b", again, updates=1)
    for name in ("policy/loss", "policy/grad_norm", "objective/scores"):
        assert other.lines[0][name] == pytest.approx(desk.lines[0][name], abs=1e-6)


def test_a_judge_that_fails_too_often_stops_the_training(local, tmp_path) -> None:
    gym = Gym(local, lambda c: None)
    with pytest.raises(TrainingStopped, match="judge failed on 100%"):
        trained(local, tmp_path, gym)
    assert sorted(gym.memory) == [1]  # the update that stopped it is not kept
    gym.score = share_below(COMMON)
    result, _, _ = trained(local, tmp_path, gym)  # mended, it goes on
    assert result.step == 3
    assert gym.drawn == [1, 2, 2, 3]


def test_an_update_without_grades_is_no_zero(local, tmp_path) -> None:
    fails = iter([False] * 16 + [True] * 16 + [False] * 32)
    gym = Gym(local, lambda c: None if next(fails) else 0.25 + c.index / 10)
    result, desk, _ = trained(local, tmp_path, gym, updates=4, alarms={"failures_at_most": 1.0})
    assert ["objective/scores" in line for line in desk.lines] == [True, False, True, True]
    assert result.facts["end/score"] == pytest.approx(0.4)
    assert mean_of("score", [{"score": 0.4}, {"length": 3.0}, {"score": 0.6}]) == pytest.approx(0.5)


def test_a_watch_judge_without_grades_beside_it_rings_no_alarm() -> None:
    alarms = Alarms(AlarmSettings(watch_falls_by=0.1, patience=1))
    alarms.watch(0.9, update=1)  # nothing graded yet: not a mean of 0 that later grades rise from
    alarms.look({"objective/scores": 0.5}, update=2)
    alarms.watch(0.6, update=2)
    assert alarms.watched == [(0.6, 0.5)]


def test_a_policy_that_runs_away_stops_the_training(local, tmp_path) -> None:
    with pytest.raises(TrainingStopped, match=r"kl_at_most .*raise kl.coefficient"):
        trained(
            local, tmp_path, updates=20, learning_rate=0.03, alarms={"kl_at_most": 0.5, "patience": 1, "watch_every": 5}
        )


def test_a_watch_judge_that_falls_while_grades_rise_stops_the_training(local, tmp_path) -> None:
    seen = iter((0.5, 0.6, 0.45, 0.4, 0.3))
    gym = Gym(local, share_below(COMMON), watch=lambda update: next(seen))
    with pytest.raises(TrainingStopped, match="training judge can be fooled"):
        trained(local, tmp_path, gym, updates=12, learning_rate=0.01, alarms={"watch_every": 2, "watch_falls_by": 0.1})


def test_truncated_replies_can_be_left_out_or_cost(local, tmp_path) -> None:
    from dressage.trainers._on_policy.rollout import rollout_of

    _, _, gym = trained(local, tmp_path, updates=1)
    rows, asked = gym.memory[1], {p.id: p for p in prompts(8)}
    cut = torch.tensor([c.finish == "length" for c, _ in rows])
    assert 0 < int(cut.sum()) < len(rows)
    made = {
        how: rollout_of(rows, asked, settings("grpo", truncated=how, **more), tokenizer=local.tokenizer)
        for how, more in (("keep", {}), ("penalise", {"truncation_penalty": 0.3}), ("mask", {}))
    }
    assert torch.equal(made["keep"].mask_ST, made["keep"].real_ST)
    assert torch.equal(made["mask"].mask_ST.any(1), ~cut)
    assert torch.allclose(made["keep"].score_S - made["penalise"].score_S, 0.3 * cut.float())
    assert torch.equal(made["mask"].score_S, made["keep"].score_S)


def test_a_second_round_starts_from_the_first(local, tmp_path) -> None:
    first, _, _ = trained(local, tmp_path / "1", learning_rate=1e-2)
    worn = local.wearing(first.adapter)
    for kind in KINDS:
        result, desk, _ = trained(worn, tmp_path / kind, Gym(worn, share_below(COMMON)), kind=kind)
        assert desk.lines[0]["start/gap"] == 0.0
        assert abs(desk.lines[0]["objective/kl"]) < 1e-3
        assert result.facts["adapter_hash"] != first.facts["adapter_hash"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_adapter_loads_in_plain_peft_and_merges(local, tmp_path, kind: str, tiny_model) -> None:
    from transformers import AutoModelForCausalLM

    result, _, _ = trained(local, tmp_path, kind=kind)
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype="float32").eval()
    ids = torch.tensor([[1, 40, 50, 60]])
    with torch.no_grad():
        plain = base(ids).logits
        model = PeftModel.from_pretrained(base, str(result.adapter)).eval()
        worn = model(ids).logits
        merged = model.merge_and_unload()(ids).logits
    assert not torch.allclose(plain, worn, atol=1e-4)
    assert torch.allclose(worn, merged, atol=1e-4)


def test_a_module_is_left_as_it_was_found(local, tmp_path) -> None:
    before = {name: (p.data_ptr(), p.requires_grad) for name, p in local.module.named_parameters()}
    trained(local, tmp_path, kind="ppo", critic={"kind": "adapter", "warmup_updates": 0})
    assert {name: (p.data_ptr(), p.requires_grad) for name, p in local.module.named_parameters()} == before


def test_sampling_that_cannot_be_learnt_from_is_refused(local, tmp_path) -> None:
    from dressage.protocols import Sampling

    for sampling in (Sampling(temperature=0), Sampling(top_p=0.9)):
        gym = Gym(local, share_below(COMMON), sampling=sampling)
        with pytest.raises(ValueError, match="top_p"):
            trained(local, tmp_path, gym)
        assert gym.drawn == []


def test_nan_stops_before_the_weights_are_touched(local, tmp_path) -> None:
    _, _, gym = trained(local, tmp_path, updates=1)
    rows = [(c.model_copy(update={"logprobs": (float("nan"),) * len(c.token_ids)}), g) for c, g in gym.memory[1]]
    broken = Gym(local, share_below(COMMON), memory={1: rows})
    with pytest.raises((FloatingPointError, RuntimeError), match="nan"):
        trained(local, tmp_path / "b", broken)
    assert not (tmp_path / "b" / "adapter").exists()
    assert not any("lora" in name for name, _ in local.module.named_modules())
