"""Our `ppo` against the PPOTrainer of trl 1.12, the last release that had one: samples per second and peak memory.

    python scripts/bench_ppo.py                        # 64 samples of 48 tokens in 2 updates, 5 interleaved repeats
    python scripts/bench_ppo.py --small                # a try on a tiny model, in two minutes
    python scripts/bench_ppo.py --setup                # only make the environment for trl 1.12
    OMP_NUM_THREADS=1 python scripts/bench_ppo.py …    # where others use the cores too: threads wait for each other

Both sides: the same model in fp32, LoRA r = 16 on all linear layers of the policy, the same prompts once each, the
same reward (a rule on the text), temperature 0.7, a reply ends with EOS, two epochs, one optimizer step an epoch.
The side `head` has its critic on the policy's hidden states, `adapter` has one of its own; trl trains a value model
in full, as it does. Every measurement is a process of its own that loads before the clock starts: ours is timed over
all of `train`, trl over its `train` alone.

trl 1.12 does not live beside 1.16, so it gets an environment of its own, build/trl-1.12, made at the first run by
this Python's venv and pip, whose settings hold; later runs use it again.
"""

import argparse
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from _bench import DEMO, ROOT, chats, in_children, machine, model_folder, practice, show, tell, workplace

OURS, THEIRS = ("head", "adapter"), "trl-1.12"
ENVIRONMENT = ROOT / "build/trl-1.12"
TEMPERATURE, LEARNING_RATE, KL = 0.7, 1e-4, 0.05


def reward(text: str) -> float:
    """The share of short words: something cheap that every side computes alike."""
    words = text.split()
    return sum(len(word) <= 4 for word in words) / max(1, len(words))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEMO, help="a folder or hub name")
    parser.add_argument("--samples", type=int, help="in all (64; --small: 8)")
    parser.add_argument("--updates", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=2, help="passes over an update's samples")
    parser.add_argument("--tokens", type=int, help="longest reply (48; --small: 8)")
    parser.add_argument("--repeats", type=int, help="5; --small: 1")
    parser.add_argument("--microbatch", type=int, default=4, help="samples in memory at once, ours")
    parser.add_argument("--trl-microbatch", type=int, default=8, help="the same for trl (8 is its default)")
    parser.add_argument("--small", action="store_true", help="a tiny random model and tiny numbers")
    parser.add_argument("--setup", action="store_true", help="make the environment for trl 1.12 and stop")
    parser.add_argument("--side", choices=(*OURS, THEIRS), help="measure one side in this process, print one JSON line")
    options = parser.parse_args()
    options.samples = options.samples or (8 if options.small else 64)
    options.tokens = options.tokens or (8 if options.small else 48)
    options.repeats = options.repeats or (1 if options.small else 5)
    options.batch = options.samples // options.updates
    options.trl_microbatch = min(options.trl_microbatch, options.batch)
    if options.batch * options.updates != options.samples or options.batch % options.trl_microbatch:
        parser.error("--samples must be a multiple of --updates, and an update's samples one of --trl-microbatch")
    if options.samples > len(chats(options.samples)):
        parser.error(f"there are only {len(chats(options.samples))} prompts, and a sample takes one")
    if options.side == THEIRS:
        theirs(options)
    elif options.side:
        ours(options)
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    python = environment()
    if options.setup:
        return
    folder = model_folder(options.model, small=options.small)
    print(machine())
    print(f"{options.samples} samples of up to {options.tokens} tokens in {options.updates} updates; {folder}")
    arguments = [f"--model={folder}"]
    for name in ("samples", "updates", "epochs", "tokens", "microbatch", "trl-microbatch"):
        arguments.append(f"--{name}={getattr(options, name.replace('-', '_'))}")
    sides = dict.fromkeys(OURS, sys.executable) | {THEIRS: str(python)}
    told = in_children(sides, arguments=arguments, repeats=options.repeats)
    show(told, unit="samples/s", over=[THEIRS])
    for name, all_of in told.items():
        last = all_of[-1]
        print(f"{name}: {last['reply_tokens']:.1f} tokens a reply, mean reward {last['score']:.3f} in the last repeat")


# ---------------------------------------------------------------- ours


