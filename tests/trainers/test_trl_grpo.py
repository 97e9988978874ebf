"""Whole trl_grpo trainings of a tiny model: what they learn, keep and refuse, and what we rely on in TRL."""

import gc
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
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
from dressage.plugins import open_kind
from dressage.protocols import Sampling, Trained
from dressage.records import Candidate, Failure, Grade, Message, Prompt
from dressage.seeds import seed_for
from dressage.tokens import end_ids, prompt_ids
from dressage.trainers._on_policy.alarms import TrainingStopped
from dressage.trainers.trl_grpo import Settings

HERE = Path(__file__).parent
COMMON = 120
"""About a fifth of what the tiny model says has a smaller id."""


@pytest.fixture(autouse=True, scope="module")
def imports_are_no_garbage() -> Iterator[None]:
    """accelerate collects garbage at each start of a training: half its time here, were all of torch looked through."""
    __import__("dressage.trainers.trl_grpo.trainer")
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def settings(**more: Any) -> Settings:
    base = {
        "steps": 3,
        "generation_batch_size": 16,
        "num_generations": 4,
        "per_device_train_batch_size": 8,
        "learning_rate": 3e-3,
        "beta": 0.01,
        "save_every": 1,
        "lora": {"r": 4, "alpha": 8},
    }
    return Settings.model_validate(base | more)


@pytest.fixture
def local(tiny_model: Path) -> LocalModel:
    return open_local(LocalSettings(path=str(tiny_model), dtype="float32", device="cpu"))


def trained(
    local: LocalModel, folder: Path, gym: Gym | None = None, *, n: int = 8, seed: int = 0, **more: Any
) -> tuple[Trained, Desk, Gym]:
    desk, gym = Desk(folder, seed=seed), gym or Gym(local, share_below(COMMON))
    return open_kind(settings(**more), practice=gym.practice()).train(prompts(n), local, desk.workplace), desk, gym


def _configs(module: Any) -> str:
    return json.dumps([module.config.to_dict(), module.generation_config.to_dict()], default=str, sort_keys=True)


def test_a_run_reports_keeps_its_records_and_leaves_a_plain_adapter(local, tmp_path, capfd) -> None:
    before = {name: (p.data_ptr(), p.requires_grad) for name, p in local.module.named_parameters()}
    attributes, configs = set(vars(local.module)), _configs(local.module)
    result, desk, gym = trained(local, tmp_path)
    assert capfd.readouterr() == ("", "")
    assert {name: (p.data_ptr(), p.requires_grad) for name, p in local.module.named_parameters()} == before
    assert (set(vars(local.module)), _configs(local.module)) == (attributes, configs)
    first = desk.lines[0]
    assert [line["step"] for line in desk.lines] == [1, 2, 3]
    assert (result.facts["start/gap"], first["kl"], first["objective/kl"]) == (0.0, 0.0, 0.0)
    wanted = {"loss", "grad_norm", "objective/scores", "objective/scores_std", "policy/entropy", "judge/failed"}
    wanted |= {"judge/cost", "reply/tokens", "reply/truncated", "reply/count", "clip_ratio/region_mean", "time/step"}
    assert wanted <= set(first)
    assert desk.lines[1]["objective/kl"] == pytest.approx(desk.lines[1]["kl"] * desk.lines[1]["reply/tokens"])
    assert gym.drawn == []  # TRL draws
    assert sorted(gym.memory) == [1, 2, 3]
    shapes = [m.weight.shape for n, m in local.module.named_modules() if n.endswith("_proj")]
    assert result.facts["trainable_parameters"] == sum(4 * (a + b) for a, b in shapes)
    assert not any("time" in name for name in result.facts)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter", "checkpoints"]
    ids = torch.tensor([[1, 40, 50, 60]])
    with torch.no_grad():
        plain = local.module(ids).logits
        model = PeftModel.from_pretrained(local.module, str(result.adapter)).eval()
        worn, merged = model(ids).logits, model.merge_and_unload()(ids).logits
    assert not torch.allclose(plain, worn, atol=1e-4)
    assert torch.allclose(worn, merged, atol=1e-4)


