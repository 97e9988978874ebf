"""The local model against plain forward passes and `generate`: the sampler, labels, log-probabilities, adapters."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from dressage import tokens
from dressage.models.local import Settings
from dressage.models.local.model import LocalModel
from dressage.plugins import open_kind
from dressage.protocols import Completion, Distribution, Sampling, Trouble
from dressage.records import Message

ASKED = ["Where is my parcel?", "My card was charged twice, why?", "Hello", "I lost my dog and the house is quiet."]
WARM = Sampling(temperature=0.8, max_new_tokens=12)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def opened(folder: Path, **settings: Any) -> LocalModel:
    model: LocalModel = open_kind(Settings(path=str(folder), dtype="float32", device="cpu", **settings))
    return model


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> LocalModel:
    return opened(tiny_model)


@pytest.fixture(scope="module")
def plain(tiny_model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()


def user(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


def drawn(model: LocalModel, texts: Sequence[str], seeds: Sequence[int], sampling: Sampling = WARM) -> list[Completion]:
    got = model.complete([user(t) for t in texts], sampling=sampling, seeds=seeds, done=lambda i, a: None)
    return [c for c in got if isinstance(c, Completion)]


def prompt_ids(model: LocalModel, text: str) -> list[int]:
    return tokens.prompt_ids(model.tokenizer, user(text))


def forward(plain: Any, prompt: Sequence[int], reply: Sequence[int], temperature: float) -> list[float]:
    """Log-probabilities of a reply by one plain pass over the whole sequence."""
    with torch.inference_mode():
        logits_TV = plain(torch.tensor([[*prompt, *reply]])).logits[0, len(prompt) - 1 : -1] / temperature
    return logits_TV.log_softmax(-1).gather(1, torch.tensor(reply)[:, None])[:, 0].tolist()


def test_recorded_log_probabilities_are_those_of_a_plain_pass(model, plain):
    for text, reply in zip(ASKED, drawn(model, ASKED, [1, 2, 3, 4]), strict=True):
        prompt = prompt_ids(model, text)
        assert list(reply.logprobs) == pytest.approx(forward(plain, prompt, reply.token_ids, 0.8), abs=1e-4)
        assert list(reply.logprobs_at_1) == pytest.approx(forward(plain, prompt, reply.token_ids, 1.0), abs=1e-4)


def test_a_rows_text_depends_on_its_seed_and_not_on_its_neighbours(tiny_model, model):
    texts, seeds = ASKED * 3, list(range(12))
    together = [c.text for c in drawn(model, texts, seeds)]
    few_slots = [c.text for c in drawn(opened(tiny_model, rows=3), texts, seeds)]
    alone = [drawn(model, [t], [s])[0].text for t, s in zip(texts, seeds, strict=True)]
    assert together == few_slots == alone
    assert len(set(together)) > 6  # other seeds, other texts


def test_greedy_writes_what_generate_writes(model, plain, tiny_model):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    for text, reply in zip(ASKED, drawn(model, ASKED, [0] * 4, Sampling(temperature=0, max_new_tokens=8)), strict=True):
        prompt = torch.tensor([prompt_ids(model, text)])
        with torch.inference_mode():
            out = plain.generate(prompt, do_sample=False, max_new_tokens=8, pad_token_id=tokenizer.pad_token_id)
        assert list(reply.token_ids) == out[0, prompt.shape[1] :].tolist()


def test_a_reply_ends_with_its_end_token_or_at_the_limit(model):
    ends = tokens.end_ids(model.tokenizer, model.module.generation_config)
    for reply in drawn(model, ASKED * 4, list(range(16)), Sampling(temperature=1.0, max_new_tokens=30)):
        assert (reply.finish == "stop") == (reply.token_ids[-1] in ends)
        assert len(reply.token_ids) == 30 or reply.finish == "stop"
        assert "<|im_end|>" not in reply.text


def test_draws_follow_the_distribution(model, plain):
    """2,000 first tokens at T = 1 against the model's own probabilities: a chi-square over the commonest."""
    text, n = ASKED[0], 2000
    first = [
        c.token_ids[0] for c in drawn(model, [text] * n, list(range(n)), Sampling(temperature=1, max_new_tokens=1))
    ]
    with torch.inference_mode():
        p_V = plain(torch.tensor([prompt_ids(model, text)])).logits[0, -1].softmax(-1)
    top = p_V.topk(8).indices.tolist()
    expected = [n * float(p_V[i]) for i in top]
    seen = [first.count(i) for i in top]
    chi2 = sum((s - e) ** 2 / e for s, e in zip(seen, expected, strict=True))
    assert chi2 < 26.1  # the 99.9 % point with 8 degrees of freedom


