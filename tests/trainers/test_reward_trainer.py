"""Whole reward trainings of a tiny model: the loss is TRL's, the scores are centred, the measures are by hand."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError
from safetensors.torch import load_file
from training_parts import Desk, TinyBackbone, pair_of

from dressage.models.local import Settings as LocalSettings
from dressage.plugins import open_kind
from dressage.protocols import SCORE_HEAD, SCORE_SCALE, Pair, Trained
from dressage.records import Message
from dressage.trainers._forks import Fork, ends, laid_out
from dressage.trainers._lora import LoraSettings
from dressage.trainers._pairs import PairTokens
from dressage.trainers.reward import Settings, measures
from dressage.trainers.reward.learner import Scorer, bradley_terry, collate, scores
from dressage.trainers.reward.trainer import open as open_reward
from dressage.trainers.reward.trainer import tokenised

FAST = Settings(learning_rate=3e-3, batch_pairs=4, microbatch_pairs=2, held_out=0.0, lora=LoraSettings(r=4, alpha=8))


def trained(backbone: TinyBackbone, folder: Path, data: list[Pair], **more: object) -> tuple[Trained, Desk]:
    desk = Desk(folder)
    return open_reward(FAST.model_copy(update=more)).train(data, backbone, desk.workplace), desk


def about(i: int) -> Pair:
    """Polite against curt, of equal length and told apart by a word."""
    return pair_of(i, f"thank you tea {i}", f"house bread tea {i}")


@pytest.fixture(scope="module")
def polite(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TinyBackbone, Trained, Desk]:
    """A reward model that has learnt to be thanked, with a fifth of the prompts held out."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    module = AutoModelForCausalLM.from_pretrained(tiny_model, dtype="float32").eval().requires_grad_(False)
    backbone = TinyBackbone(module, AutoTokenizer.from_pretrained(tiny_model))
    data = [about(i) for i in range(24)]
    return backbone, *trained(backbone, tmp_path_factory.mktemp("polite"), data, epochs=2, held_out=0.2)


def test_it_learns_what_holds_on_prompts_it_has_not_seen(polite) -> None:
    _, result, desk = polite
    facts = result.facts
    held = sum(measures.is_held_out(about(i).prompt.id, 0.2) for i in range(24))
    assert (facts["pairs"], facts["pairs_held_out"]) == (24 - held, held)
    assert facts["held_out/accuracy"] == facts["end/accuracy"] == 1.0
    assert 0 < facts["held_out/accuracy_low"] < facts["held_out/accuracy_high"] == 1.0
    assert facts["held_out/brier"] < 0.25
    assert facts["end/loss"] < 0.3 < facts["start/loss"]
    assert result.step == facts["steps"] == len(desk.lines)
    first = desk.lines[0]
    assert {"rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins"} < set(first)
    assert {"loss", "grad_norm", "learning_rate", "epoch", "step"} < set(first)
    assert not any("time" in name or "second" in name or "runtime" in name for name in [*first, *facts])


def test_scores_are_centred_and_a_judge_gives_the_same(polite, tiny_model) -> None:
    _, result, _ = polite
    learnt = [about(i) for i in range(24) if not measures.is_held_out(about(i).prompt.id, 0.2)]
    judge = open_kind(LocalSettings(path=str(tiny_model), dtype="float32", device="cpu"))
    replies = [
        [*pair.prompt.messages, Message(role="assistant", content=reply.text)]
        for pair in learnt
        for reply in (pair.chosen, pair.rejected)
    ]
    given = judge.scalars(replies, str(result.adapter), done=lambda i, a: None)
    raw = torch.tensor([score.raw for score in given], dtype=torch.float64)
    assert float(raw.mean()) == pytest.approx(0, abs=1e-4)
    assert float(raw.std(correction=0)) == pytest.approx(result.facts["score_deviation"], rel=1e-4)
    scale = json.loads((result.adapter / SCORE_SCALE).read_text())
    assert scale == {"deviation": result.facts["score_deviation"], "replies": 2 * len(learnt)}
    assert {score.deviation for score in given} == {scale["deviation"]}
    gaps = raw.view(-1, 2)[:, 0] - raw.view(-1, 2)[:, 1]
    assert float(gaps.mean()) == pytest.approx(result.facts["end/margin"], rel=1e-4)


