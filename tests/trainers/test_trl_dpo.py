"""Whole trl_dpo trainings of a tiny model: every loss of TRL's, our guards, and what we rely on in TRL."""

import gc
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError
from training_parts import Desk, TinyBackbone, pair_of

from dressage.plugins import open_kind
from dressage.protocols import Pair, Trained
from dressage.tokens import prompt_ids, reply_ids
from dressage.trainers.trl_dpo import Settings

LN2 = math.log(2)
BETA, EPSILON = 0.1, 0.2
AT_START = {
    "sigmoid": LN2,
    "sigmoid_norm": LN2,
    "hinge": 1.0,
    "ipo": (1 / (2 * BETA)) ** 2,
    "exo_pair": 0.5 * (math.log(0.5 / (1 - EPSILON)) + math.log(0.5 / EPSILON)),
    "nca_pair": 2 * LN2,
    "robust": LN2,
    "bco_pair": 2 * LN2,
    "sppo_hard": 2 * (0.5 / BETA) ** 2,
    "aot": LN2,
    "aot_unpaired": LN2,
    "apo_zero": 1.0,
    "apo_down": 1.0,
    "discopop": 0.5 * LN2 + 0.5,
}
"""What each loss is where policy and reference coincide, from its equation."""
SMOOTHED = ("exo_pair", "robust", "aot", "aot_unpaired")


@pytest.fixture(autouse=True, scope="module")
def imports_are_no_garbage() -> Iterator[None]:
    """accelerate collects garbage at each start of a training: half its time here, were all of torch looked through."""
    __import__("dressage.trainers.trl_dpo.trainer")
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def settings(**more: Any) -> Settings:
    base = {"learning_rate": 3e-3, "batch_pairs": 4, "microbatch_pairs": 2, "lora": {"r": 4, "alpha": 8}}
    return Settings.model_validate({**base, "beta": BETA, **more})


def trained(backbone: TinyBackbone, folder: Path, data: list[Pair], **more: Any) -> tuple[Trained, Desk]:
    desk = Desk(folder)
    return open_kind(settings(**more)).train(data, backbone, desk.workplace), desk


@pytest.mark.parametrize("loss", AT_START)
def test_every_loss_starts_where_its_equation_does(backbone, tmp_path, pairs, loss: str) -> None:
    more = {"label_smoothing": EPSILON} if loss in SMOOTHED else {}
    result, desk = trained(backbone, tmp_path, pairs[:4], loss_type=[loss], **more)
    assert desk.lines[0]["loss"] == pytest.approx(AT_START[loss], rel=1e-5)
    assert result.facts["start/gap"] == 0.0
    assert result.step == 1


def test_losses_are_added_by_their_weights(backbone, tmp_path, pairs) -> None:
    _, desk = trained(backbone, tmp_path, pairs[:4], loss_type=["hinge", "sigmoid"], loss_weights=[0.5, 2.0])
    assert desk.lines[0]["loss"] == pytest.approx(0.5 + 2 * LN2, rel=1e-5)


def test_sft_beside_a_loss_adds_the_likelihood_of_the_chosen(backbone, tmp_path, pairs) -> None:
    data = pairs[:4]
    total = count = 0.0
    for pair in data:
        prompt = prompt_ids(backbone.tokenizer, pair.prompt.messages)
        reply = reply_ids(backbone.tokenizer, pair.prompt.messages, pair.chosen.text)
        with torch.no_grad():
            logprob = backbone.module(torch.tensor([prompt + reply])).logits[0].log_softmax(-1)
        total -= sum(float(logprob[len(prompt) - 1 + k, token]) for k, token in enumerate(reply))
        count += len(reply)
    _, desk = trained(backbone, tmp_path, data, loss_type=["sigmoid", "sft"], microbatch_pairs=4)
    assert desk.lines[0]["loss"] == pytest.approx(LN2 + total / count, rel=1e-5)


@pytest.mark.parametrize("divergence", ["forward_kl", "js_divergence", "alpha_divergence"])
def test_other_divergences_start_and_learn(backbone, tmp_path, pairs, divergence: str) -> None:
    result, desk = trained(backbone, tmp_path, pairs, f_divergence_type=divergence, ld_alpha=0.5, epochs=2)
    assert desk.lines[0]["loss"] == pytest.approx(LN2, rel=1e-5)
    assert result.facts["end/margin"] > 0


