"""Supervised fine-tuning from beginning to end by TRL's SFTTrainer: examples in, a LoRA adapter out."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import datasets
from torch import Tensor
from trl import SFTConfig, SFTTrainer

from dressage.protocols import Backbone, Example, Trained, Workplace
from dressage.seeds import seed_for
from dressage.tokens import prompt_ids, reply_ids
from dressage.trainers import _huggingface as hf
from dressage.trainers._lora.adapter import adapted, adapter_hash, save
from dressage.trainers._lora.checks import finite
from dressage.trainers.sft import Settings

IGNORED = -100
"""The label of a token that is read but not learnt."""
FIELDS = {"loss", "grad_norm", "learning_rate", "epoch", "entropy", "mean_token_accuracy", "num_tokens"}


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
        workplace.rewind(0)
        rows = [labelled(example, backbone.tokenizer) for example in data]
        named = [(e.prompt.id, len(row["input_ids"])) for e, row in zip(data, rows, strict=True)]
        hf.refuse_unfit(named, self.limit(backbone))
        settings, module = self.settings, backbone.module
        cpu = module.device.type == "cpu"
        batch, micro = settings.batch_examples, settings.microbatch_examples
        keywords = hf.arguments(settings, workplace, cpu=cpu, batch=batch, micro=micro, rows=len(rows))
        seed = seed_for(workplace.seed, "lora")
        with hf.silent(), adapted(module, settings.lora, seed=seed, start=backbone.adapter) as model:
            with hf.checkpointing(module, settings.gradient_checkpointing):
                trainer = _trainer(model, rows, keywords, tokenizer=backbone.tokenizer, workplace=workplace)
                before = adapter_hash(model)
                steps = hf.updates(settings, rows=len(rows), batch=batch)
                trainable = hf.watched(trainer, workplace, steps=steps)
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
    prompt, reply = prompt_ids(tokenizer, example.prompt.messages), list(example.reply.token_ids)
    if not all(example.reply.mask):
        raise ValueError(f"candidate {example.reply.id} has tokens not of its author; sft imitates whole replies")
    reply = reply or reply_ids(tokenizer, example.prompt.messages, example.reply.text)
    return {"input_ids": prompt + reply, "labels": [IGNORED] * len(prompt) + reply}


class _Checked(SFTTrainer):  # type: ignore[misc]
    """Stops at the first loss that is no number, and tells the run what each step says."""

    def __init__(self, *, workplace: Workplace, **known: Any) -> None:
        self.steps: list[Mapping[str, Any]] = []
        self._workplace = workplace
        super().__init__(**known)

    def compute_loss(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> Tensor:
        loss: Tensor = super().compute_loss(model, inputs, *rest, **more)
        return finite(loss, step=self.state.global_step + 1, about=f"{len(inputs['labels'])} examples")

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        is_step = "loss" in logs
        super().log(logs, start_time)
        if is_step:
            self.steps.append(dict(logs))
            told = {name: value for name, value in logs.items() if name in FIELDS}
            self._workplace.log({"step": self.state.global_step, **told})


def _trainer(
    model: Any, rows: list[dict[str, list[int]]], keywords: Mapping[str, Any], *, tokenizer: Any, workplace: Workplace
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
    trainer = _Checked(
        workplace=workplace,
        model=model,
        args=arguments,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=deepcopy(tokenizer),  # TRL may set its pad token
    )
    if (kept := len(trainer.train_dataset)) != len(rows):
        raise RuntimeError(f"TRL kept {kept} of {len(rows)} examples; none may be dropped silently")
    return trainer
