"""A vLLM server that draws for a local model: the same draws, the right adapter, refusals before a reply is drawn."""

import importlib.util
import json
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from vllm_server import BASE, VERSION, Likeness, serving

from dressage.config import ConfigError, load
from dressage.models.local import Settings
from dressage.models.local.model import LocalModel
from dressage.models.local.vllm.stops import OtherSampler, SamplerStopped, ServerAway, ServerRefused
from dressage.plugins import open_kind
from dressage.protocols import Completion, Sampling, Trouble
from dressage.records import Message
from dressage.trainers._lora import LoraSettings
from dressage.trainers._lora.adapter import adapted, save

ASKED = ["Where is my parcel?", "My card was charged twice, why?", "Where is my parcel?", "Hello"]
WARM = Sampling(temperature=0.8, max_new_tokens=12)
SEEDS = [11, 12, 13, 2**63 - 1]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def opened(folder: Path, **settings: Any) -> LocalModel:
    model: LocalModel = open_kind(Settings(path=str(folder), dtype="float32", device="cpu", **settings))
    return model


@pytest.fixture(scope="module")
def own(tiny_model: Path) -> LocalModel:
    """Draws by itself."""
    return opened(tiny_model)


@pytest.fixture
def served(own: LocalModel, tiny_model: Path) -> Iterator[Callable[..., tuple[LocalModel, Likeness]]]:
    """Opens the same model with a server as its sampler: (sampler's settings, likeness=what the server is like)."""
    stack: list[Any] = []

    def open_served(likeness: Likeness | None = None, **sampler: Any) -> tuple[LocalModel, Likeness]:
        serves = serving(likeness or Likeness(own))
        server = serves.__enter__()
        stack.append(serves)
        plain = {"base_url": server.address, "model": BASE, "version": VERSION, "backoff_s": 0.01, **sampler}
        model = opened(tiny_model, sampler=plain)
        stack.append(model)
        return model, server

    yield open_served
    for thing in reversed(stack):
        thing.close() if isinstance(thing, LocalModel) else thing.__exit__(None, None, None)


def adapter_of(tiny_model: Path, folder: Path, *, r: int = 4) -> Path:
    """A LoRA adapter with random, not zero, weights."""
    torch.manual_seed(3)
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    worn = get_peft_model(
        base, LoraConfig(r=r, lora_alpha=16 * r, target_modules="all-linear", init_lora_weights=False)
    )
    worn.save_pretrained(folder)
    return folder


def answers(model: LocalModel, sampling: Sampling = WARM, asked: Sequence[str] = ASKED) -> list[Completion | Trouble]:
    conversations = [(Message(role="user", content=text),) for text in asked]
    told: dict[int, Completion | Trouble] = {}
    got = model.complete(conversations, sampling=sampling, seeds=SEEDS[: len(asked)], done=told.__setitem__)
    assert told == dict(enumerate(got))
    return got


def drawn(model: LocalModel, sampling: Sampling = WARM) -> list[Completion]:
    got = answers(model, sampling)
    assert all(isinstance(one, Completion) for one in got), got
    return [one for one in got if isinstance(one, Completion)]


def same(one: Sequence[Completion], other: Sequence[Completion]) -> None:
    """The same replies; log-probabilities but for what else was in a batch."""
    assert [(c.text, c.finish, c.token_ids, c.usage) for c in one] == [
        (c.text, c.finish, c.token_ids, c.usage) for c in other
    ]
    for a, b in zip(one, other, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)


# ---------------------------------------------------------------- the same draws


@pytest.mark.parametrize("sampling", [WARM, Sampling(temperature=1.0, top_p=0.8, max_new_tokens=9)], ids=repr)
def test_a_served_model_draws_what_the_model_would(own, served, sampling):
    """The server draws by our own sampler under the seeds it is sent, so nothing may be different."""
    model, server = served()
    same(drawn(model, sampling), drawn(own, sampling))
    assert {c.logprobs_at_1 for c in drawn(model, sampling)} == {None}  # another engine's are no reference
    assert [body["model"] for body in server.asked] == [BASE] * len(server.asked)


def test_a_greedy_draw_is_certain(own, served):
    model, _ = served()
    greedy = Sampling(temperature=0, max_new_tokens=8)
    same(drawn(model, greedy), drawn(own, greedy))
    assert all(set(c.logprobs or ()) == {0.0} for c in drawn(model, greedy))