def test_what_was_drawn_is_kept_as_candidates(local, tmp_path) -> None:
    _, desk, gym = trained(local, tmp_path, steps=2)
    rows, ends = gym.memory[1], end_ids(local.tokenizer, local.module.generation_config)
    assert len(rows) == 16
    assert {c.finish for c, _ in rows} == {"stop", "length"}
    for candidate, grade in rows:
        ids = candidate.token_ids
        assert (candidate.finish == "stop") == (ids[-1] in ends)
        assert candidate.finish == "stop" or len(ids) == 12
        assert candidate.text == local.tokenizer.decode(ids, skip_special_tokens=True)
        assert isinstance(grade, Grade)
        assert grade.score == share_below(COMMON)(candidate)
    asked = [rows[i][0].prompt_id for i in range(0, 16, 4)]
    assert [c.prompt_id for c, _ in rows] == [p for p in asked for _ in range(4)]
    assert len({*asked, *(c.prompt_id for c, _ in gym.memory[2])}) == 8  # all prompts in the first epoch
    assert [c.index for c, _ in rows] == [0, 1, 2, 3] * 4
    assert len({c.id for u in (1, 2) for c, _ in gym.memory[u]}) == 32
    scores = [g.score for _, g in rows if isinstance(g, Grade)]
    assert desk.lines[0]["reward"] == pytest.approx(sum(scores) / 16, abs=1e-6)


def test_failed_judgements_are_no_scores(local, tmp_path) -> None:
    def score(candidate: Candidate) -> float | None:
        return None if candidate.index == 0 else share_below(COMMON)(candidate)

    _, desk, gym = trained(local, tmp_path, Gym(local, score), steps=2)
    graded = [g.score for _, g in gym.memory[1] if isinstance(g, Grade)]
    assert sum(isinstance(g, Failure) for _, g in gym.memory[1]) == 4
    assert len(graded) == 12
    assert desk.lines[0]["judge/failed"] == 0.25
    assert desk.lines[0]["reward"] == pytest.approx(sum(graded) / 12, abs=1e-6)  # with 0 for None it would be less
    with pytest.raises(TrainingStopped, match="the judge failed on 100%"):
        trained(local, tmp_path / "all", Gym(local, lambda c: None), steps=5)


class Killed(BaseException):
    pass


def test_going_on_ends_in_the_same_bytes_and_pays_no_label_twice(local, tmp_path) -> None:
    more: dict[str, Any] = {"steps": 12, "minibatches": 2, "num_iterations": 2, "save_every": 4, "schedule": "linear"}
    asked: list[str] = []

    def score(candidate: Candidate) -> float:
        asked.append(candidate.id)
        return share_below(COMMON)(candidate)

    whole, desk, before = trained(local, tmp_path / "whole", Gym(local, score), n=5, **more)  # over two epochs of five
    once = sorted(asked)
    asked.clear()
    gym, other = Gym(local, score), Desk(tmp_path / "killed")
    for last in (1, 2):  # killed again and again, each time with labels that no checkpoint knows

        def keep(update: int, rows: Any, last: int = last) -> None:
            gym.memory[update] = list(rows)
            if update == last + 1:
                raise Killed

        dying = open_kind(settings(**more), practice=replace(gym.practice(), keep=keep))
        with pytest.raises(Killed):
            dying.train(prompts(5), local, other.workplace)
        torch.manual_seed(last)  # another process would have other noise
    result = open_kind(settings(**more), practice=gym.practice()).train(prompts(5), local, other.workplace)
    assert sorted(asked) == once
    assert gym.memory == before.memory
    files = [(r.adapter / "adapter_model.safetensors").read_bytes() for r in (whole, result)]
    assert files[0] == files[1]
    assert result.facts == whole.facts
    assert [_timeless(line) for line in other.lines] == [_timeless(line) for line in desk.lines]


def _timeless(line: dict[str, Any]) -> dict[str, Any]:
    return {name: x for name, x in line.items() if not name.startswith("time/")}


