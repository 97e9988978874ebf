"""Supervised fine-tuning from beginning to end by TRL's SFTTrainer: examples in, a LoRA adapter out."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import datasets
from torch import Tensor
from torch.utils.data import DataLoader
from trl import SFTConfig, SFTTrainer

from dressage.protocols import Backbone, Example, Trained, Workplace
from dressage.seeds import seed_for
from dressage.tokens import prompt_ids
from dressage.trainers import _huggingface as hf
from dressage.trainers import _trl
from dressage.trainers._lora.adapter import adapted, adapter_hash, save
from dressage.trainers._lora.checks import finite
from dressage.trainers._plan import Plan
from dressage.trainers._replies import reply_tokens
from dressage.trainers._resuming import Resumes
from dressage.trainers._trackers import tracked
from dressage.trainers.sft import Settings

IGNORED = -100
"""The label of a token that is read but not learnt."""


def open(settings: Settings) -> "SFT":
    """The trainer; takes nothing from elsewhere."""
    return SFT(settings)


@dataclass(frozen=True)
class SFT:
    settings: Settings

    def tokens(self, row: Example, backbone: Backbone) -> int:
        """Tokens of prompt and reply."""
        return len(labelled(row, backbone.tokenizer)["input_ids"])

    def limit(self, backbone: Backbone) -> int | None:
        """The longest row that fits; null where neither the model nor the settings give a limit."""
        return hf.limit(backbone, self.settings.max_length)

    def train(self, data: Sequence[Example], backbone: Backbone, workplace: Workplace) -> Trained:
        """Learns from `data`; leaves `adapter/` in the workplace.

        Raises:
            ValueError: no examples, an empty or too long one, an adapter to start from of another shape.
            FloatingPointError: a loss or gradient that is not finite; no weight was touched by that step.
            RuntimeError: the adapter did not learn.
        """
        workplace.folder.mkdir(parents=True, exist_ok=True)
        rows = [labelled(example, backbone.tokenizer) for example in data]
        named = [(e.prompt.id, len(row["input_ids"])) for e, row in zip(data, rows, strict=True)]
        hf.refuse_unfit(named, self.limit(backbone))
        settings, module = self.settings, backbone.module
        cpu = module.device.type == "cpu"
        batch, micro = settings.batch_examples, settings.microbatch_examples
        keywords = hf.arguments(settings, workplace, cpu=cpu, batch=batch, micro=micro, rows=len(rows))
        seed = seed_for(workplace.seed, "lora")
        told = tracked(workplace, settings)
        with hf.silent(), told as desk, adapted(module, settings.lora, seed=seed, start=backbone.adapter) as model:
            with hf.checkpointing(module, settings.gradient_checkpointing):
                plan = Plan([len(r["input_ids"]) for r in rows], seed=workplace.seed, batch=batch, micro=micro)
                trainer = _trainer(model, rows, keywords, plan=plan, tokenizer=backbone.tokenizer)
                before = adapter_hash(model)
                steps = hf.updates(settings, rows=len(rows), batch=batch)
                trainable = hf.watched(trainer, desk, steps=steps, save_every=settings.save_every)
            after = hf.changed(before, adapter_hash(model))
            folder = save(model, workplace.folder / "adapter")
        last = trainer.steps[-max(1, len(trainer.steps) // 4) :]
        facts: dict[str, float | int | str] = {
            "examples": len(rows),
            "tokens_learnt": sum(label != IGNORED for row in rows for label in row["labels"]),
            "steps": trainer.state.global_step,
            "trainable_parameters": trainable,
            "adapter_hash": after,
            "start/loss": trainer.steps[0]["loss"],
            "end/loss": sum(step["loss"] for step in last) / len(last),
        }
        return Trained(adapter=folder, step=trainer.state.global_step, facts=facts)


def labelled(example: Example, tokenizer: Any) -> dict[str, list[int]]:
    """The example's ids, and the same as labels from where the reply begins."""
    prompt = prompt_ids(tokenizer, example.prompt.messages)
    reply = list(reply_tokens(example.prompt, example.reply, tokenizer))
    return {"input_ids": prompt + reply, "labels": [IGNORED] * len(prompt) + reply}


class _Checked(Resumes, SFTTrainer):  # type: ignore[misc]
    """Takes batches as planned, stops at the first loss that is no number, and goes on after a crash."""

    def __init__(self, *, plan: Plan, **known: Any) -> None:
        self._plan = plan
        super().__init__(**known)

    def memory(self) -> dict[str, int]:
        return {"tokens": self._total_train_tokens}

    def recall(self, memory: Mapping[str, int]) -> None:
        self._total_train_tokens = memory["tokens"]

    def get_train_dataloader(self) -> Any:
        """Ours, because accelerate's shuffling forgets the epoch where it goes on in the middle of one."""
        loader: Any = DataLoader(self.train_dataset, batch_sampler=self._plan, collate_fn=self.data_collator)
        return self.accelerator.prepare(loader)

    def compute_loss(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> Tensor:
        loss: Tensor = super().compute_loss(model, inputs, *rest, **more)
        return finite(loss, step=self.state.global_step + 1, about=f"{len(inputs['labels'])} examples")


def _trainer(
    model: Any, rows: list[dict[str, list[int]]], keywords: Mapping[str, Any], *, plan: Plan, tokenizer: Any
) -> _Checked:
    """TRL's trainer over rows that are ready: its own preparation, which may cut and drop, is skipped."""
    arguments = SFTConfig(
        **keywords,
        max_length=None,
        packing=False,
        padding_free=False,
        shuffle_dataset=False,
        loss_type="nll",
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    with _trl.unrounded(model):
        trainer = _Checked(
            plan=plan,
            model=model,
            args=arguments,
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=deepcopy(tokenizer),  # TRL may set its pad token
        )
    if (kept := len(trainer.train_dataset)) != len(rows):
        raise RuntimeError(f"TRL kept {kept} of {len(rows)} examples; none may be dropped silently")
    return trainer