def test_top_p_draws_only_from_the_nucleus(model, plain):
    text, top_p = ASKED[1], 0.3
    with torch.inference_mode():
        p_V = plain(torch.tensor([prompt_ids(model, text)])).logits[0, -1].softmax(-1)
    order = p_V.argsort(descending=True)
    size = int((p_V[order].cumsum(0) < top_p).sum()) + 1
    nucleus = set(order[:size].tolist())
    sampling = Sampling(temperature=1, top_p=top_p, max_new_tokens=1)
    replies = drawn(model, [text] * 200, list(range(200)), sampling)
    assert {c.token_ids[0] for c in replies} <= nucleus
    mass = float(sum(p_V[i] for i in nucleus))
    want = [float(p_V[c.token_ids[0]]) / mass for c in replies[:5]]
    assert [torch.tensor(c.logprobs[0]).exp().item() for c in replies[:5]] == pytest.approx(want, rel=1e-3)


def test_every_reply_is_told_of_once(model):
    told: list[int] = []
    model.complete([user(t) for t in ASKED], sampling=WARM, seeds=[1, 2, 3, 4], done=lambda i, a: told.append(i))
    assert sorted(told) == [0, 1, 2, 3]


def test_a_prompt_over_the_context_is_trouble_and_never_cut(model):
    long = "word " * (model.context() or 0)
    short, refused = model.complete([user("Hello"), user(long)], sampling=WARM, seeds=[1, 2], done=lambda i, a: None)
    assert isinstance(short, Completion)
    assert isinstance(refused, Trouble)
    assert refused.reason == "prompt too long"


# ---------------------------------------------------------------- reading without writing


def test_label_probabilities_are_those_of_the_next_token(model, plain):
    begun = [(*user(t), Message(role="assistant", content="I say ")) for t in ASKED]
    got = model.label_probabilities(begun, [("A", "B")] * 4, done=lambda i, a: None)
    for conversation, answer in zip(begun, got, strict=True):
        assert isinstance(answer, Distribution)
        ids = tokens.prompt_ids(model.tokenizer, conversation)
        with torch.inference_mode():
            p_V = plain(torch.tensor([ids])).logits[0, -1].softmax(-1)
        for label in ("A", "B"):
            want = sum(float(p_V[i]) for i in tokens.label_ids(model.tokenizer, label))
            assert answer.probabilities[label] == pytest.approx(want, rel=1e-3)


def test_a_shared_beginning_changes_no_probability(model):
    long = "The parcel was late and the shop did not answer for two weeks. " * 4
    asked = [(Message(role="user", content=long + t),) for t in ASKED]
    together = model.label_probabilities(asked, [("A", "B")] * 4, done=lambda i, a: None)
    alone = [model.label_probabilities([a], [("A", "B")], done=lambda i, a: None)[0] for a in asked]
    for one, other in zip(together, alone, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, rel=1e-4)


def test_a_label_of_two_tokens_is_refused_by_name(model):
    with pytest.raises(ValueError, match="'incomprehensible' is no single token"):
        model.label_probabilities([user("Hello")], [("incomprehensible", "A")], done=lambda i, a: None)


def test_logprobs_of_given_replies(model, plain):
    replies = [[5, 9, 11], [7], [20, 21, 22, 23, 24]]
    got = model.logprobs([user(t) for t in ASKED[:3]], replies, of="policy", temperature=0.7)
    for text, reply, found in zip(ASKED, replies, got, strict=False):
        assert found == pytest.approx(forward(plain, prompt_ids(model, text), reply, 0.7), abs=1e-4)