def test_a_run_reports_and_leaves_a_plain_adapter(backbone, tmp_path, pairs, tiny_model, capfd) -> None:
    before = {name: (p.data_ptr(), p.requires_grad) for name, p in backbone.module.named_parameters()}
    attributes, configs = set(vars(backbone.module)), _configs(backbone.module)
    result, desk = trained(backbone, tmp_path, pairs[:11], epochs=3, use_weighting=True)
    assert capfd.readouterr() == ("", "")
    assert {name: (p.data_ptr(), p.requires_grad) for name, p in backbone.module.named_parameters()} == before
    assert (set(vars(backbone.module)), _configs(backbone.module)) == (attributes, configs)
    assert result.step == len(desk.lines) == 9  # 4 + 4 + 3 pairs, three times
    assert {"rewards/margins", "logps/chosen", "grad_norm", "learning_rate", "epoch", "entropy"} < set(desk.lines[0])
    assert not any("time" in name or "second" in name for name in [*desk.lines[0], *result.facts])
    shapes = [m.weight.shape for n, m in backbone.module.named_modules() if n.endswith("_proj")]
    assert result.facts["trainable_parameters"] == sum(4 * (a + b) for a, b in shapes)
    assert result.facts["end/accuracy"] == 1.0
    assert sorted(p.name for p in result.adapter.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    ids = torch.tensor([[1, 40, 50, 60]])
    with torch.no_grad():
        plain = backbone.module(ids).logits
        model = PeftModel.from_pretrained(backbone.module, str(result.adapter)).eval()
        worn, merged = model(ids).logits, model.merge_and_unload()(ids).logits
    assert not torch.allclose(plain, worn, atol=1e-4)
    assert torch.allclose(worn, merged, atol=1e-4)


def _configs(module: Any) -> str:
    return json.dumps([module.config.to_dict(), module.generation_config.to_dict()], default=str, sort_keys=True)


def test_microbatches_change_nothing_that_is_learnt(backbone, tmp_path, pairs) -> None:
    runs = [trained(backbone, tmp_path / str(m), pairs[:11], microbatch_pairs=m)[1].lines for m in (4, 2)]
    for mine, theirs in zip(*runs, strict=True):  # the last batch has three pairs
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-4)


def test_the_reference_is_the_policy_training_starts_from(backbone, tmp_path, pairs) -> None:
    first, _ = trained(backbone, tmp_path / "1", pairs)
    backbone.adapter = first.adapter
    second, desk = trained(backbone, tmp_path / "2", pairs)
    assert second.facts["start/gap"] == 0.0  # not the base, from which the first round has moved
    assert desk.lines[0]["loss"] == pytest.approx(LN2, abs=1e-6)
    assert second.facts["adapter_hash"] != first.facts["adapter_hash"]
    with pytest.raises(ValueError, match="start from"):
        trained(backbone, tmp_path / "3", pairs, lora={"r": 2, "alpha": 8})


def test_a_policy_that_is_not_its_reference_is_noticed() -> None:
    from dressage.trainers._trl import at_its_reference

    assert at_its_reference(1e-4, dtype=torch.float32) == 1e-4
    assert at_its_reference(0.05, dtype=torch.bfloat16) == 0.05
    for gap in (0.01, float("nan")):
        with pytest.raises(RuntimeError, match="differs from its reference"):
            at_its_reference(gap, dtype=torch.float32)


def test_nan_stops_before_the_weights_are_touched(backbone, tmp_path, pairs) -> None:
    backbone.module.model.norm.weight.data.fill_(float("nan"))
    with pytest.raises((FloatingPointError, RuntimeError), match="nan"):
        trained(backbone, tmp_path, pairs)
    assert not (tmp_path / "adapter").exists()
    assert not any("lora" in name for name, _ in backbone.module.named_modules())


def test_rows_that_do_not_fit_are_counted_and_refused(backbone, tmp_path, pairs) -> None:
    trainer = open_kind(settings(max_length=30))
    long = [pair for pair in pairs if trainer.tokens(pair, backbone) > trainer.limit(backbone)]
    assert 0 < len(long) < len(pairs)
    with pytest.raises(ValueError, match=f"{len(long)} of 12 rows"):
        trainer.train(pairs, backbone, Desk(tmp_path).workplace)
    with pytest.raises(ValueError, match="nothing to learn"):
        trainer.train([], backbone, Desk(tmp_path).workplace)
    with pytest.raises(ValueError, match="the same"):
        trainer.train([pair_of(0, "tea", "tea")], backbone, Desk(tmp_path).workplace)


def test_a_run_that_changes_nothing_is_an_error(backbone, tmp_path, pairs) -> None:
    with pytest.raises(RuntimeError, match="what it was before"):
        trained(backbone, tmp_path, pairs[:4], warmup=1.0)  # one step, and its rate is 0


