"""A local model under a reward model: scores of a plain pass, and nothing left behind where a trainer is at work."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from dressage import tokens
from dressage.models.local import Settings
from dressage.models.local.model import LocalModel
from dressage.plugins import open_kind
from dressage.protocols import SCORE_HEAD, SCORE_SCALE, Score, Trouble
from dressage.records import Message
from dressage.trainers._lora import LoraSettings
from dressage.trainers._lora.adapter import adapted, adapter_hash
from reward_parts import reward_model

ASKED = ("Where is my parcel?", "Hello")
SAID = ("It leaves the depot today.", "No.", "")


def conversation(asked: str, said: str) -> list[Message]:
    return [Message(role="user", content=asked), Message(role="assistant", content=said)]


CONVERSATIONS = [conversation(asked, said) for asked in ASKED for said in SAID]


@pytest.fixture
def model(tiny_model: Path) -> LocalModel:
    opened: LocalModel = open_kind(Settings(path=str(tiny_model), dtype="float32", device="cpu"))
    return opened


@pytest.fixture(scope="module")
def rewards(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reward_model(tiny_model, tmp_path_factory.mktemp("rewards") / "one")


def scored(model: LocalModel, rewards: Path) -> list[float]:
    answers = model.scalars(CONVERSATIONS, str(rewards), done=lambda i, a: None)
    return [answer.raw for answer in answers if isinstance(answer, Score)]


def plain_scores(tiny_model: Path, rewards: Path, tokenizer: Any) -> list[float]:
    """One plain pass of transformers and peft a reply: w · h + b at its last token."""
    module = AutoModelForCausalLM.from_pretrained(tiny_model, dtype="float32")
    PeftModel.from_pretrained(module, str(rewards))
    head = load_file(rewards / SCORE_HEAD)
    found = []
    for asked, said in CONVERSATIONS:
        ids = tokens.prompt_ids(tokenizer, [asked]) + tokens.reply_ids(tokenizer, [asked], said.content)
        with torch.inference_mode():
            hidden_TD = module.model(torch.tensor([ids])).last_hidden_state[0]
        found.append(float(hidden_TD[-1] @ head["weight"] + head["bias"]))
    return found


def test_scores_are_those_of_a_plain_pass_in_the_order_asked(model, tiny_model, rewards) -> None:
    told: dict[int, Score] = {}
    answers = model.scalars(CONVERSATIONS, str(rewards), done=told.__setitem__)
    assert [told[i] for i in range(6)] == answers
    assert [a.raw for a in answers] == pytest.approx(plain_scores(tiny_model, rewards, model.tokenizer), abs=1e-4)
    assert {a.deviation for a in answers} == {0.5}
    assert len({round(a.raw, 4) for a in answers}) == 6
    assert all(a.usage.read > 0 for a in answers)


def test_two_reward_models_and_the_base_take_turns(model, tiny_model, rewards, tmp_path) -> None:
    other = reward_model(tiny_model, tmp_path / "other", seed=1)
    labels = model.label_probabilities([[Message(role="user", content="Hello")]], [("A", "B")], done=lambda i, a: None)
    one, two = scored(model, rewards), scored(model, other)
    assert min(abs(a - b) for a, b in zip(one, two, strict=True)) > 1e-3
    assert (scored(model, rewards), scored(model, other)) == (one, two)
    again = model.label_probabilities([[Message(role="user", content="Hello")]], [("A", "B")], done=lambda i, a: None)
    assert again == labels


def trains(module: Any, ids: torch.Tensor) -> torch.Tensor:
    return module(ids).logits.float().logsumexp(-1).sum()


@pytest.mark.parametrize("judged_before", [False, True], ids=["trainer first", "judge first"])
@pytest.mark.parametrize("targets", [("q_proj",), "all-linear"], ids=["fewer layers", "all layers"])
def test_a_trainers_adapter_is_untouched_by_a_judge_on_its_backbone(model, rewards, targets, judged_before) -> None:
    expected = scored(model, rewards)
    module, ids = model.module, torch.tensor([[5, 6, 7, 8]])  # the judge's adapter is off again
    if judged_before:
        scored(model, rewards)
    with adapted(module, LoraSettings(r=3, alpha=6, dropout=0.5, targets=targets), seed=1, start=None) as policy:
        trainable = {name: p for name, p in policy.named_parameters() if p.requires_grad}
        for parameter in trainable.values():
            parameter.data.normal_(std=0.05)
        flags = {name: part.training for name, part in module.named_modules()}
        flags |= {name: True for name in flags if name.endswith("lora_dropout")}
        for name, part in module.named_modules():
            part.training = flags[name]
        trains(module.eval(), ids).backward()
        for name, part in module.named_modules():
            part.training = flags[name]
        before = adapter_hash(policy), {name: p.grad.clone() for name, p in trainable.items()}
        assert scored(model, rewards) == expected  # the judge's numbers know nothing of the policy
        assert {name for name, p in policy.named_parameters() if p.requires_grad} == set(trainable)
        assert adapter_hash(policy) == before[0]
        assert all(torch.equal(p.grad, before[1][name]) for name, p in trainable.items())
        assert {n: flags[n] for n in flags} == {n: p.training for n, p in module.named_modules() if n in flags}
        policy.zero_grad()
        trains(module.eval(), ids).backward()
        assert all(torch.equal(p.grad, before[1][name]) for name, p in trainable.items())
    assert not any("lora" in name for name, _ in module.named_modules())
    assert scored(model, rewards) == expected  # the trainer took its adapter off, and the judge's with it
    assert not any("lora" in name for name, _ in model.module.named_modules())


def test_nothing_is_said_by_peft(model, rewards, recwarn, capfd) -> None:
    with adapted(model.module, LoraSettings(r=2, alpha=4), seed=1, start=None):
        scored(model, rewards)
    assert [str(w.message) for w in recwarn if "PEFT" in str(w.message) or "adapter" in str(w.message)] == []
    assert capfd.readouterr() == ("", "")


def test_what_cannot_be_scored_is_said(model, tiny_model, rewards, tmp_path) -> None:
    long = conversation("Hello", "word " * (model.context() or 0))
    refused, fine = model.scalars([long, CONVERSATIONS[0]], str(rewards), done=lambda i, a: None)
    assert isinstance(refused, Trouble)
    assert isinstance(fine, Score)
    with pytest.raises(ValueError, match="must end with the assistant's turn"):
        model.scalars([[Message(role="user", content="Hello")]], str(rewards), done=lambda i, a: None)
    headless = reward_model(tiny_model, tmp_path / "headless")
    (headless / SCORE_SCALE).unlink()
    with pytest.raises(ValueError, match="it is no reward model"):
        scored(model, headless)