# ---------------------------------------------------------------- adapters


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter with random, not zero, weights."""
    torch.manual_seed(3)
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    worn = get_peft_model(base, LoraConfig(r=4, lora_alpha=64, target_modules="all-linear", init_lora_weights=False))
    folder = tmp_path_factory.mktemp("adapter")
    worn.save_pretrained(folder)
    return folder


def test_wearing_an_adapter_is_the_adapter_and_taking_it_off_is_the_base(model, adapter):
    replies, asked = [[5, 9, 11], [7, 8]], [user(t) for t in ASKED[:2]]
    before = model.logprobs(asked, replies, of="policy")
    worn = model.wearing(adapter)
    policy = worn.logprobs(asked, replies, of="policy")
    base = worn.logprobs(asked, replies, of="base")
    after = model.logprobs(asked, replies, of="policy")
    assert before == base == after  # the very same numbers: nothing of the adapter stays behind
    assert max(abs(a - b) for x, y in zip(policy, base, strict=True) for a, b in zip(x, y, strict=True)) > 0.01
    assert worn.fingerprint != model.fingerprint


def test_an_adapter_gives_what_plain_peft_gives(model, adapter, tiny_model):
    from peft import PeftModel

    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    peft = PeftModel.from_pretrained(base, adapter).eval()
    reply = [5, 9, 11, 30]
    (found,) = model.wearing(adapter).logprobs([user(ASKED[0])], [reply], of="policy")
    assert found == pytest.approx(forward(peft, prompt_ids(model, ASKED[0]), reply, 1.0), abs=1e-4)


def test_a_worn_adapter_cannot_be_trained_by_accident(model, adapter):
    worn = model.wearing(adapter)
    with model._backbone.role(worn.adapter) as module:
        there = dict(module.named_parameters())
        assert [name for name in there if "lora_" in name]  # it is on: there is something that could be trained
        assert not [name for name, p in there.items() if p.requires_grad]
    after = dict(model._backbone.module.named_parameters())  # with the adapter still in it, switched off
    assert [name for name in after if "lora_" in name]
    assert not [name for name, p in after.items() if p.requires_grad]


# ---------------------------------------------------------------- what cannot be opened


def test_folders_that_are_no_model_are_named_with_the_way_out(tmp_path, tiny_model, monkeypatch):
    monkeypatch.setenv("DRESSAGE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match=r"no-such"):
        Settings(path=str(tmp_path / "no-such")).content()
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="safetensors"):
        Settings(path=str(tmp_path / "bare")).content()
    (tmp_path / "bare" / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ValueError, match=r"\.bin"):
        Settings(path=str(tmp_path / "bare")).content()


def test_content_follows_the_files(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("DRESSAGE_CACHE", str(tmp_path / "cache"))
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    before = Settings(path=str(copy)).content()
    assert Settings(path=str(copy)).content() == before
    config = copy / "config.json"
    config.write_text(config.read_text() + "\n")
    assert Settings(path=str(copy)).content() != before


def test_a_copied_folder_is_the_same_model_and_other_weights_are_not(tiny_model, adapter, tmp_path, monkeypatch):
    monkeypatch.setenv("DRESSAGE_CACHE", str(tmp_path / "cache"))
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    (copy / "README.md").write_text("a model card")
    here, there = Settings(path=str(tiny_model)), Settings(path=str(copy))
    assert here.identity() == there.identity()
    assert Settings(path=str(copy), adapter=str(adapter)).identity() != here.identity()
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert there.identity() != here.identity()


def test_a_hub_name_is_its_owners(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("DRESSAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    name = "SmolLM2-135M-Instruct"
    before = tmp_path / "cache" / "models" / name
    shutil.copytree(tiny_model, before)
    assert Settings(path=f"HuggingFaceTB/{name}").resolve().folder == before  # fetched before owners were told apart
    with pytest.raises(ValueError, match=f"model someone-else/{name} is neither a folder"):
        Settings(path=f"someone-else/{name}").resolve()
    owned = tmp_path / "cache" / "models" / f"someone-else--{name}"
    shutil.copytree(tiny_model, owned)
    assert Settings(path=f"someone-else/{name}").resolve().folder == owned
    assert Settings(path=f"HuggingFaceTB/{name}").resolve().folder == before


def test_a_hub_that_cannot_be_reached_is_said_in_one_line() -> None:
    code = (
        "from dressage.models.local import Settings\n"
        "try:\n    Settings(path='nobody/nothing').resolve()\n"
        "except ValueError as error:\n    print(error)\n"
    )
    offline = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | offline, capture_output=True, text=True)
    assert done.stdout.startswith("the hub does not give model nobody/nothing"), done.stderr
    assert "fetch_demo_model.py" in done.stdout
