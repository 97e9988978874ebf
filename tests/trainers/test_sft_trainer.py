"""Whole sft trainings of a tiny model, and what we rely on in TRL."""

import hashlib

import pytest
import torch
from peft import PeftModel
from training_parts import Desk, TinyBackbone

from dressage.protocols import Example
from dressage.tokens import prompt_ids, reply_ids
from dressage.trainers._lora import LoraSettings
from dressage.trainers.sft import Settings
from dressage.trainers.sft.trainer import labelled
from dressage.trainers.sft.trainer import open as open_sft

FAST = Settings(learning_rate=3e-3, batch_examples=4, microbatch_examples=2, lora=LoraSettings(r=4, alpha=8))


def trained(backbone, folder, data, **more):
    desk = Desk(folder)
    return open_sft(FAST.model_copy(update=more)).train(data, backbone, desk.workplace), desk


def nll(module, tokenizer, data: list[Example]) -> float:
    """Mean over all reply tokens of −log p, from whole logits."""
    total, count = 0.0, 0
    for example in data:
        prompt = prompt_ids(tokenizer, example.prompt.messages)
        reply = reply_ids(tokenizer, example.prompt.messages, example.reply.text)
        with torch.no_grad():
            logprob = module(torch.tensor([prompt + reply])).logits[0].log_softmax(-1)
        total -= sum(float(logprob[len(prompt) - 1 + k, token]) for k, token in enumerate(reply))
        count += len(reply)
    return total / count


def test_the_loss_is_of_all_reply_tokens_and_of_no_others(backbone: TinyBackbone, tmp_path, examples) -> None:
    expected = nll(backbone.module, backbone.tokenizer, examples)
    for micro in (8, 4, 1):
        result, _ = trained(backbone, tmp_path / str(micro), examples, batch_examples=8, microbatch_examples=micro)
        assert result.facts["start/loss"] == pytest.approx(expected, abs=1e-5)
        assert result.step == 1
    replies = [labelled(e, backbone.tokenizer)["labels"] for e in examples]
    assert result.facts["tokens_learnt"] == sum(label != -100 for row in replies for label in row)


def test_it_imitates_and_leaves_a_plain_adapter(backbone: TinyBackbone, tmp_path, examples) -> None:
    module = backbone.module
    weights = hashlib.sha256(b"".join(t.numpy().tobytes() for t in module.state_dict().values())).hexdigest()
    attributes, forward = set(vars(module)), module.forward
    before = nll(module, backbone.tokenizer, examples)
    result, desk = trained(backbone, tmp_path, examples, epochs=3)
    assert len(desk.lines) == result.step == 6
    assert (set(vars(module)), module.forward) == (attributes, forward)
    assert not any("lora" in name for name, _ in module.named_modules())
    assert hashlib.sha256(b"".join(t.numpy().tobytes() for t in module.state_dict().values())).hexdigest() == weights
    after = nll(PeftModel.from_pretrained(module, str(result.adapter)), backbone.tokenizer, examples)
    assert after < before - 0.5


def test_nothing_is_printed_and_the_same_seed_gives_the_same_bytes(backbone, tmp_path, examples, capfd) -> None:
    files = [
        {p.name: p.read_bytes() for p in trained(backbone, tmp_path / name, examples)[0].adapter.iterdir()}
        for name in "ab"
    ]
    assert files[0] == files[1]
    assert capfd.readouterr() == ("", "")


def test_it_goes_on_from_an_adapter(backbone, tmp_path, examples) -> None:
    first, _ = trained(backbone, tmp_path / "1", examples)
    backbone.adapter = first.adapter
    second, _ = trained(backbone, tmp_path / "2", examples, batch_examples=8, microbatch_examples=8)
    worn = PeftModel.from_pretrained(backbone.module, str(first.adapter))
    assert second.facts["start/loss"] == pytest.approx(nll(worn, backbone.tokenizer, examples), abs=1e-5)


def test_a_long_row_is_refused_not_cut(backbone, tmp_path, examples) -> None:
    with pytest.raises(ValueError, match="8 of 8 rows"):
        trained(backbone, tmp_path, examples, max_length=8)


def test_a_model_that_is_not_finite_stops(backbone, tmp_path, examples) -> None:
    backbone.module.model.norm.weight.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="step 1"):
        trained(backbone, tmp_path, examples)


def test_contract_trls_collator_takes_our_labels_as_they_are() -> None:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    rows = [{"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}, {"input_ids": [4, 5], "labels": [-100, 5]}]
    batch = DataCollatorForLanguageModeling(pad_token_id=0)(rows)
    assert batch["labels"].tolist() == [[-100, 2, 3], [-100, 5, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
