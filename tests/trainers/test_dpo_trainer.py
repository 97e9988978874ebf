"""Whole dpo trainings of a tiny model: what they learn, leave, report and refuse."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from training_parts import Desk, TinyBackbone, pair_of

from dressage.protocols import Pair, Trained
from dressage.trainers._lora import LoraSettings
from dressage.trainers._pairs import tokenised
from dressage.trainers._policy import Policy
from dressage.trainers.dpo import Settings
from dressage.trainers.dpo.batches import collate
from dressage.trainers.dpo.trainer import open as open_dpo

FAST = Settings(learning_rate=3e-3, batch_pairs=4, microbatch_pairs=2, lora=LoraSettings(r=4, alpha=8))


def trained(backbone: TinyBackbone, folder: Path, data: list[Pair], **more: object) -> tuple[Trained, Desk]:
    desk = Desk(folder)
    return open_dpo(FAST.model_copy(update=more)).train(data, backbone, desk.workplace), desk


def test_a_run_reports_and_starts_at_its_reference(backbone, tmp_path, pairs) -> None:
    result, desk = trained(backbone, tmp_path, pairs[:10], epochs=2)
    assert result.step == 6  # 4 + 4 + 2 pairs, twice
    assert len(desk.lines) == 6
    first = desk.lines[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert result.facts["start/gap"] == 0.0
    assert result.facts["start/loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert result.facts["pairs"] == 10
    # r (in + out) over q, k, v, o, gate, up, down of two layers
    shapes = [m.weight.shape for n, m in backbone.module.named_modules() if n.endswith("_proj")]
    assert result.facts["trainable_parameters"] == sum(4 * (a + b) for a, b in shapes)
    assert {"rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins"} < set(first)
    assert {"logps/chosen", "logps/rejected", "grad_norm", "learning_rate", "epoch", "step"} < set(first)
    assert desk.progress.done == {"reference": [10, 10], "training": [6, 6]}
    assert not any("time" in name or "second" in name or "runtime" in name for name in [*first, *result.facts])
    assert sorted(p.name for p in result.adapter.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter", "checkpoints", "reference.safetensors"]


def test_nothing_of_the_libraries_is_printed(backbone, tmp_path, pairs, capfd, recwarn) -> None:
    trained(backbone, tmp_path, pairs[:4])
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert [str(w.message) for w in recwarn if "deprecated" in str(w.message)] == []


def test_the_same_seed_gives_the_same_bytes_and_another_other_ones(backbone, tmp_path, pairs) -> None:
    folders = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        workplace = replace(Desk(tmp_path / name).workplace, seed=seed)
        folders.append(open_dpo(FAST).train(pairs, backbone, workplace).adapter)
    files = [{p.name: p.read_bytes() for p in folder.iterdir()} for folder in folders]
    assert files[0] == files[1]
    assert files[0]["adapter_model.safetensors"] != files[2]["adapter_model.safetensors"]


def test_microbatches_change_nothing_that_is_learnt(backbone, tmp_path, pairs) -> None:
    runs = [
        trained(backbone, tmp_path / str(m), pairs[:10], microbatch_pairs=m, weight="margin", warmup=0.0)[1].lines
        for m in (4, 2, 1)
    ]
    for other in runs[1:]:
        assert len(other) == len(runs[0]) == 3
        for name in ("loss", "grad_norm", "logps/chosen"):
            assert other[0][name] == pytest.approx(runs[0][0][name], rel=1e-6)
        for mine, theirs in zip(other, runs[0], strict=True):
            assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-4)


def test_the_margin_is_a_weight_of_mean_one(backbone, tmp_path) -> None:
    data = [pair_of(i, f"good {i}", f"bad {i}", margin) for i, margin in enumerate((0.2, 0.6))]
    _, desk = trained(backbone, tmp_path, data, weight="margin", batch_pairs=1, microbatch_pairs=1)
    shares = sorted((desk.lines[0]["loss"] / desk.lines[0]["loss/unweighted"],
                     desk.lines[1]["loss"] / desk.lines[1]["loss/unweighted"]))  # fmt: skip
    assert shares == pytest.approx([0.5, 1.5], rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "at_start"), [("ipo", 25.0), ("hinge", 1.0), ("robust", math.log(2)), ("length_normalised", math.log(2))]
)
def test_other_losses_start_where_their_equation_does(backbone, tmp_path, pairs, loss: str, at_start: float) -> None:
    result, _ = trained(backbone, tmp_path, pairs[:8], loss=loss)
    assert result.facts["start/loss"] == pytest.approx(at_start, rel=1e-5)


def test_a_margin_must_be_kept_and_the_chosen_stays_likely(backbone, tmp_path) -> None:
    data = [pair_of(i, "thank you tea", "house tea", margin=0.5) for i in range(8)]
    ahead, _ = trained(backbone, tmp_path / "m", data, margin=2.0)
    assert ahead.facts["start/loss"] == pytest.approx(math.log1p(math.exp(1.0)), abs=1e-5)  # −log σ(0 − 2 · ½)
    _, desk = trained(backbone, tmp_path / "s", data, sft=0.5, warmup=0.0)
    first = desk.lines[0]
    lengths = [len(tokenised(pair, backbone.tokenizer).chosen) for pair in data]
    assert len(set(lengths)) == 1
    likelihood = -first["logps/chosen"] / lengths[0]
    assert first["loss"] == pytest.approx(math.log(2) + 0.5 * likelihood, abs=1e-4)
    assert first["rewards/margins"] == pytest.approx(0.0, abs=1e-6)


def test_settings_that_a_loss_does_not_read_are_refused() -> None:
    with pytest.raises(ValidationError, match="label_noise is read by"):
        Settings(label_noise=0.1)
    with pytest.raises(ValidationError, match="margin is for"):
        Settings(loss="ipo", margin=0.1)


def test_a_second_round_starts_from_the_first(backbone, tmp_path, pairs) -> None:
    first, _ = trained(backbone, tmp_path / "1", pairs)
    backbone.adapter = first.adapter
    second, desk = trained(backbone, tmp_path / "2", pairs)
    assert second.facts["start/gap"] <= 1e-3
    assert desk.lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert second.facts["adapter_hash"] != first.facts["adapter_hash"]
    with pytest.raises(ValueError, match="start from"):
        trained(backbone, tmp_path / "3", pairs, lora=LoraSettings(r=2, alpha=8))


def test_an_interrupted_run_keeps_its_reference(backbone, tmp_path, pairs) -> None:
    once, _ = trained(backbone, tmp_path, pairs)
    before = (tmp_path / "reference.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "checkpoints")  # as if it had died before the first
    again, desk = trained(backbone, tmp_path, pairs)
    assert "reference" not in desk.progress.done
    assert (tmp_path / "reference.safetensors").read_bytes() == before
    assert again.facts == once.facts
    shutil.rmtree(tmp_path / "checkpoints")
    _, desk = trained(backbone, tmp_path, pairs[:8])
    assert "reference" in desk.progress.done


def test_a_damaged_reference_is_computed_again(backbone, tmp_path, pairs) -> None:
    once, _ = trained(backbone, tmp_path, pairs[:4])
    path = tmp_path / "reference.safetensors"
    whole = path.read_bytes()
    for damaged in (whole[:-9], whole[:-1] + bytes([whole[-1] ^ 1])):
        shutil.rmtree(tmp_path / "checkpoints")
        path.write_bytes(damaged)
        again, desk = trained(backbone, tmp_path, pairs[:4])
        assert desk.progress.done["reference"] == [4, 4]
        assert (again.facts, path.read_bytes()) == (once.facts, whole)


def drawn(pair: Pair, backbone: TinyBackbone, off: float = 0.0) -> Pair:
    """The pair as if our sampler had drawn it, its recorded log-probabilities off by so many nats."""
    tokens = tokenised(pair, backbone.tokenizer)
    with torch.no_grad():
        sums = Policy(backbone.module)(collate([tokens], [0], layout="apart")).tolist()
    replies = []
    for reply, ids, total in zip((pair.chosen, pair.rejected), (tokens.chosen, tokens.rejected), sums, strict=True):
        each = tuple((total + off) / len(ids) for _ in ids)
        known = {"token_ids": ids, "mask": (True,) * len(ids), "logprobs_at_1": each, "model": "tiny"}
        replies.append(reply.model_copy(update=known))
    return Pair(pair.prompt, replies[0], replies[1], pair.margin)


def test_recorded_log_probabilities_may_be_the_reference(backbone, tmp_path, pairs) -> None:
    result, desk = trained(backbone, tmp_path, [drawn(p, backbone) for p in pairs], reference="sampled")
    assert 0 < result.facts["start/gap"] < 1e-3
    assert "reference" not in desk.progress.done
    computed, _ = trained(backbone, tmp_path / "c", pairs)
    assert result.facts["end/loss"] == pytest.approx(computed.facts["end/loss"], abs=1e-3)
    with pytest.raises(ValueError, match="drawn by given"):
        trained(backbone, tmp_path / "g", pairs, reference="sampled")


def test_a_reference_that_is_another_policy_stops(backbone, tmp_path, pairs) -> None:
    with pytest.raises(RuntimeError, match="differs from its reference"):
        trained(backbone, tmp_path, [drawn(p, backbone, off=0.5) for p in pairs], reference="sampled")


def test_nan_stops_before_anything_is_written(backbone, tmp_path, pairs) -> None:
    data = [drawn(p, backbone, off=float("nan")) for p in pairs]
    with pytest.raises(FloatingPointError, match="step 1"):
        trained(backbone, tmp_path, data, reference="sampled")
    assert not (tmp_path / "adapter").exists()
    assert not any("lora" in name for name, _ in backbone.module.named_modules())


def test_a_run_that_changes_nothing_is_an_error(backbone, tmp_path, pairs) -> None:
    with pytest.raises(RuntimeError, match="what it was before"):
        trained(backbone, tmp_path, pairs[:4], warmup=1.0)  # one step, and its rate is 0


def test_rows_that_do_not_fit_are_counted_and_refused(backbone, tmp_path, pairs) -> None:
    trainer = open_dpo(FAST.model_copy(update={"max_length": 30}))
    fit = [trainer.tokens(pair, backbone) <= trainer.limit(backbone) for pair in pairs]
    assert 0 < fit.count(False) < len(pairs)
    with pytest.raises(ValueError, match=f"{fit.count(False)} of 12 rows"):
        trainer.train(pairs, backbone, Desk(tmp_path).workplace)
    with pytest.raises(ValueError, match="nothing to learn"):
        trainer.train([], backbone, Desk(tmp_path).workplace)
    assert open_dpo(FAST).limit(backbone) == 1024


def test_half_precision_starts_exactly_at_its_reference(backbone, tmp_path, pairs) -> None:
    backbone.module.to(torch.bfloat16)
    result, _ = trained(backbone, tmp_path, pairs, epochs=2)
    assert result.facts["start/gap"] == 0.0
    assert result.facts["end/accuracy"] == 1.0


def test_checkpointing_and_dropout_change_no_start(backbone, tmp_path, pairs) -> None:
    plain, _ = trained(backbone, tmp_path / "p", pairs)
    recomputed, _ = trained(backbone, tmp_path / "r", pairs, gradient_checkpointing=True)
    assert recomputed.facts["end/loss"] == pytest.approx(plain.facts["end/loss"], abs=1e-5)
    dropped, _ = trained(backbone, tmp_path / "d", pairs, lora=LoraSettings(r=4, alpha=8, dropout=0.5))
    assert dropped.facts["start/gap"] == 0.0
    assert dropped.facts["end/loss"] != pytest.approx(plain.facts["end/loss"], abs=1e-5)


def test_a_batch_is_whole_microbatches() -> None:
    with pytest.raises(ValidationError, match="not a multiple"):
        Settings(batch_pairs=8, microbatch_pairs=3)