def test_every_field_that_changes_a_draw_is_said(served):
    """A server takes what is not said from the model's generation_config.json."""
    model, server = served()
    drawn(model)
    first, *rest = server.asked
    assert first["ignore_eos"]
    assert len(rest) == len(ASKED)
    for body in rest:
        assert body["temperature"] == 0.8
        assert body["top_p"] == 1.0
        assert [body[k] for k in ("top_k", "min_p", "repetition_penalty")] == [0, 0.0, 1.0]
        assert [body[k] for k in ("presence_penalty", "frequency_penalty")] == [0.0, 0.0]
        assert 2 in body["stop_token_ids"]  # <|im_end|> of the tiny model
    assert sorted(body["seed"] for body in rest) == sorted(SEEDS)


def test_a_worn_adapter_is_loaded_under_the_name_of_its_content(own, served, tiny_model, tmp_path):
    adapter = adapter_of(tiny_model, tmp_path / "adapter")
    model, server = served()
    base = drawn(model)
    same(drawn(model.wearing(adapter)), drawn(own.wearing(adapter)))
    assert [c.token_ids for c in drawn(model.wearing(adapter))] != [c.token_ids for c in base]
    copied = adapter_of(tiny_model, tmp_path / "copy")
    drawn(model.wearing(copied))
    assert len(server.loaded) == 1  # equal weights are one adapter
    same(drawn(model), base)
    model.close()
    assert server.adapters == {}


def test_adapters_are_copied_where_the_server_reads(served, tiny_model, tmp_path):
    shared = tmp_path / "for" / "both"
    adapter = adapter_of(tiny_model, tmp_path / "adapter")
    model, server = served(adapters=str(shared))
    drawn(model.wearing(adapter))
    (path,) = server.adapters.values()
    assert path.parent == shared
    with adapted(model.module, LoraSettings(r=2), seed=1, start=None):
        drawn(model.as_is("an update"))
        assert {p.is_relative_to(shared) for p in server.adapters.values()} == {True}


# ---------------------------------------------------------------- a policy in training


def moved(model: Any, by: float) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter += by * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5))


def test_a_policy_in_training_is_drawn_from_as_it_is_at_each_update(own, served, tiny_model, tmp_path):
    model, server = served()
    base = drawn(model)
    with adapted(model.module, LoraSettings(r=4), seed=1, start=None) as policy:
        same(drawn(model.as_is("run", 1)), base)  # B is zero
        moved(policy, 0.5)
        second = drawn(model.as_is("run", 2))
        with own._backbone.role(save(policy, tmp_path / "now")):
            pass
        same(second, drawn(own.wearing(tmp_path / "now")))
        assert [c.token_ids for c in second] != [c.token_ids for c in base]
        assert len(server.loaded) == 2
        assert server.unloaded == server.loaded[:1]  # the update before is off again
        (path,) = server.adapters.values()
        assert path.is_dir()
        drawn(model.as_is("run", "again"))
        assert len(server.loaded) == 2  # nothing was learnt in between
    assert not [n for n, p in model.module.named_parameters() if p.requires_grad]
    model.close()
    assert server.adapters == {}
    assert not path.exists()


def test_what_a_policy_in_training_is_written_as_is_what_the_trainer_saves(own, tmp_path):
    from dressage.models.local.active import write_active

    module = own.module
    assert not write_active(module, tmp_path / "none")
    with adapted(module, LoraSettings(r=4, alpha=7), seed=1, start=None) as policy:
        moved(policy, 0.3)
        assert write_active(module, tmp_path / "live")
        save(policy, tmp_path / "saved")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "live" / name).read_bytes() == (tmp_path / "saved" / name).read_bytes()


# ---------------------------------------------------------------- refusals, before anything is drawn


def refusal(kind: type[SamplerStopped], model: LocalModel) -> str:
    with pytest.raises(kind) as caught:
        answers(model)
    return str(caught.value)


def test_a_server_that_is_away_is_said_with_its_address(tiny_model):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    sampler = {"base_url": address, "model": BASE, "version": VERSION, "attempts": 2, "backoff_s": 0}
    model = opened(tiny_model, sampler=sampler)
    assert refusal(ServerAway, model).startswith(f"nobody answers at {address}: ConnectError")
    with pytest.raises(ServerAway, match=r"after 2 attempts"):
        model.context()
    # What is no draw needs no server.
    assert model.logprobs([(Message(role="user", content="Hello"),)], [[5]])
    model.close()


def test_another_version_is_another_sampler(served, own):
    model, server = served(Likeness(own, version="0.33.0"))
    assert "runs vLLM 0.33.0, and sampler.version says 0.32.0" in refusal(OtherSampler, model)
    assert server.asked == []