def test_the_folder_is_a_plain_adapter_with_a_head_beside_it(polite) -> None:
    backbone, result, _ = polite
    names = ["adapter_config.json", "adapter_model.safetensors", SCORE_HEAD, SCORE_SCALE]
    assert sorted(p.name for p in result.adapter.iterdir()) == sorted(names)
    assert not any("lora" in name for name, _ in backbone.module.named_modules())
    head = load_file(result.adapter / SCORE_HEAD)
    assert {name: tuple(t.shape) for name, t in head.items()} == {
        "weight": (backbone.module.config.hidden_size,),
        "bias": (),
    }
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        worn = PeftModel.from_pretrained(backbone.module, str(result.adapter))
        expected = worn(ids).logits
        merged = worn.merge_and_unload()
        assert torch.allclose(merged(ids).logits, expected, atol=1e-5)


# ---------------------------------------------------------------- the loss


def test_the_loss_by_hand() -> None:
    loss_B, gap_B = bradley_terry(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]), torch.tensor([0.0, 0.5]))
    assert loss_B.tolist() == pytest.approx([math.log(1 + math.exp(-1)), math.log(1 + math.exp(2.5))])
    assert gap_B.tolist() == [1.0, -2.0]


@pytest.mark.parametrize("margin", [False, True], ids=["no margin", "margin"])
def test_loss_and_gradient_are_trls(backbone: TinyBackbone, tiny_model, tmp_path, pairs, margin: bool) -> None:
    import datasets
    from transformers import AutoModelForSequenceClassification
    from trl import RewardConfig, RewardTrainer

    ours = [tokenised(pair, backbone.tokenizer) for pair in pairs[:4]]
    pad = backbone.tokenizer.pad_token_id
    assert not any(
        pad in pair.prompt + pair.chosen + pair.rejected for pair in ours
    )  # else TRL's last token is another
    rows = [
        {"chosen_ids": list(p.prompt + p.chosen), "rejected_ids": list(p.prompt + p.rejected)}
        | ({"margin": p.margin} if margin else {})
        for p in ours
    ]
    classifier = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1, dtype="float32")
    keywords = {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": []}
    theirs = RewardTrainer(
        model=classifier,
        args=RewardConfig(str(tmp_path), **keywords),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=backbone.tokenizer,
    )
    classifier.eval()
    expected = theirs.compute_loss(classifier, dict(theirs.data_collator(list(theirs.train_dataset))))
    expected.backward()

    backbone.module.requires_grad_(True)
    scorer = Scorer(backbone.module).eval()
    scorer.head.weight.data.copy_(classifier.score.weight.data)
    score_B2 = scorer(collate(ours, range(4), layout="shared")).view(-1, 2)
    margin_B = torch.tensor([p.margin if margin else 0.0 for p in ours])
    loss = bradley_terry(*score_B2.unbind(1), margin_B).loss_B.mean()
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert torch.allclose(scorer.head.weight.grad, classifier.score.weight.grad, atol=1e-5)
    deep = ("layers.0.self_attn.q_proj.weight", "layers.1.mlp.down_proj.weight")
    for name in deep:
        mine, other = backbone.module.model.get_parameter(name), classifier.model.get_parameter(name)
        assert torch.allclose(mine.grad, other.grad, atol=1e-5)


def test_the_last_token_of_each_reply_is_read() -> None:
    forks = [Fork((1, 2), ((3, 4), (5,))), Fork((6,), ((7,), (8, 9)))]
    for layout, last in (("shared", [4, 5, 7, 9]), ("apart", [4, 5, 7, 9])):
        ids = laid_out(forks, layout=layout).inputs["input_ids"].flatten()
        assert ids[ends(forks, layout=layout)].tolist() == last


def test_both_layouts_score_alike_and_alone(backbone: TinyBackbone, pairs) -> None:
    torch.manual_seed(0)
    ours, scorer = [tokenised(pair, backbone.tokenizer) for pair in pairs], Scorer(backbone.module)
    shared = scores(scorer, ours, layout="shared", micro=4)
    assert torch.allclose(shared, scores(scorer, ours, layout="apart", micro=5), atol=1e-5)
    assert torch.allclose(shared[:1], scores(scorer, ours[:1], layout="apart", micro=1), atol=1e-5)


def test_microbatches_change_nothing_that_is_learnt(backbone, tmp_path, pairs) -> None:
    runs = [
        trained(backbone, tmp_path / str(m), pairs[:10], microbatch_pairs=m, warmup=0.0, margin=0.5)[1].lines
        for m in (4, 1)
    ]
    assert len(runs[0]) == len(runs[1]) == 3
    for name in ("loss", "grad_norm", "rewards/chosen"):
        assert runs[1][0][name] == pytest.approx(runs[0][0][name], rel=1e-5)
    for mine, theirs in zip(*runs, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-4)


def test_a_margin_asks_for_more(backbone, tmp_path, pairs) -> None:
    plain, none = trained(backbone, tmp_path / "0", pairs[:4], warmup=0.0)
    more, asked = trained(backbone, tmp_path / "1", pairs[:4], warmup=0.0, margin=2.0)
    assert asked.lines[0]["rewards/margins"] == none.lines[0]["rewards/margins"]
    assert asked.lines[0]["loss"] > none.lines[0]["loss"]
    assert plain.facts["adapter_hash"] != more.facts["adapter_hash"]


# ---------------------------------------------------------------- what is measured


def made(prompt: str, chosen: int, rejected: int) -> PairTokens:
    return PairTokens(prompt, (1,), (2,) * chosen, (3,) * rejected, 1.0)


def test_measures_by_hand() -> None:
    pairs = [made("a", 3, 2), made("a", 3, 2), made("b", 2, 3), made("c", 2, 2)]
    score_P2 = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    found = measures.measured(pairs, score_P2, longer_wins=True)
    assert found["accuracy"] == pytest.approx((0.75 + 0 + 1) / 3)  # a: 1 and ½
    assert found["prompts"] == 3

    def s(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    brier = [((1 - s(1)) ** 2 + 0.25) / 2, (1 - s(-2)) ** 2, (1 - s(3)) ** 2]
    assert found["brier"] == pytest.approx(sum(brier) / 3)
    assert found["confidence"] == pytest.approx(((s(1) + 0.5) / 2 + s(2) + s(3)) / 3)
    assert found["loss"] == pytest.approx(-((math.log(s(1)) + math.log(0.5)) / 2 + math.log(s(-2) * s(3))) / 3)
    assert found["length_only_accuracy"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert found["accuracy_low"] < found["accuracy"] < found["accuracy_high"]
    assert measures.measured(pairs, score_P2, longer_wins=False)["length_only_accuracy"] == pytest.approx(0.5)
    assert measures.longer_wins(pairs)
    assert not measures.longer_wins([made("a", 1, 2)])


def test_the_spread_is_over_all_replies() -> None:
    assert measures.spread(torch.tensor([[1.0, 3.0], [1.0, 3.0]])) == (2.0, 1.0)
    with pytest.raises(RuntimeError, match="every reply scores 1,"):
        measures.spread(torch.ones(3, 2))


def test_what_is_held_out_is_decided_by_the_prompt_alone() -> None:
    names = [f"{i:016x}" for i in range(4000)]
    for share in (0.0, 0.1, 0.5):
        held = {name for name in names if measures.is_held_out(name, share)}
        assert len(held) / len(names) == pytest.approx(share, abs=0.03)
    assert {n for n in names if measures.is_held_out(n, 0.1)} < held


# ---------------------------------------------------------------- what is refused


def test_bad_input_is_named(backbone, tmp_path, pairs) -> None:
    with pytest.raises(ValueError, match="nothing to learn"):
        trained(backbone, tmp_path, [])
    same = [pair for pair in pairs if measures.is_held_out(pair.prompt.id, 0.9)]
    with pytest.raises(ValueError, match=f"all {len(same)} pairs are of prompts that fall to the held-out share"):
        trained(backbone, tmp_path, same, held_out=0.9)
    with pytest.raises(ValueError, match="are the same"):
        trained(backbone, tmp_path, [pair_of(0, "<think>no</think>tea", "tea")])
    with pytest.raises(ValueError, match="12 of 12 rows"):
        trained(backbone, tmp_path, pairs, max_length=8)
    with pytest.raises(ValidationError, match="not a multiple"):
        Settings(batch_pairs=8, microbatch_pairs=3)


def test_nan_stops_before_anything_is_written(backbone, tmp_path, pairs) -> None:
    with pytest.raises(FloatingPointError, match="step 1"):
        trained(backbone, tmp_path, [replace(pair, margin=float("nan")) for pair in pairs], margin=1.0)
    assert not (tmp_path / "adapter").exists()
    assert not any("lora" in name for name, _ in backbone.module.named_modules())


def test_nothing_is_printed(backbone, tmp_path, pairs, capfd) -> None:
    trained(backbone, tmp_path, pairs[:4])
    assert capfd.readouterr() == ("", "")