def ours(options: argparse.Namespace) -> None:
    from dressage.plugins import open_kind, settings_of
    from dressage.protocols import Sampling
    from dressage.records import Message, Prompt

    model = open_kind(settings_of("models", "local").model_validate({"path": options.model, "dtype": "float32"}))
    settings = settings_of("trainers", "ppo").model_validate(
        {
            "kind": "ppo",
            "updates": options.updates,
            "prompts_per_update": options.batch,
            "epochs": options.epochs,
            "microbatch_prompts": options.microbatch,
            "learning_rate": LEARNING_RATE,
            "kl": {"kind": "fixed", "coefficient": KL},
            "critic": {"kind": options.side, "warmup_updates": 0},
        }
    )
    data = [
        Prompt.of(tuple(Message.model_validate(m) for m in chat), source="bench", split="train")
        for chat in chats(options.samples)
    ]
    memory: dict[int, Any] = {}
    sampling = Sampling(temperature=TEMPERATURE, max_new_tokens=options.tokens)
    trainer = open_kind(settings, practice=practice(model, sampling, reward, memory))
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        trainer.train(data, model, workplace(Path(folder), lines, seed=0))
        seconds = time.monotonic() - began
    replies = [candidate for rows in memory.values() for candidate, _ in rows]
    tell(
        count=len(replies),
        seconds=seconds,
        loss=lines[-1]["policy/loss"],
        score=sum(reward(c.text) for c in replies) / len(replies),
        reply_tokens=sum(len(c.token_ids) for c in replies) / len(replies),
        phases={name: sum(line[name] for line in lines) for name in lines[-1] if name.startswith("time/")},
    )


# ---------------------------------------------------------------- theirs: runs where trl is 1.12 and dressage is not


def environment() -> Path:
    """The Python that has trl 1.12, other libraries in the ranges of our pyproject; made if it is not there."""
    python, ready = ENVIRONMENT / "bin/python", ENVIRONMENT / "ready"
    if ready.exists():
        return python
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    beside = [r for r in project["dependencies"] if r.startswith(("transformers", "peft", "accelerate", "datasets"))]
    print(f"making {ENVIRONMENT}: torch 2.13.0, then trl 1.12 with {', '.join(beside)}; some minutes", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], check=True)
    pip = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "torch==2.13.0"], check=True)
    subprocess.run([*pip, "trl==1.12.*", *beside], check=True)
    found = subprocess.run([python, "-m", "pip", "freeze"], check=True, capture_output=True, text=True)
    ready.write_text(found.stdout, "utf-8")
    return python


def theirs(options: argparse.Namespace) -> None:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(options.model, padding_side="left")
    ids = [tokenizer.apply_chat_template(c, add_generation_prompt=True) for c in chats(options.samples)]
    rows = [{"input_ids": list(row["input_ids"])} for row in ids]
    judge = reading(tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        arguments = PPOConfig(
            output_dir=folder,
            total_episodes=options.samples,
            per_device_train_batch_size=options.trl_microbatch,
            gradient_accumulation_steps=options.batch // options.trl_microbatch,
            num_ppo_epochs=options.epochs,
            response_length=options.tokens,
            stop_token="eos",
            temperature=TEMPERATURE,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            kl_coef=KL,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            num_sample_generations=0,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_steps=1,
        )
        trainer = PPOTrainer(
            args=arguments,
            processing_class=tokenizer,
            model=AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32),
            ref_model=None,
            reward_model=judge,
            value_model=AutoModelForSequenceClassification.from_pretrained(
                options.model, num_labels=1, dtype=torch.float32
            ),
            train_dataset=Dataset.from_list(rows),
            eval_dataset=Dataset.from_list(rows[:1]),
            peft_config=LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear"),
        )
        # Or accelerate would step after every microbatch of the last update, and trl do more than was asked for.
        trainer.accelerator.gradient_state.plugin_kwargs["sync_with_dataloader"] = False
        began = time.monotonic()
        trainer.train()
        seconds = time.monotonic() - began
    losses = [line["loss/policy_avg"] for line in trainer.state.log_history if "loss/policy_avg" in line]
    tell(
        count=len(judge.texts),
        seconds=seconds,
        loss=losses[-1],
        score=sum(map(reward, judge.texts)) / len(judge.texts),
        reply_tokens=sum(judge.lengths) / len(judge.lengths),
    )


def reading(tokenizer: Any) -> Any:
    """`reward` in the shape of a reward model, which trl asks for as `base_model_prefix`, then `score`."""
    import torch

    hello = [{"role": "user", "content": "Hello"}]
    bare, opened = (
        tokenizer.apply_chat_template(hello, tokenize=False, add_generation_prompt=b) for b in (False, True)
    )
    turn = opened.removeprefix(bare)  # how the assistant's turn begins

    class Reading(torch.nn.Module):
        base_model_prefix = "read"

        def __init__(self) -> None:
            super().__init__()
            self.texts: list[str] = []
            self.lengths: list[int] = []

        def read(self, input_ids: Any, attention_mask: Any, **known: Any) -> Any:
            scores = torch.zeros(*input_ids.shape, 1)
            for number, (row, real) in enumerate(zip(input_ids, attention_mask, strict=True)):
                reply = tokenizer.decode(row[real.bool()]).partition(turn)[2]
                self.lengths.append(len(tokenizer.encode(reply, add_special_tokens=False)))
                self.texts.append(reply.removesuffix(tokenizer.eos_token))
                scores[number] = reward(self.texts[-1])
            return SimpleNamespace(hidden_states=[scores])

        def score(self, hidden: Any) -> Any:
            return hidden

    return Reading()


if __name__ == "__main__":
    main()
