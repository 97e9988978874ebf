"""Our `dpo` against the DPOTrainer of TRL 1.16 on the same pairs: pairs per second, peak memory, and the same losses.

    python scripts/bench_dpo.py                        # 16 pairs of 2 × 200 tokens, 5 interleaved repeats
    python scripts/bench_dpo.py --small                # a try on a tiny model, in two minutes

The sides, all with LoRA r = 16 on all linear layers in fp32, sigmoid loss, 8 pairs an optimizer step (--batch), one
epoch, the same pairs in the same order and the same adapter to begin with:

    ours           one pair in memory at once, the reference computed first
    trl-defaults   DPOConfig as it is, which means 8 pairs in memory at once and gradient checkpointing; only what a
                   CPU cannot do is switched off (bf16)
    trl-batch-4    4 pairs at once without gradient checkpointing
    trl-best       1 pair at once without gradient checkpointing, reference precomputed

Every measurement is a process of its own that loads the model before the clock starts; from then on everything
counts: tokenising, the reference, training. The replies are sentences of the builtin prompts, all of one length, so
that nobody pads. Exits with 1 where the losses differ by more than --within.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _bench import DEMO, chats, in_children, machine, model_folder, show, tell, workplace

OURS = "ours"
THEIRS: dict[str, dict[str, Any]] = {
    "trl-defaults": {},
    "trl-batch-4": {"per_device_train_batch_size": 4, "gradient_checkpointing": False},
    "trl-best": {"per_device_train_batch_size": 1, "gradient_checkpointing": False, "precompute_ref_log_probs": True},
}
"""What of DPOConfig is not as it comes, besides what is the same for all."""
SEED, BETA, LEARNING_RATE = 0, 0.1, 2e-4


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEMO, help="a folder or hub name")
    parser.add_argument("--pairs", type=int, help="16; --small: 8")
    parser.add_argument("--tokens", type=int, help="of every reply (200; --small: 24)")
    parser.add_argument("--batch", type=int, default=8, help="pairs an optimizer step; trl's default is 8")
    parser.add_argument("--repeats", type=int, help="5; --small: 1")
    parser.add_argument("--against", nargs="+", choices=list(THEIRS), default=["trl-defaults", "trl-best"])
    parser.add_argument("--within", type=float, default=1e-4, help="how far losses may differ")
    parser.add_argument("--small", action="store_true", help="a tiny random model and tiny numbers")
    parser.add_argument("--side", choices=(OURS, *THEIRS), help="measure one side in this process, print one JSON line")
    options = parser.parse_args()
    options.pairs = options.pairs or (8 if options.small else 16)
    options.tokens = options.tokens or (24 if options.small else 200)
    options.repeats = options.repeats or (1 if options.small else 5)
    if options.small:
        options.batch = min(options.batch, 4)
    if options.pairs % options.batch or options.batch % 4:
        parser.error("--pairs must be a multiple of --batch, and that one of 4")
    if options.side is None:
        return compare(options)
    (ours if options.side == OURS else theirs)(options)
    return 0


def compare(options: argparse.Namespace) -> int:
    folder = model_folder(options.model, small=options.small)
    print(machine())
    print(f"{options.pairs} pairs of 2 × {options.tokens} tokens, {options.batch} an optimizer step; {folder}")
    arguments = [f"--model={folder}", *(f"--{name}={getattr(options, name)}" for name in ("pairs", "tokens", "batch"))]
    sides = dict.fromkeys((OURS, *options.against), sys.executable)
    told = in_children(sides, arguments=arguments, repeats=options.repeats)
    show(told, unit="pairs/s", over=options.against)
    losses = {name: all_of[-1]["losses"] for name, all_of in told.items()}
    print(f"\n{'loss of step':14}" + "".join(f"{name:>14}" for name in losses))
    for step, row in enumerate(zip(*losses.values(), strict=True), start=1):
        print(f"{step:<14}" + "".join(f"{loss:14.6f}" for loss in row))
    worst = 0.0
    for name in options.against:
        gaps = [abs(a - b) for a, b in zip(losses[OURS], losses[name], strict=True)]
        print(f"{OURS} and {name} differ by {gaps[0]:.1e} in the first batch, by at most {max(gaps):.1e} in the run")
        worst = max(worst, *gaps)
    print(f"equal within {options.within:g}" if worst <= options.within else f"NOT EQUAL within {options.within:g}")
    return int(worst > options.within)


def pairs_of(tokenizer: Any, n: int, tokens: int) -> list[Any]:
    """Pairs whose replies are shuffled sentences of the builtin prompts, cut at `tokens` tokens: from text alone."""
    from dressage.protocols import Pair
    from dressage.records import Candidate, Message, Prompt

    sentences = [chat[1]["content"] for chat in chats(250)]

    def reply(prompt: Prompt, number: int) -> Candidate:
        drawn = random.Random(f"{prompt.id} {number}").sample(sentences, 1 + tokens // 8)
        ids = tokenizer.encode(" ".join(drawn), add_special_tokens=False)[: tokens - 1]  # the last one ends the reply
        message = Message(role="assistant", content=tokenizer.decode(ids).strip())
        return Candidate.of(prompt_id=prompt.id, messages=(message,), model="given")

    prompts = [
        Prompt.of(tuple(Message.model_validate(m) for m in chat), source="bench", split="train") for chat in chats(n)
    ]
    return [Pair(prompt, reply(prompt, 0), reply(prompt, 1), 1.0) for prompt in prompts]


def opened(options: argparse.Namespace) -> tuple[Any, Any]:
    """Our trainer, and the model."""
    from dressage.plugins import open_kind, settings_of

    model = open_kind(settings_of("models", "local").model_validate({"path": options.model, "dtype": "float32"}))
    settings = {
        "kind": "dpo",
        "beta": BETA,
        "batch_pairs": options.batch,
        "learning_rate": LEARNING_RATE,
        "schedule": "constant_with_warmup",
        "warmup": 0.0,
    }
    return open_kind(settings_of("trainers", "dpo").model_validate(settings)), model


def ours(options: argparse.Namespace) -> None:
    trainer, model = opened(options)
    pairs = pairs_of(model.tokenizer, options.pairs, options.tokens)
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        trainer.train(pairs, model, workplace(Path(folder), lines, seed=SEED))
        seconds = time.monotonic() - began
    losses = [line["loss/unweighted"] for line in lines]
    tell(count=len(pairs), seconds=seconds, loss=losses[-1], losses=losses)


def theirs(options: argparse.Namespace) -> None:
    from datasets import Dataset
    from peft import LoraConfig
    from trl import DPOConfig, DPOTrainer

    from dressage.seeds import seed_for
    from dressage.trainers._lora import LoraSettings
    from dressage.trainers._lora.adapter import adapted, trainable

    _, model = opened(options)
    module, tokenizer = model.module, model.tokenizer
    with adapted(module, LoraSettings(), seed=seed_for(SEED, "lora"), start=None) as started:
        start = {name: parameter.detach().clone() for name, parameter in trainable(started).items()}
    module.requires_grad_(True)  # as from_pretrained leaves it
    rows = as_text(tokenizer, pairs_of(tokenizer, options.pairs, options.tokens), batch=options.batch)
    known: dict[str, Any] = {"per_device_train_batch_size": options.batch, **THEIRS[options.side]}
    with tempfile.TemporaryDirectory() as folder:
        arguments = DPOConfig(
            output_dir=folder,
            gradient_accumulation_steps=options.batch // known["per_device_train_batch_size"],
            num_train_epochs=1,
            beta=BETA,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant_with_warmup",
            train_sampling_strategy="sequential",  # the rows are already in the order in which we take them
            use_cpu=True,
            bf16=False,
            dataloader_pin_memory=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_steps=1,
            **known,
        )
        data = Dataset.from_list(rows)
        began = time.monotonic()
        trainer = DPOTrainer(
            model=module,
            args=arguments,
            train_dataset=data,
            processing_class=tokenizer,
            peft_config=LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear"),
        )
        trainer.model.load_state_dict(start, strict=False)  # its adapter begins as ours does
        trainer.train()
        seconds = time.monotonic() - began
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    tell(count=len(rows), seconds=seconds, loss=losses[-1], losses=losses)


def as_text(tokenizer: Any, pairs: Sequence[Any], *, batch: int) -> list[Mapping[str, str]]:
    """The pairs as trl reads plain text, in the order in which our first epoch takes them.

    Raises:
        ValueError: trl would make other tokens of a text than we train on.
    """
    from dressage.trainers._pairs import tokenised
    from dressage.trainers._plan import plan

    tokens = [tokenised(pair, tokenizer) for pair in pairs]
    order = [i for some in plan([t.length for t in tokens], seed=SEED, epoch=0, batch=batch, micro=1) for i in some]
    rows = []
    for index in order:
        prompt, chosen, rejected = (
            tokenizer.decode(ids) for ids in (tokens[index].prompt, tokens[index].chosen, tokens[index].rejected)
        )
        whole = tokenizer(prompt + chosen)["input_ids"]
        if tuple(whole) != tokens[index].prompt + tokens[index].chosen:
            raise ValueError(f"{json.dumps(prompt + chosen)} has other tokens as text than as a conversation")
        rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return rows


if __name__ == "__main__":
    sys.exit(main())