def test_checkpointing_changes_nothing(backbone, tmp_path, pairs) -> None:
    plain, _ = trained(backbone, tmp_path / "p", pairs)
    recomputed, _ = trained(backbone, tmp_path / "r", pairs, gradient_checkpointing=True)
    assert recomputed.facts["end/loss"] == pytest.approx(plain.facts["end/loss"], abs=1e-5)


class Killed(BaseException):
    pass


class Mortal(list[dict[str, Any]]):
    """Metric lines whose writer dies before the line of a step."""

    def __init__(self, lines: list[dict[str, Any]], step: int) -> None:
        super().__init__(lines)
        self._step = step

    def append(self, line: dict[str, Any]) -> None:
        if line["step"] == self._step:
            raise Killed
        super().append(line)


def test_killed_within_and_between_epochs_it_ends_as_one_that_never_was(backbone, tmp_path, pairs) -> None:
    more = {"epochs": 2, "schedule": "cosine", "warmup": 0.2, "save_every": 1, "loss_type": ["sigmoid", "sft"]}
    data = pairs[:11]  # three steps an epoch
    whole, desk = trained(backbone, tmp_path / "whole", data, **more)
    other = Desk(tmp_path / "killed")
    for step in (3, 4, 6):
        other.lines = Mortal(other.lines, step)
        with pytest.raises(Killed):
            open_kind(settings(**more)).train(data, backbone, other.workplace)
        other.lines = list(other.lines)
    again = open_kind(settings(**more)).train(data, backbone, other.workplace)
    files = [(r.adapter / "adapter_model.safetensors").read_bytes() for r in (whole, again)]
    assert files[0] == files[1]
    assert again.facts == whole.facts
    assert other.lines == desk.lines


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"label_smoothing": 0.1}, "would ignore it"),
        ({"loss_type": ["exo_pair"]}, "needs label_smoothing"),
        ({"loss_type": ["robust"], "label_smoothing": 0.5}, "below 0.5"),
        ({"loss_type": ["sigmoid", "sigmoid"]}, "twice"),
        ({"loss_type": ["sft"]}, "no rejected"),
        ({"loss_weights": [1.0, 2.0]}, "2 numbers for 1"),
        ({"f_divergence_type": "js_divergence", "loss_type": ["bco_pair"]}, "no meaning for bco_pair"),
        ({"f_alpha_divergence_coef": 0.3}, "alpha_divergence only"),
        ({"discopop_tau": 0.1}, "discopop only"),
        ({"loss_type": ["aot"], "use_weighting": True}, "owners"),
        ({"loss_type": ["aot"], "microbatch_pairs": 1}, "raise it"),
        ({"lora": {"dropout": 0.1}}, "dropout"),
        ({"microbatch_pairs": 3}, "not a multiple"),
        ({"loss_type": ["dpo"]}, "sigmoid"),
        ({"loss_type": []}, "at least 1"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(more: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        settings(**more)


# ---------------------------------------------------------------- what we rely on in TRL


def test_contract_the_losses_are_all_that_trl_has() -> None:
    from typing import get_args

    from trl import DPOConfig

    from dressage.trainers.trl_dpo import Loss

    told = DPOConfig.__dataclass_fields__["loss_type"].metadata["help"]
    assert set(get_args(Loss)) == {word.strip("`'., ") for word in told.split("Possible values are:")[1].split(". If")[0].split(",")}  # fmt: skip  # noqa: E501


def test_contract_trls_collator_takes_our_rows_as_they_are() -> None:
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    row = {"prompt_ids": [1, 2, 3], "chosen_ids": [4, 5], "rejected_ids": [6]}
    batch = DataCollatorForPreference(pad_token_id=0)([row])
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5], [1, 2, 3, 6, 0]]
    assert batch["completion_mask"].tolist() == [[0, 0, 0, 1, 1], [0, 0, 0, 1, 0]]


def test_contract_trl_sums_over_our_tokens_of_the_replies(backbone, tmp_path, pairs) -> None:
    """Nothing is rendered again, cut or shifted: the log-probabilities it reports are those of our tokens."""
    from dressage.trainers._forks import laid_out
    from dressage.trainers._policy import Policy
    from dressage.trainers.trl_dpo.trainer import tokenised

    forks = [tokenised(pair, backbone.tokenizer).fork for pair in pairs[:4]]
    with torch.no_grad():
        logprob_B2 = Policy(backbone.module)(laid_out(forks, layout="apart")).view(-1, 2)
    _, desk = trained(backbone, tmp_path, pairs[:4], microbatch_pairs=4)
    assert desk.lines[0]["logps/chosen"] == pytest.approx(float(logprob_B2[:, 0].mean()), rel=1e-5)
    assert desk.lines[0]["logps/rejected"] == pytest.approx(float(logprob_B2[:, 1].mean()), rel=1e-5)