def test_replies_that_differ_after_a_crash_are_judged_and_the_others_not(local, tmp_path) -> None:
    _, _, gym = trained(local, tmp_path / "a", steps=1)
    rows = gym.memory[1]
    changed = rows[0][0].model_copy(update={"token_ids": (5, 6)})
    asked: list[str] = []

    def score(candidate: Candidate) -> float:
        asked.append(candidate.id)
        return 0.5

    second = Gym(local, score, memory={1: [(changed, rows[0][1]), *rows[1:]]})
    trained(local, tmp_path / "b", second, steps=1)
    assert asked == [rows[0][0].id]
    assert second.memory[1][1:] == rows[1:]


def test_a_judge_has_a_deadline_and_its_errors_pass_through(local, tmp_path) -> None:
    release = threading.Event()
    gym = Gym(local, lambda c: float(release.wait(30)))
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"judge_timeout \(0.2 s\)"):
        trained(local, tmp_path, gym, judge_timeout=0.2)
    release.set()
    assert time.monotonic() - began < 20

    def raises(candidate: Candidate) -> float:
        raise LookupError("no such judge")

    with pytest.raises(LookupError, match="no such judge"):
        trained(local, tmp_path / "b", Gym(local, raises))
    short = replace(Gym(local, share_below(COMMON)).practice(), reward=lambda asked, drawn: [])
    with pytest.raises(ValueError, match="0 answers to 16 replies"):
        open_kind(settings(), practice=short).train(prompts(8), local, Desk(tmp_path / "c").workplace)
    assert not any("lora" in name for name, _ in local.module.named_modules())


def test_the_reference_is_the_policy_training_starts_from(local, tmp_path) -> None:
    first, _, _ = trained(local, tmp_path / "1", learning_rate=1e-2)
    worn = local.wearing(first.adapter)
    second, desk, _ = trained(worn, tmp_path / "2", Gym(worn, share_below(COMMON)))
    assert second.facts["start/gap"] == 0.0  # not the base, from which the first round has moved
    assert desk.lines[0]["kl"] == 0.0
    assert second.facts["adapter_hash"] != first.facts["adapter_hash"]
    with pytest.raises(ValueError, match="start from"):
        trained(worn, tmp_path / "3", lora={"r": 2, "alpha": 8})


def test_the_watch_judge_looks_at_the_policy_as_it_learns(local, tmp_path) -> None:
    looks = []

    def watch(update: int) -> float:
        (reply,) = local.as_is(update).complete(
            [prompts(1)[0].messages], sampling=Sampling(max_new_tokens=4), seeds=[update], done=lambda i, answer: None
        )
        looks.append((update, reply.text))
        return 0.5

    watched, desk, _ = trained(
        local, tmp_path / "w", Gym(local, share_below(COMMON), watch=watch), steps=4, alarms={"watch_every": 2}
    )
    assert [update for update, _ in looks] == [2, 4]
    assert [line["step"] for line in desk.lines if "watch/prefers" in line] == [2, 4]
    alone, _, _ = trained(local, tmp_path / "a", steps=4, alarms={"watch_every": 2})
    assert watched.facts["adapter_hash"] == alone.facts["adapter_hash"]  # looking changes nothing


def test_a_policy_that_runs_away_stops_the_training(local, tmp_path) -> None:
    alarms = {"kl_at_most": 0.5, "patience": 1}
    with pytest.raises(TrainingStopped, match="kl_at_most"):
        trained(local, tmp_path, steps=20, save_every=20, learning_rate=0.03, alarms=alarms)


def test_nan_stops_before_the_weights_are_touched(local, tmp_path) -> None:
    trainer = open_kind(settings(), practice=Gym(local, share_below(COMMON)).practice())
    local.module.get_output_embeddings().weight.data[7] = float("inf")
    with pytest.raises((FloatingPointError, RuntimeError)):
        trainer.train(prompts(8), local, Desk(tmp_path).workplace)
    assert not (tmp_path / "adapter").exists()
    assert not any("lora" in name for name, _ in local.module.named_modules())


