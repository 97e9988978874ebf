"""Known ground: three toys whose optimum is known, and every trainer kind must find it.

*Cheap words*, for those that practise: a reply is worth the share of its tokens with small ids; the best is 1.
*Thanks*, for those that are told: a polite reply against a curt one, or it alone; the best tells them apart, and on
prompts that it has not seen too.
*One word*, for all: a reply is one token. Where it is worth 1 if its id is small, and a nat of KL to the reference
costs β, the best policy does not say only what pays: it is found without sampling, by climbing the exact objective,
which no policy brings above β log E₀ exp(r/β) (arXiv:2305.18290 eq. 4). Where replies are given, a quarter of them the
wrong ones, the best margin and the best share have a closed form.

One seed in every run; `-m slow` has four more.
"""

import gc
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from practice_parts import Gym, graded, prompts, share_below
from torch import Tensor
from training_parts import Desk, pair_of

from dressage.models.local import Settings as LocalSettings
from dressage.models.local.model import LocalModel
from dressage.models.local.model import open as open_local
from dressage.plugins import kinds, open_kind, settings_of
from dressage.protocols import Example, Pair, Sampling, Trained, Trouble
from dressage.records import Candidate, Message, Prompt
from dressage.tokens import prompt_ids, reply_ids, reply_text, wellformed
from dressage.trainers._lora import LoraSettings
from dressage.trainers._lora.adapter import adapted

SEEDS = [3, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (0, 1, 2, 4))]
CHEAP = 120
"""Tokens with smaller ids pay; the tiny model says about a fifth of them."""
LORA = {"r": 4, "alpha": 8}
ASKED = 8


@pytest.fixture(autouse=True, scope="module")
def imports_are_no_garbage() -> Iterator[None]:
    """accelerate collects garbage at each start of a training: half its time here, were all of torch looked through."""
    __import__("dressage.trainers.trl_grpo.trainer")
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def local(tiny_model: Path) -> LocalModel:
    return open_local(LocalSettings(path=str(tiny_model), dtype="float32", device="cpu"))


Cases = Mapping[str, tuple[str, dict[str, Any]]]
"""Name → kind and what it sets."""


def learnt(kind: str, more: Mapping[str, Any], data: Sequence[Any], desk: Desk, gym: Gym) -> Trained:
    """What a training leaves."""
    settings = settings_of("trainers", kind).model_validate({"kind": kind, "lora": LORA, "save_every": 1000, **more})
    handed = {"practice": gym.practice()} if settings.learns_from == "prompts" else {}  # type: ignore[attr-defined]
    found: Trained = open_kind(settings, **handed).train(data, gym.model, desk.workplace)
    return found


def reply(prompt: Prompt, ids: Sequence[int], tokenizer: Any) -> Candidate:
    """A reply of exactly these tokens."""
    text = wellformed(reply_text(tokenizer, ids))
    said = (Message(role="assistant", content=text),)
    known = {"token_ids": tuple(ids), "mask": (True,) * len(ids), "finish": "stop"}
    return Candidate.of(prompt_id=prompt.id, messages=said, model="given", **known)


# ---------------------------------------------------------------- cheap words

LONG = Sampling(temperature=0.8, max_new_tokens=12)
NO_ALARM = {"kl_at_most": None, "entropy_at_least": None}
FREE: dict[str, Any] = {"learning_rate": 1e-2, "alarms": NO_ALARM}
PRACTICE = FREE | {"updates": 24, "prompts_per_update": 4, "per_prompt": 4, "microbatch_prompts": 4}
PRACTICE |= {"kl": {"kind": "fixed", "coefficient": 0.01}}
ON_TRL = FREE | {"steps": 20, "generation_batch_size": 32, "num_generations": 8, "per_device_train_batch_size": 16}
CHEAP_WORDS: Cases = {
    "ppo, critic: head": ("ppo", PRACTICE | {"epochs": 1, "critic": {"kind": "head", "warmup_updates": 1}}),
    "ppo, critic: adapter": (
        "ppo",
        PRACTICE | {"epochs": 1, "critic": {"kind": "adapter", "warmup_updates": 1, "lora": LORA}},
    ),
    "grpo": ("grpo", PRACTICE),
    "rloo": ("rloo", PRACTICE),
    "trl_grpo": ("trl_grpo", ON_TRL | {"beta": 0.01, "save_every": 20}),
}


