"""Direct preference optimisation by TRL's DPOTrainer: pairs in, a LoRA adapter out.

Rows reach TRL as token ids of ours, so none is rendered again, cut or dropped. The policy comes in as a PeftModel, so
that TRL's reference is a copy of the policy that training starts from and not the bare base. It is computed again at
each step (`dpo` does so once).
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import datasets
from torch import Tensor
from torch.utils.data import DataLoader
from trl import DPOConfig, DPOTrainer

from dressage.protocols import Backbone, Pair, Trained, Workplace
from dressage.seeds import seed_for
from dressage.trainers import _huggingface as hf
from dressage.trainers import _trl
from dressage.trainers._lora.adapter import adapted, adapter_hash, save
from dressage.trainers._lora.checks import finite
from dressage.trainers._pairs import PairTokens, tokenised
from dressage.trainers._plan import Plan
from dressage.trainers._resuming import Resumes
from dressage.trainers._trackers import tracked
from dressage.trainers.trl_dpo import Settings


def open(settings: Settings) -> "TRLDPO":
    """The trainer; takes nothing from elsewhere."""
    return TRLDPO(settings)


@dataclass(frozen=True)
class TRLDPO:
    settings: Settings

    def tokens(self, row: Pair, backbone: Backbone) -> int:
        """Tokens of the prompt with the longer reply."""
        return tokenised(row, backbone.tokenizer).length

    def limit(self, backbone: Backbone) -> int | None:
        """The longest row that fits; null where neither the model nor the settings give a limit."""
        return hf.limit(backbone, self.settings.max_length)

    def train(self, data: Sequence[Pair], backbone: Backbone, workplace: Workplace) -> Trained:
        """Learns from `data`; leaves `adapter/` in the workplace.

        Raises:
            ValueError: no pairs, a pair that says nothing or does not fit, an adapter of another shape.
            FloatingPointError: a loss or gradient that is not finite; no weight was touched by that step.
            RuntimeError: policy and reference do not coincide, or the adapter did not learn.
        """
        workplace.folder.mkdir(parents=True, exist_ok=True)
        pairs = [tokenised(pair, backbone.tokenizer) for pair in data]
        hf.refuse_unfit([(p.prompt_id, p.length) for p in pairs], self.limit(backbone))
        settings, module, seed = self.settings, backbone.module, seed_for(workplace.seed, "lora")
        batch, micro = settings.batch_pairs, settings.microbatch_pairs
        cpu = module.device.type == "cpu"
        keywords = hf.arguments(settings, workplace, cpu=cpu, batch=batch, micro=micro, rows=len(pairs))
        lent, told = _trl.lent(module, backbone.tokenizer), tracked(workplace, settings)
        start = backbone.adapter
        with hf.silent(), told as desk, lent, adapted(module, settings.lora, seed=seed, start=start) as model:
            with hf.checkpointing(module, settings.gradient_checkpointing):
                plan = Plan([p.length for p in pairs], seed=workplace.seed, batch=batch, micro=micro)
                trainer = _trainer(model, pairs, keywords | losses(settings), plan=plan, tokenizer=backbone.tokenizer)
                before = adapter_hash(model)
                steps = hf.updates(settings, rows=len(pairs), batch=batch)
                trainable = hf.watched(trainer, desk, steps=steps, save_every=settings.save_every)
            after = hf.changed(before, adapter_hash(model))
            folder = save(model, workplace.folder / "adapter")
        facts: dict[str, float | int | str] = {
            "pairs": len(pairs),
            "steps": trainer.state.global_step,
            "trainable_parameters": trainable,
            "adapter_hash": after,
            "start/gap": trainer.start_gap,
            "start/loss": trainer.steps[0]["loss"],
            **_ending(trainer.steps),
        }
        return Trained(adapter=folder, step=trainer.state.global_step, facts=facts)


def losses(settings: Settings) -> dict[str, Any]:
    """DPOConfig's keywords about what is learnt."""
    return {
        "beta": settings.beta,
        "loss_type": list(settings.loss_type),
        "loss_weights": None if settings.loss_weights is None else list(settings.loss_weights),
        "label_smoothing": settings.label_smoothing,
        "f_divergence_type": settings.f_divergence_type,
        "f_alpha_divergence_coef": settings.f_alpha_divergence_coef,
        "discopop_tau": settings.discopop_tau,
        "ld_alpha": settings.ld_alpha,
        "use_weighting": settings.use_weighting,
    }


class Guarded(Resumes, DPOTrainer):  # type: ignore[misc]
    """Takes rows and batches as they are, compares with the reference first, and stops at a loss that is no number."""

    def __init__(self, *, plan: Plan, **known: Any) -> None:
        self._plan = plan
        self.start_gap = 0.0
        super().__init__(**known)
        self.loss_is_scaled_for_ga = True

    def memory(self) -> dict[str, float]:
        return {"start_gap": self.start_gap, "tokens": self._total_train_tokens}

    def recall(self, memory: Mapping[str, float]) -> None:
        self.start_gap, self._total_train_tokens = memory["start_gap"], memory["tokens"]

    def _prepare_dataset(self, dataset: Any, *rest: Any, **more: Any) -> Any:
        """The rows as they came, as token ids: TRL's own way renders text anew and may drop rows."""
        return dataset

    def get_train_dataloader(self) -> Any:
        """Microbatches as the plan says; the epoch reaches it through accelerate's `set_epoch`."""
        loader: Any = DataLoader(self.train_dataset, batch_sampler=self._plan, collate_fn=self.data_collator)
        return self.accelerator.prepare(loader)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], int]:
        """An optimizer step's microbatches, and how many replies they are."""
        samples, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        return samples, sum(len(sample["input_ids"]) for sample in samples)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """This microbatch's part of the batch's mean over pairs, also where the last one is smaller."""
        mean: Tensor = super().compute_loss(model, inputs)
        replies = len(inputs["input_ids"])
        if self.state.global_step == 0:
            seen = self._metrics["train"]
            gap = max(abs(seen[f"rewards/{which}"][-1]) for which in ("chosen", "rejected")) / self.beta
            self.start_gap = max(self.start_gap, _trl.at_its_reference(gap, dtype=model.dtype))
        loss = mean * replies / num_items_in_batch
        return finite(loss, step=self.state.global_step + 1, about=f"{replies // 2} pairs")


def _trainer(
    model: Any, pairs: Sequence[PairTokens], keywords: Mapping[str, Any], *, plan: Plan, tokenizer: Any
) -> Guarded:
    rows = [
        {"prompt_ids": list(p.prompt), "chosen_ids": list(p.chosen), "rejected_ids": list(p.rejected)} for p in pairs
    ]
    arguments = DPOConfig(
        **keywords,
        **_trl.STATED,
        max_length=None,
        padding_free=False,
        precompute_ref_log_probs=False,
        sync_ref_model=False,
    )
    with _trl.unrounded(model):
        trainer = Guarded(
            plan=plan,
            model=model,
            args=_trl.on_one_device(arguments),
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=deepcopy(tokenizer),  # TRL may set its pad token
        )
    if (kept := len(trainer.train_dataset)) != len(pairs):
        raise RuntimeError(f"TRL kept {kept} of {len(pairs)} pairs; none may be dropped silently")
    return trainer


def _ending(steps: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over the last quarter of the steps, each as the policy was at that step."""
    last = steps[-max(1, len(steps) // 4) :]
    named = {"loss": "loss", "accuracy": "rewards/accuracies", "margin": "rewards/margins", "entropy": "entropy"}
    return {f"end/{short}": sum(step[name] for step in last) / len(last) for short, name in named.items()}