def test_a_name_it_does_not_serve_is_told_with_those_it_has(served):
    model, server = served(model="base")
    assert "serves no model 'base'; it has tiny" in refusal(ServerRefused, model)
    assert server.asked == []


def test_a_server_that_may_load_nothing_is_refused_before_anything_is_drawn(served, own):
    model, server = served(Likeness(own, updates_adapters=False))
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True" in refusal(ServerRefused, model)
    assert server.asked == []


def test_an_adapter_of_too_high_a_rank_is_refused_with_the_way_out(served, tiny_model, tmp_path):
    model, server = served()
    wide = model.wearing(adapter_of(tiny_model, tmp_path / "wide", r=17))
    said = refusal(ServerRefused, wide)
    assert "LoRA rank 17 is greater than max_lora_rank 16" in said
    assert said.endswith("start it with a --max-lora-rank that is at least the adapter's rank (lora.r)")
    assert len(server.asked) == 1  # the reply nobody sees, on the base


def test_a_folder_that_the_server_cannot_read_is_said(served, tiny_model, tmp_path):
    model, _ = served()
    worn = model.wearing(adapter_of(tiny_model, tmp_path / "adapter"))
    (tmp_path / "adapter").rename(tmp_path / "elsewhere")
    (tmp_path / "adapter").mkdir()
    assert "name one in sampler.adapters" in refusal(ServerRefused, worn)


def another(folder: Path) -> LocalModel:
    """The tiny model with other random weights."""
    script = Path(__file__).parents[2] / "scripts" / "make_tiny_model.py"
    spec = importlib.util.spec_from_file_location("make_tiny_model", script)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return opened(module.make_tiny_model(folder, seed=1))


def test_another_base_is_refused_before_anything_is_drawn(served, tmp_path):
    model, server = served(Likeness(another(tmp_path / "other")))
    said = refusal(OtherSampler, model)
    assert "it serves another base" in said
    assert len(server.asked) == 1
    model, _ = served(Likeness(another(tmp_path / "other2")), agrees_within=10)
    assert len(drawn(model)) == len(ASKED)  # whoever wants it can have it


def test_log_probabilities_from_before_the_temperature_are_refused(served, own):
    model, _ = served(Likeness(own, processed=False))
    assert refusal(OtherSampler, model).endswith("start it with --logprobs-mode processed_logprobs")
    same(
        drawn(model, Sampling(max_new_tokens=6, temperature=1.0)),
        drawn(own, Sampling(max_new_tokens=6, temperature=1.0)),
    )


def test_a_server_that_does_not_apply_the_adapter_is_refused(served, own, tiny_model, tmp_path):
    model, server = served(Likeness(own, applies_adapters=False))
    worn = model.wearing(adapter_of(tiny_model, tmp_path / "adapter"))
    assert "the server applies the adapter otherwise" in refusal(OtherSampler, worn)
    assert len(server.asked) == 2


def test_something_else_at_the_address_is_no_vllm_server(served):
    model, _ = served()
    wrong = opened(
        Path(model.tokenizer.name_or_path),
        sampler={
            "base_url": f"{model._server._settings.base_url}/elsewhere",
            "model": BASE,
            "version": VERSION,
        },
    )
    assert "as no vLLM server does; correct sampler.base_url" in refusal(ServerRefused, wrong)


def test_the_key_is_sent_and_never_told(served, own, monkeypatch):
    monkeypatch.setenv("SAMPLER_KEY", "s3cret-key")
    model, _ = served(Likeness(own, key="s3cret-key"), key_env="SAMPLER_KEY")
    assert len(drawn(model)) == len(ASKED)
    wrong, _ = served(Likeness(own, key="another"), key_env="SAMPLER_KEY")
    said = refusal(ServerRefused, wrong)
    assert "HTTP 401" in said
    assert "SAMPLER_KEY" in said
    assert "s3cret" not in said
    without, _ = served(Likeness(own, key="another"))
    assert "name its variable in sampler.key_env" in refusal(ServerRefused, without)


# ---------------------------------------------------------------- troubles on the way


def test_a_busy_server_is_asked_again(own, served):
    model, server = served(Likeness(own, busy=3))
    same(drawn(model), drawn(own))
    assert server.busy == 0


def test_a_server_that_stays_busy_costs_the_draw_and_not_the_run(own, served):
    model, server = served(attempts=2, concurrency=1)
    drawn(model)
    server.busy = 2
    first, *others = answers(model)
    assert isinstance(first, Trouble)
    assert first == Trouble(reason="server error", detail="HTTP 503: try again")
    assert all(isinstance(one, Completion) for one in others)