def worth(model: Any, seed: int) -> float:
    """The mean grade of 64 replies that are drawn anew, to prompts that nobody has learnt from."""
    asked = prompts(200)[-8:] * 8
    seeds = [1000 * seed + i for i in range(len(asked))]
    drawn = model.complete([p.messages for p in asked], sampling=LONG, seeds=seeds, done=lambda i, answer: None)
    return sum(sum(t < CHEAP for t in one.token_ids) / len(one.token_ids) for one in drawn) / len(drawn)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", CHEAP_WORDS)
def test_words_that_pay_are_said(local: LocalModel, tmp_path: Path, name: str, seed: int) -> None:
    kind, more = CHEAP_WORDS[name]
    gym = Gym(local, share_below(CHEAP), LONG, seed=seed)
    adapter = learnt(kind, more, prompts(ASKED), Desk(tmp_path, seed=seed), gym).adapter
    start, found = worth(local, seed), worth(local.wearing(adapter), seed)
    print(f"{name}, seed {seed}: {start:.3f} to {found:.3f}")
    assert start < 0.4
    assert found > 0.85


# ---------------------------------------------------------------- thanks

GIVEN: dict[str, Any] = {"learning_rate": 3e-3, "epochs": 3}
PAIRS = GIVEN | {"batch_pairs": 4, "microbatch_pairs": 4}
THANKS: Cases = {
    "sft": ("sft", GIVEN | {"batch_examples": 4, "microbatch_examples": 4}),
    "dpo": ("dpo", PAIRS),
    "dpo, ipo": ("dpo", PAIRS | {"loss": "ipo"}),
    "dpo, hinge": ("dpo", PAIRS | {"loss": "hinge"}),
    "dpo, robust": ("dpo", PAIRS | {"loss": "robust", "label_noise": 0.1}),
    "dpo, length_normalised": ("dpo", PAIRS | {"loss": "length_normalised"}),
    "trl_dpo": ("trl_dpo", PAIRS),
    "reward": ("reward", PAIRS | {"held_out": 0.0}),
}


def polite(i: int) -> Pair:
    return pair_of(i, f"thank you tea {i}", f"house bread tea {i}")


def preferred(local: LocalModel, kind: str, adapter: Path, pair: Pair) -> float:
    """What was learnt of the polite reply, less what was learnt of the curt one: in log-probability or in score."""
    if kind == "reward":
        return raw(local, adapter, pair.prompt, pair.chosen) - raw(local, adapter, pair.prompt, pair.rejected)
    both = [reply_ids(local.tokenizer, pair.prompt.messages, c.text) for c in (pair.chosen, pair.rejected)]
    asked = [pair.prompt.messages] * 2
    gained = [
        sum(one) - sum(before)
        for one, before in zip(local.wearing(adapter).logprobs(asked, both), local.logprobs(asked, both), strict=True)
    ]
    return gained[0] - gained[1]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", THANKS)
def test_what_is_told_holds_on_prompts_not_seen(local: LocalModel, tmp_path: Path, name: str, seed: int) -> None:
    kind, more = THANKS[name]
    pairs = [polite(i) for i in range(16)]
    data = [Example(p.prompt, p.chosen) for p in pairs] if kind == "sft" else pairs
    adapter = learnt(kind, more, data, Desk(tmp_path, seed=seed), Gym(local, share_below(CHEAP))).adapter
    found = [preferred(local, kind, adapter, polite(i)) for i in range(100, 108)]
    print(f"{name}, seed {seed}: {sum(x > 0 for x in found)} of 8, by {min(found):.2f} to {max(found):.2f}")
    assert min(found) > 0


def test_no_kind_is_left_out() -> None:
    first = {kind for cases in (CHEAP_WORDS, THANKS) for kind, _ in cases.values()}
    second = {kind for cases in (PAID, TOLD) for kind, _ in cases.values()}
    assert first == second == set(kinds("trainers"))


# ---------------------------------------------------------------- one word