def test_two_processes_share_a_generation_and_one_of_them_judges(tiny_model, tmp_path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, str(HERE / "two_trl_processes.py"), str(tiny_model), str(tmp_path), port]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    leader, other = (json.loads((tmp_path / f"told-{rank}.json").read_text()) for rank in (0, 1))
    assert leader["processes"] == other["processes"] == 2
    assert leader["facts"] == other["facts"]  # the adapter's hash among them
    assert [line["step"] for line in leader["lines"]] == [1, 2, 3, 4]
    assert other["lines"] == []
    assert other["drawn"] == {}
    assert sorted(leader["drawn"]) == ["1", "2"]
    for rows in leader["drawn"].values():
        assert [index for _, index, _ in rows] == [0, 1, 2, 3] * 4
        assert len({prompt for prompt, _, _ in rows}) == 4
        assert len({text for _, _, text in rows}) > 12  # no process repeats the other's noise
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()


@pytest.mark.parametrize("loss", ["grpo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "vespo"])
def test_every_loss_starts_at_its_reference_and_reaches_the_adapter(local, tmp_path, loss: str) -> None:
    more: dict[str, Any] = {"epsilon_high": 5.0} if loss == "cispo" else {}
    if loss == "luspo":
        more["importance_sampling_level"] = "sequence"
    result, _, _ = trained(local, tmp_path, steps=2, loss_type=loss, mask_truncated_completions=loss == "bnpo", **more)
    assert result.facts["start/gap"] == 0.0


def test_checkpointing_changes_nothing(local, tmp_path) -> None:
    runs = [trained(local, tmp_path / str(c), steps=2, gradient_checkpointing=c)[1].lines for c in (False, True)]
    for mine, theirs in zip(*runs, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
        assert mine["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)


def test_what_cannot_be_learnt_from_is_refused_before_anything_is_drawn(local, tmp_path) -> None:
    for sampling in (Sampling(temperature=0), Sampling(top_p=0.9)):
        with pytest.raises(ValueError, match="top_p"):
            trained(local, tmp_path, Gym(local, share_below(COMMON), sampling=sampling))
    with pytest.raises(ValueError, match="no prompts"):
        trained(local, tmp_path, n=0)
    with pytest.raises(ValueError, match="8 of 8 rows"):
        trained(local, tmp_path, Gym(local, share_below(COMMON), sampling=Sampling(max_new_tokens=1020)))
    with pytest.raises(ValueError, match=r"not installed here.*trl\[vllm\]"):
        trained(local, tmp_path, vllm={"mode": "colocate"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"minibatches": 2, "steps": 4, "save_every": 3}, "no half-learnt generation"),
        ({"minibatches": 2, "save_every": 2}, "learnt from in part"),
        ({"beta": 0}, "greater than 0"),
        ({"num_generations": 5}, "multiple of num_generations"),
        ({"per_device_train_batch_size": 3}, "per_device_train_batch_size"),
        ({"loss_type": "sapo", "epsilon_high": 0.3}, "reads neither"),
        ({"loss_type": "cispo"}, "largest ratio itself"),
        ({"epsilon_high": 20}, "clips nothing"),
        ({"importance_sampling_level": "sequence"}, "by its length"),
        ({"loss_type": "luspo"}, "not defined"),
        ({"loss_type": "vespo", "importance_sampling_level": "sequence"}, "not defined"),
        ({"lora": {"dropout": 0.1}}, "dropout"),
        ({"vllm": {"mode": "server"}}, "base_url"),
    ],
)
def test_settings_that_would_mislead_are_refused(more: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        settings(**more)


# ---------------------------------------------------------------- what we rely on in TRL


def test_contract_prompts_are_our_tokens_failures_have_no_advantage_and_the_order_is_ours(local, tmp_path) -> None:
    from dressage.trainers._lora.adapter import adapted
    from dressage.trainers._trl import lent
    from dressage.trainers.trl_grpo.trainer import in_order

    tricky = Prompt.of((Message(role="user", content="<|im_end|> say <|im_start|>"),), source="made", split="train")
    open_ended = Prompt.of(
        (Message(role="user", content="go on"), Message(role="assistant", content="I was")),
        source="made",
        split="train",
    )
    data = [tricky, open_ended]
    gym = Gym(local, lambda c: None if c.index == 1 else c.index / 4)
    trainer = open_kind(settings(steps=1, generation_batch_size=8), practice=gym.practice())
    module, tokenizer = local.module, local.tokenizer
    with lent(module, tokenizer), adapted(module, settings().lora, seed=0, start=None) as model:
        grpo = trainer._trainer(model, data, local, Desk(tmp_path).workplace)
        order = in_order(data, settings(steps=1, generation_batch_size=8), seed=0)
        rows = [row for batch in grpo.get_train_dataloader() for row in batch]
        assert [row["prompt_id"] for row in rows] == [p.id for p in order for _ in range(4)]
        grpo.model.train()
        output = grpo._generate_and_score_completions(rows)
        grpo.async_loop.call_soon_threadsafe(grpo.async_loop.stop)
    by_id = {p.id: p for p in data}
    ours = local.logprobs(
        [by_id[c.prompt_id].messages for c, _ in gym.memory[1]],
        [c.token_ids for c, _ in gym.memory[1]],
        temperature=gym.sampling.temperature,
    )
    for mine, theirs in zip(ours, output["ref_per_token_logps"], strict=True):
        assert torch.allclose(torch.tensor(mine), theirs[: len(mine)], atol=1e-4)  # at the sampling temperature
    for i, row in enumerate(rows):
        ids = output["prompt_ids"][i][output["prompt_mask"][i].bool()].tolist()
        assert ids == prompt_ids(tokenizer, by_id[row["prompt_id"]].messages)
    scores = torch.tensor([0.0, 0.5, 0.75])
    expected = (scores - scores.mean()) / (scores.std() + 1e-4)
    for group in output["advantages"].view(2, 4):
        assert group[1] == 0
        assert torch.allclose(group[[0, 2, 3]], expected, atol=1e-5)


def test_contract_trl_draws_from_the_distribution_it_scores(local, tmp_path) -> None:
    """E[−log p(token)] over drawn tokens is the mean entropy of what they were drawn from."""
    _, desk, gym = trained(local, tmp_path, steps=1, generation_batch_size=64)
    asked = {p.id: p.messages for p in prompts(8)}
    rows = [c for c, _ in gym.memory[1]]
    found = local.logprobs(
        [asked[c.prompt_id] for c in rows], [c.token_ids for c in rows], temperature=gym.sampling.temperature
    )
    drawn = [-x for reply in found for x in reply]
    assert len(drawn) > 400
    assert sum(drawn) / len(drawn) == pytest.approx(desk.lines[0]["policy/entropy"], abs=0.25)


def test_contract_trl_saves_nothing_between_generations_and_counts_from_zero() -> None:
    """What makes a checkpoint between generations whole; trl.md §3.3 measured that it is not whole elsewhere."""
    import inspect

    from trl import GRPOTrainer

    source = inspect.getsource(GRPOTrainer._prepare_inputs)
    assert "generate_every = self.args.steps_per_generation * self.num_iterations" in source
    assert "if self._step % generate_every == 0 or self._buffered_inputs is None:" in source


@pytest.mark.parametrize("vllm", [{"mode": "colocate"}, {"mode": "server", "base_url": "http://localhost:8000"}])
def test_contract_trl_knows_what_it_is_told_about_vllm(tmp_path, vllm: dict[str, Any]) -> None:
    """Its config takes the keywords; that vLLM then draws is untried here."""
    from trl import GRPOConfig

    from dressage.trainers.trl_grpo.trainer import by_vllm

    told = by_vllm(settings(vllm=vllm).vllm)
    config = GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **told)
    assert {name: getattr(config, name) for name in told} == told
    assert config.use_vllm


def test_the_order_of_prompts_is_shuffled_epochs_by_seed() -> None:
    from dressage.trainers.trl_grpo.trainer import in_order

    data = prompts(5)
    orders = [[p.id for p in in_order(data, settings(steps=5), seed=seed_for(s))] for s in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert len(orders[0]) == 20
    assert all(len(set(orders[0][i : i + 5])) == 5 for i in range(0, 20, 5))