def test_a_text_longer_than_the_server_holds_is_a_trouble_of_its_own(own, served):
    model, _ = served(Likeness(own, max_model_len=48))
    assert model.context() == 48
    assert own.context() == 1024
    long = " ".join(["parcel"] * 40)
    short, cut = answers(model, asked=["Hello", long])
    assert isinstance(short, Completion)
    assert isinstance(cut, Trouble)
    assert cut.reason == "prompt too long"
    assert "in the server's context of 48" in cut.detail


def test_a_server_that_was_started_anew_is_dressed_and_checked_again(own, served, tiny_model, tmp_path):
    worn = adapter_of(tiny_model, tmp_path / "adapter")
    likeness = Likeness(own, restarts_at=3)  # after both replies that nobody sees, and one draw
    model, server = served(likeness, concurrency=1)
    same(drawn(model.wearing(worn)), drawn(own.wearing(worn)))
    assert len(server.loaded) == 2
    assert sum("ignore_eos" in body for body in server.asked) == 4


def test_what_a_killed_run_left_on_the_server_is_loaded_anew(own, served, tiny_model, tmp_path):
    worn = adapter_of(tiny_model, tmp_path / "adapter")
    model, server = served()
    drawn(model.wearing(worn))
    (name,) = server.loaded
    later = opened(tiny_model, sampler=model._server._settings.model_dump())
    server.adapters[name] = tmp_path / "gone"
    same(drawn(later.wearing(worn)), drawn(own.wearing(worn)))
    assert server.adapters == {name: worn}


# ---------------------------------------------------------------- what names a draw


def test_the_version_and_the_name_are_in_every_fingerprint(tiny_model):
    def content(**sampler: Any) -> str:
        plain = {"base_url": "http://127.0.0.1:1", "model": BASE, "version": VERSION, **sampler}
        return json.dumps(Settings(path=str(tiny_model), sampler=plain).content(), sort_keys=True)

    assert "sampler" not in json.dumps(Settings(path=str(tiny_model)).content())
    assert content() == content(base_url="http://10.0.0.1:8000/v1", concurrency=3, agrees_within=1, timeout_s=9)
    assert len({content(), content(version="0.33.0"), content(model="other")}) == 3
    plain = {"base_url": "http://127.0.0.1:1/v1/", "model": BASE, "version": VERSION}
    model = opened(tiny_model, sampler=plain)
    views = [opened(tiny_model), model, model.as_is("x"), model.wearing(None)]
    assert len({view.fingerprint for view in views}) == 4
    assert model.facts["sampler"] == "vllm 0.32.0"
    assert model._server._settings.base_url == "http://127.0.0.1:1"


def test_a_slip_in_the_samplers_settings_is_one_line(tmp_path, tiny_model):
    run = (
        f"name: x\npolicy: tiny\nmodels:\n  tiny:\n    kind: local\n    path: {tiny_model}\n"
        "    sampler: {kind: vllm, base_url: 'http://127.0.0.1:8000', model: tiny, verson: '0.32.0'}\n"
        "data:\n  source: {kind: builtin}\n"
    )
    (tmp_path / "run.yaml").write_text(run)
    with pytest.raises(ConfigError, match=r"models\.tiny\.sampler\.verson: unknown key; did you mean 'version'\?"):
        load(tmp_path / "run.yaml", ())
    (tmp_path / "run.yaml").write_text(run.replace("verson: '0.32.0'", "version: '1'").replace("http:", "ftp:"))
    with pytest.raises(ConfigError, match=r"models\.tiny\.sampler\.base_url: must be an http or https address"):
        load(tmp_path / "run.yaml", ())


def test_the_sampled_reference_of_a_served_policy_is_refused_when_the_config_is_read(tmp_path, tiny_model):
    run = (
        f"name: x\npolicy: tiny\nmodels:\n  tiny:\n    kind: local\n    path: {tiny_model}\n"
        "    sampler: {kind: vllm, base_url: 'http://127.0.0.1:8000', model: tiny, version: '0.32.0'}\n"
        "judges:\n  form: {kind: rules, rules: [{check: {rule: repetition}}]}\n"
        "data:\n  source: {kind: builtin}\njudge: {by: form}\n"
        "train:\n  trainer: {kind: dpo, reference: sampled}\n"
    )
    (tmp_path / "run.yaml").write_text(run)
    with pytest.raises(ConfigError, match=r"train\.trainer\.reference: is sampled, .*set reference: computed"):
        load(tmp_path / "run.yaml", ())
    (tmp_path / "run.yaml").write_text(run.replace("sampled", "computed"))
    load(tmp_path / "run.yaml", ())