SHORT = Sampling(temperature=1.0, max_new_tokens=1)
BETA = 0.5
WRONG = 0.25
"""Share of the pairs whose label is the wrong way round."""
HELD: dict[str, Any] = PRACTICE | {"updates": 40, "prompts_per_update": 8, "per_prompt": 16, "microbatch_prompts": 8}
HELD |= {"kl": {"kind": "fixed", "coefficient": BETA}, "schedule": "linear"}
PAID: Cases = {
    "ppo, critic: head": ("ppo", HELD | {"epochs": 1, "critic": {"kind": "head", "warmup_updates": 1}}),
    "ppo, critic: adapter": (
        "ppo",
        HELD | {"epochs": 1, "critic": {"kind": "adapter", "warmup_updates": 1, "lora": LORA}},
    ),
    "grpo": ("grpo", HELD | {"scale": "none"}),
    "rloo": ("rloo", HELD),
    "trl_grpo": (
        "trl_grpo",
        ON_TRL
        | {
            "steps": 40,
            "generation_batch_size": 128,
            "num_generations": 16,
            "per_device_train_batch_size": 128,
            "beta": BETA,
        }
        | {"scale_rewards": "none", "schedule": "linear", "save_every": 40},
    ),
}
AT_ONCE: dict[str, Any] = {"learning_rate": 1e-2, "epochs": 50}
ALL_PAIRS = AT_ONCE | {"batch_pairs": 32, "microbatch_pairs": 16}
TOLD: Cases = {
    "sft": ("sft", AT_ONCE | {"batch_examples": 32, "microbatch_examples": 32, "epochs": 100}),
    "dpo": ("dpo", ALL_PAIRS | {"beta": BETA}),
    "dpo, ipo": ("dpo", ALL_PAIRS | {"beta": BETA, "loss": "ipo"}),
    "dpo, length_normalised": ("dpo", ALL_PAIRS | {"beta": BETA, "loss": "length_normalised"}),
    "trl_dpo": ("trl_dpo", ALL_PAIRS | {"beta": BETA}),
    "reward": ("reward", ALL_PAIRS | {"held_out": 0.0}),
}


def first_word(module: Any, tokenizer: Any, asked: Sequence[Prompt]) -> Tensor:
    """log π of every token as the first of a reply, at temperature 1: (prompts, vocabulary)."""
    rows = [module(torch.tensor([prompt_ids(tokenizer, p.messages)])).logits[0, -1] for p in asked]
    return torch.stack(rows).log_softmax(-1)


def objective(logprob_PV: Tensor, ref_PV: Tensor) -> Tensor:
    """E_π[r] − β KL(π ‖ π₀), exactly, the mean over prompts."""
    pays_V = (torch.arange(ref_PV.shape[1]) < CHEAP).float()
    return (logprob_PV.exp() * (pays_V - BETA * (logprob_PV - ref_PV))).sum(1).mean()


@torch.no_grad()
def after(local: LocalModel, adapter: Path, asked: Sequence[Prompt]) -> Tensor:
    """The trained policy's `first_word`, by plain peft."""
    module = PeftModel.from_pretrained(local.module, str(adapter))
    found = first_word(module, local.tokenizer, asked)
    module.unload()
    return found


