"""Batches, layouts and log-probabilities of dpo: by hand, by property, against whole logits and against TRL."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_parts import TinyBackbone, pair_of, prompt_of, reply_of

from dressage.maths import losses
from dressage.protocols import Pair
from dressage.trainers._forks import Fork, laid_out
from dressage.trainers._pairs import PairTokens, tokenised
from dressage.trainers._plan import plan
from dressage.trainers._policy import Policy, layout_for
from dressage.trainers.dpo.batches import collate

lengths = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=30)


def made(sizes: list[tuple[int, int, int]]) -> list[PairTokens]:
    noise = random.Random(0)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(noise.choices(range(10, 300), k=n))

    return [PairTokens(f"p{i}", ids(p), ids(c), ids(r), 1.0) for i, (p, c, r) in enumerate(sizes)]


@given(sizes=lengths, seed=st.integers(0, 3), epoch=st.integers(0, 2))
def test_cutting_a_batch_otherwise_changes_no_batch(sizes, seed: int, epoch: int) -> None:
    pairs = [pair.length for pair in made(sizes)]
    batches = []
    for micro in (1, 2, 4):
        cut = plan(pairs, seed=seed, epoch=epoch, batch=4, micro=micro)
        assert sorted(i for m in cut for i in m) == list(range(len(pairs)))
        flat = [i for m in cut for i in m]
        batches.append([flat[i : i + 4] for i in range(0, len(flat), 4)])
    assert batches[0] == batches[1] == batches[2]


def test_epochs_and_seeds_have_their_own_order() -> None:
    pairs = [pair.length for pair in made([(3, 3, 3)] * 40)]
    orders = [
        [i for m in plan(pairs, seed=seed, epoch=epoch, batch=1, micro=1) for i in m]
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    assert len({tuple(order) for order in orders}) == 3


def test_shared_layout_by_hand() -> None:
    batch = collate([PairTokens("p", (1, 2), (3, 4), (5,), 1.0)], [0], layout="shared")
    assert batch.inputs["input_ids"].tolist() == [[1, 2, 3, 4, 5]]
    assert batch.inputs["position_ids"].tolist() == [[0, 1, 2, 3, 2]]
    assert batch.inputs["attention_mask"][0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    assert batch.where_N.tolist() == [1, 2, 1]
    assert batch.target_N.tolist() == [3, 4, 5]
    assert batch.reply_N.tolist() == [0, 0, 1]


def test_a_fork_of_three_replies_by_hand() -> None:
    batch = laid_out([Fork((1,), ((2,), (3, 4), (5,))), Fork((6, 7), ((8,),))], layout="shared")
    assert batch.inputs["input_ids"].tolist() == [[1, 2, 3, 4, 5], [6, 7, 8, 0, 0]]
    assert batch.inputs["position_ids"].tolist() == [[0, 1, 1, 2, 1], [0, 1, 2, 0, 0]]
    assert batch.inputs["attention_mask"][0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 0, 1, 0, 0],
        [1, 0, 1, 1, 0],
        [1, 0, 0, 0, 1],
    ]
    assert batch.where_N.tolist() == [0, 0, 2, 0, 6]
    assert batch.target_N.tolist() == [2, 3, 4, 5, 8]
    assert batch.reply_N.tolist() == [0, 1, 1, 2, 3]


def test_both_layouts_are_the_modules_own_log_probabilities(backbone: TinyBackbone) -> None:
    pairs = made([(3, 5, 2), (7, 1, 9), (1, 4, 4)])
    policy = Policy(backbone.module)
    expected = []
    with torch.no_grad():
        for pair in pairs:
            for reply in (pair.chosen, pair.rejected):
                logits = backbone.module(torch.tensor([pair.prompt + reply])).logits[0].log_softmax(-1)
                start = len(pair.prompt) - 1
                expected.append(sum(float(logits[start + k, token]) for k, token in enumerate(reply)))
        for layout in ("shared", "apart"):
            found = policy(collate(pairs, [0, 1, 2], layout=layout))
            assert found.flatten().tolist() == pytest.approx(expected, abs=1e-4)


def test_a_model_that_does_not_obey_the_mask_gets_plain_rows(backbone: TinyBackbone, tiny_model) -> None:
    from transformers import AutoModelForCausalLM

    forks = [pair.fork for pair in made([(3, 5, 6)])]
    assert layout_for(backbone.module, forks) == "shared"
    # eager attention adds its mask, so a boolean one forbids nothing
    eager = AutoModelForCausalLM.from_pretrained(tiny_model, attn_implementation="eager", dtype="float32")
    eager.requires_grad_(False)
    assert layout_for(eager, forks) == "apart"


def test_a_model_with_more_after_its_head_is_refused(backbone: TinyBackbone) -> None:
    backbone.module.register_forward_hook(lambda module, args, out: setattr(out, "logits", 3 * out.logits))
    with pytest.raises(ValueError, match="output head"):
        layout_for(backbone.module, [made([(3, 5, 6)])[0].fork])


def test_drawn_tokens_are_used_where_they_spell_the_reply(backbone: TinyBackbone) -> None:
    prompt, end = prompt_of(0), backbone.tokenizer.eos_token_id
    spelt = tuple(backbone.tokenizer.encode("tea and rice", add_special_tokens=False))
    odd = tuple(i for letter in "tea" for i in backbone.tokenizer.encode(letter, add_special_tokens=False))
    assert len(odd) == 3  # not how the tokenizer would spell it, but how it may have been drawn
    cases = {
        "tea": ((*odd, end), (*odd, end)),
        "tea and rice": ((*spelt, end), (*spelt, end)),
        "another model's numbers": ((7, 8, end), None),
        "out of this vocabulary": ((10**6, 5), None),
        "no numbers at all": ((), None),
    }
    for text, (ids, expected) in cases.items():
        given = reply_of(prompt, text, token_ids=ids, mask=(True,) * len(ids), finish="stop")
        pair = tokenised(Pair(prompt, given, reply_of(prompt, "no"), 1.0), backbone.tokenizer)
        rendered = (*backbone.tokenizer.encode(text, add_special_tokens=False), end)
        assert pair.chosen == (expected or rendered)
        assert backbone.tokenizer.decode(pair.rejected) == "no<|im_end|>"
        assert backbone.tokenizer.decode(pair.prompt).endswith("<|im_start|>assistant\n")


def test_a_reply_that_was_cut_is_taught_no_end(backbone: TinyBackbone) -> None:
    prompt = prompt_of(0)
    cut = reply_of(prompt, "I have looked at your order and", finish="length")
    pair = tokenised(Pair(prompt, cut, reply_of(prompt, "no"), 1.0), backbone.tokenizer)
    assert backbone.tokenizer.decode(pair.chosen) == "I have looked at your order and"


def test_a_pair_that_says_nothing_names_its_prompt(backbone: TinyBackbone) -> None:
    pair = pair_of(3, "same", "same")
    with pytest.raises(ValueError, match=pair.prompt.id):
        tokenised(pair, backbone.tokenizer)


def test_loss_and_gradient_are_trls(backbone: TinyBackbone, tmp_path, pairs: list[Pair]) -> None:
    import datasets
    from peft import LoraConfig
    from trl import DPOConfig, DPOTrainer

    rows = [
        {"prompt": p.prompt.messages[0].content, "chosen": p.chosen.text, "rejected": p.rejected.text}
        for p in pairs[:4]
    ]
    theirs = DPOTrainer(
        model=backbone.module,
        args=DPOConfig(str(tmp_path), use_cpu=True, bf16=False, gradient_checkpointing=False, beta=0.3, report_to=[]),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=backbone.tokenizer,
        peft_config=LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    torch.manual_seed(1)
    adapter = [p for p in theirs.model.parameters() if p.requires_grad]
    for parameter in adapter:
        parameter.data.normal_(std=0.1)
    batch = theirs.data_collator(list(theirs.train_dataset))
    theirs.model.eval()
    expected = theirs.compute_loss(theirs.model, dict(batch))
    expected.backward()
    gradients = [parameter.grad.clone() for parameter in adapter]
    theirs.model.zero_grad()

    ids, mask, reply = (batch[n].tolist() for n in ("input_ids", "attention_mask", "completion_mask"))
    kept = [[t for t, m in zip(*row, strict=True) if m] for row in zip(ids, mask, strict=True)]
    parts = [(tuple(row[: len(row) - sum(r)]), tuple(row[-sum(r) :])) for row, r in zip(kept, reply, strict=True)]
    ours = [PairTokens(str(i), parts[i][0], parts[i][1], parts[i + 4][1], 1.0) for i in range(4)]
    microbatch = collate(ours, range(4), layout="shared")
    policy = Policy(theirs.model.get_base_model())
    with torch.no_grad(), theirs.model.disable_adapter():
        reference = policy(microbatch).view(-1, 2)
    loss = losses.dpo(*policy(microbatch).view(-1, 2).unbind(1), *reference.unbind(1), beta=0.3).loss_B.mean()
    loss.backward()
    assert abs(loss.item() - 0.6931) > 0.01  # the adapter is not the reference
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    for parameter, gradient in zip(adapter, gradients, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-5)
