"""Direct preference optimisation from beginning to end: pairs in, a LoRA adapter out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import TrainingArguments

from dressage.protocols import Backbone, Pair, Trained, Workplace
from dressage.seeds import seed_for
from dressage.trainers import _huggingface as hf
from dressage.trainers._forks import Layout
from dressage.trainers._lora.adapter import adapted, adapter_hash, save
from dressage.trainers._pairs import PairTokens, tokenised
from dressage.trainers._plan import Plan
from dressage.trainers._policy import AGREES, Policy, layout_for
from dressage.trainers._trackers import tracked
from dressage.trainers.dpo import Settings, reference
from dressage.trainers.dpo.learner import Lesson, PairTrainer
from dressage.trainers.dpo.objective import objective

GAP = 1e-3
"""Nats a reply by which policy and reference may differ at the start, whoever computed the reference."""


def open(settings: Settings) -> "DPO":
    """The trainer; takes nothing from elsewhere."""
    return DPO(settings)


@dataclass(frozen=True)
class DPO:
    settings: Settings

    def tokens(self, row: Pair, backbone: Backbone) -> int:
        """Tokens of the prompt with the longer reply."""
        return tokenised(row, backbone.tokenizer).length

    def limit(self, backbone: Backbone) -> int | None:
        """The longest row that fits; null where neither the model nor the settings give a limit."""
        return hf.limit(backbone, self.settings.max_length)

    def train(self, data: Sequence[Pair], backbone: Backbone, workplace: Workplace) -> Trained:
        """Learns from `data`; leaves `adapter/` and `reference.safetensors` in the workplace.

        Raises:
            ValueError: no pairs, a pair that says nothing or does not fit, an adapter of another shape.
            FloatingPointError: a loss or gradient that is not finite; no weight was touched by that step.
            RuntimeError: policy and reference do not coincide, or the adapter did not learn.
        """
        workplace.folder.mkdir(parents=True, exist_ok=True)
        pairs = [tokenised(pair, backbone.tokenizer) for pair in data]
        hf.refuse_unfit([(p.prompt_id, p.length) for p in pairs], self.limit(backbone))
        with hf.silent(), tracked(workplace, self.settings) as desk:
            return self._train(data, pairs, backbone, desk)

    def _train(
        self, data: Sequence[Pair], pairs: list[PairTokens], backbone: Backbone, workplace: Workplace
    ) -> Trained:
        layout = layout_for(backbone.module, [pair.fork for pair in pairs])
        lengths, batch, micro = [p.length for p in pairs], self.settings.batch_pairs, self.settings.microbatch_pairs
        plan = Plan(lengths, seed=workplace.seed, batch=batch, micro=micro)
        reference_P2 = self._reference(data, pairs, plan, layout=layout, backbone=backbone, workplace=workplace)
        lesson = Lesson(
            pairs=pairs,
            plan=plan,
            layout=layout,
            loss=objective(self.settings),
            reference_P2=reference_P2,
            weight_P=_weights(pairs, self.settings.weight),
            gap_at_most=self._gap_at_most(backbone, longest=max(lengths)),
        )
        return self._learn(lesson, backbone, workplace)

    def _reference(
        self,
        data: Sequence[Pair],
        pairs: Sequence[PairTokens],
        plan: Plan,
        *,
        layout: Layout,
        backbone: Backbone,
        workplace: Workplace,
    ) -> Tensor:
        path = workplace.folder / reference.NAME
        key = reference.key_of(pairs, self.settings.reference, backbone.fingerprint, layout, plan.of(0))
        if (found := reference.kept(path, key)) is not None:
            return found
        if self.settings.reference == "sampled":
            made = reference.sampled(data, start=backbone.fingerprint)
        else:
            progress = workplace.progress
            made = reference.computed(pairs, plan, backbone=backbone, layout=layout, progress=progress)
        reference.keep(path, key, made)
        return made

    def _gap_at_most(self, backbone: Backbone, *, longest: int) -> float | None:
        drops = self.settings.lora.dropout > 0 and backbone.adapter is not None
        other_rounding = self.settings.reference == "sampled" and backbone.module.dtype != torch.float32
        if drops or other_rounding:
            return None
        module = backbone.module
        if module.device.type == "cpu" or module.dtype in (torch.float32, torch.float64):
            return GAP
        # In half precision a GPU may choose another kernel where gradients are wanted; a token is then rounded anew.
        return AGREES[module.dtype] * longest

    def _learn(self, lesson: Lesson, backbone: Backbone, workplace: Workplace) -> Trained:
        settings, rows, module = self.settings, len(lesson.pairs), backbone.module
        cpu = module.device.type == "cpu"
        micro = settings.microbatch_pairs
        keywords = hf.arguments(settings, workplace, cpu=cpu, batch=settings.batch_pairs, micro=micro, rows=rows)
        seed = seed_for(workplace.seed, "lora")
        with adapted(module, settings.lora, seed=seed, start=backbone.adapter) as model:
            with hf.checkpointing(module, settings.gradient_checkpointing):
                trainer = PairTrainer(model=Policy(module), args=TrainingArguments(**keywords), lesson=lesson)
                before = adapter_hash(model)
                steps = hf.updates(settings, rows=rows, batch=settings.batch_pairs)
                trainable = hf.watched(trainer, workplace, steps=steps, save_every=settings.save_every)
            after = hf.changed(before, adapter_hash(model))
            folder = save(model, workplace.folder / "adapter")
        facts: dict[str, float | int | str] = {
            "pairs": rows,
            "steps": trainer.state.global_step,
            "trainable_parameters": trainable,
            "layout": lesson.layout,
            "adapter_hash": after,
            "start/gap": trainer.start_gap,
            "start/loss": trainer.steps[0]["loss/unweighted"],
            **_ending(trainer.steps),
        }
        return Trained(adapter=folder, step=trainer.state.global_step, facts=facts)


def _weights(pairs: Sequence[PairTokens], weight: str) -> Tensor:
    """One a pair (P,), of mean 1, so that neither the loss at the start nor the rate changes its meaning."""
    if weight == "none":
        return torch.ones(len(pairs))
    margin_P = torch.tensor([pair.margin for pair in pairs])
    if not margin_P.any():
        raise ValueError("`weight: margin`, but every pair's margin is 0; set `weight: none`")
    return margin_P / margin_P.mean()


def _ending(steps: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over the last quarter of the steps, each as the policy was at that step."""
    last = steps[-max(1, len(steps) // 4) :]
    named = {
        "loss": "loss",
        "accuracy": "rewards/accuracies",
        "margin": "rewards/margins",
        "kl_reference_to_policy": "kl/reference_to_policy",
    }
    return {f"end/{short}": sum(step[name] for step in last) / len(last) for short, name in named.items()}