@pytest.fixture(scope="module")
def climbed(tiny_model: Path) -> tuple[float, float, float]:
    """The objective at the start, at the best that such an adapter can, and the bound for any policy."""
    local = open_local(LocalSettings(path=str(tiny_model), dtype="float32", device="cpu"))
    asked = prompts(ASKED)
    with torch.no_grad():
        ref_PV = first_word(local.module, local.tokenizer, asked)
    with adapted(local.module, LoraSettings(**LORA), seed=0, start=None) as model:
        climber = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        for _ in range(60):
            climber.zero_grad()
            (-objective(first_word(model, local.tokenizer, asked), ref_PV)).backward()  # type: ignore[no-untyped-call]
            climber.step()
        with torch.no_grad():
            best = float(objective(first_word(model, local.tokenizer, asked), ref_PV))
    pays_V = (torch.arange(ref_PV.shape[1]) < CHEAP).float()
    bound = float((BETA * (ref_PV + pays_V / BETA).logsumexp(1)).mean())
    return float(objective(ref_PV, ref_PV)), best, bound


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", PAID)
def test_reward_against_divergence_is_climbed_to_the_top(
    local: LocalModel, tmp_path: Path, climbed: tuple[float, float, float], name: str, seed: int
) -> None:
    (kind, more), (start, best, bound), asked = PAID[name], climbed, prompts(ASKED)
    with torch.no_grad():
        ref_PV = first_word(local.module, local.tokenizer, asked)
    gym = Gym(local, share_below(CHEAP), SHORT, seed=seed)
    found_PV = after(local, learnt(kind, more, asked, Desk(tmp_path, seed=seed), gym).adapter, asked)
    found = float(objective(found_PV, ref_PV))
    pays = float(found_PV[:, :CHEAP].exp().sum(1).mean())
    print(f"{name}, seed {seed}: {start:.3f} to {found:.3f}, best {best:.3f}, bound {bound:.3f}; it pays {pays:.3f}")
    assert start + 0.1 < best < bound
    assert start + 0.8 * (best - start) < found < best + 0.005


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", TOLD)
def test_replies_of_which_a_quarter_is_wrong_have_their_own_best(
    local: LocalModel, tmp_path: Path, name: str, seed: int
) -> None:
    """With a share f of wrong labels, β times the log-ratio's difference ends at log((1 − f)/f) for the sigmoid
    (arXiv:2305.18290 eq. 7 at its minimum) and at (1 − 2f)/2 for IPO (arXiv:2310.12036 eq. 17). At log((1 − f)/f) ends
    the difference of a reward model's scores too, and of log-probabilities where replies are imitated as they come."""
    (kind, more), noise, asked = TOLD[name], random.Random(seed), prompts(ASKED)
    words = [(noise.choice(spelt(local, 5, CHEAP)), noise.choice(spelt(local, CHEAP, 512))) for _ in asked]
    ends = [local.tokenizer.eos_token_id] if kind == "reward" else []
    made = [[reply(p, [word, *ends], local.tokenizer) for word in both] for p, both in zip(asked, words, strict=True)]
    data: list[Any] = []
    for p, (good, bad) in zip(asked, made, strict=True):
        data += [Pair(p, good, bad, 1.0)] * 3 + [Pair(p, bad, good, 1.0)]
    if kind == "sft":
        data = [Example(pair.prompt, pair.chosen) for pair in data]
    adapter = learnt(kind, more, data, Desk(tmp_path, seed=seed), Gym(local, share_below(CHEAP), SHORT)).adapter
    if kind == "reward":
        margins = [raw(local, adapter, p, a) - raw(local, adapter, p, b) for p, (a, b) in zip(asked, made, strict=True)]
    else:
        found_PV = after(local, adapter, asked)
        if kind != "sft":
            with torch.no_grad():
                found_PV = BETA * (found_PV - first_word(local.module, local.tokenizer, asked))
        margins = [float(found_PV[i, good] - found_PV[i, bad]) for i, (good, bad) in enumerate(words)]
    best = (1 - 2 * WRONG) / 2 if more.get("loss") == "ipo" else math.log((1 - WRONG) / WRONG)
    print(f"{name}, seed {seed}: {min(margins):.3f} to {max(margins):.3f}, the best is {best:.3f}")
    # An adapter so small leaves other words some probability, of which the two take what they can get.
    assert margins == pytest.approx([best] * ASKED, rel=0.15 if kind == "sft" else 0.1)


def spelt(local: LocalModel, low: int, high: int) -> list[int]:
    """The tokens of these ids that are a reply of their own: written out and read again they are the same token."""
    tokenizer, asked = local.tokenizer, prompts(1)[0].messages
    text = {i: tokenizer.decode([i]) for i in range(low, high)}
    own = {i: said for i, said in text.items() if said.isascii() and said.isalnum()}
    return [i for i, said in own.items() if reply_ids(tokenizer, asked, said) == [i, tokenizer.eos_token_id]]


def raw(local: LocalModel, adapter: Path, prompt: Prompt, said: Candidate) -> float:
    """The score of a reply, as a judge would have it."""
    (score,) = local.scalars([[*prompt.messages, *said.messages]], str(adapter), done=lambda i, answer: None)
    assert not isinstance(score, Trouble)
    return score.raw


def test_the_toys_are_what_they_say() -> None:
    candidate = Candidate.of(
        prompt_id="p", messages=(Message(role="assistant", content="x"),), token_ids=(5, 200), model="given"
    )
    assert share_below(CHEAP)(candidate) == 0.5
    assert getattr(graded(candidate, 0.5), "score", None) == 0.5
