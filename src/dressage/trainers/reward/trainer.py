"""A reward model from beginning to end: pairs in, a LoRA adapter with its score head out.

adapter/  adapter_model.safetensors · adapter_config.json    as plain peft reads it
          score_head.safetensors    weight (D), and a bias by which the mean over training replies is 0
          score_scale.json          by what to divide a score before the logistic
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import TrainingArguments

from dressage.protocols import SCORE_HEAD, SCORE_SCALE, Backbone, Pair, ScoreScale, Trained, Workplace
from dressage.seeds import seed_for
from dressage.tokens import prompt_ids, reply_ids, without_thinking
from dressage.trainers import _huggingface as hf
from dressage.trainers._lora.adapter import adapted, adapter_hash, save
from dressage.trainers._pairs import PairTokens, pair_tokens
from dressage.trainers._plan import Plan
from dressage.trainers._policy import layout_for
from dressage.trainers._trackers import tracked
from dressage.trainers.reward import Settings, measures
from dressage.trainers.reward.learner import Lesson, PairScorer, Scorer, scores

Facts = dict[str, float | int | str]


def open(settings: Settings) -> "Reward":
    """The trainer; takes nothing from elsewhere."""
    return Reward(settings)


def tokenised(pair: Pair, tokenizer: Any) -> PairTokens:
    """The pair as a judge will see it: the words without thinking, as whole turns, however they were drawn."""
    messages = pair.prompt.messages
    chosen, rejected = (
        tuple(reply_ids(tokenizer, messages, without_thinking(reply.text))) for reply in (pair.chosen, pair.rejected)
    )
    return pair_tokens(pair, tuple(prompt_ids(tokenizer, messages)), chosen, rejected)


@dataclass(frozen=True)
class Reward:
    settings: Settings

    def tokens(self, row: Pair, backbone: Backbone) -> int:
        """Tokens of the prompt with the longer reply."""
        return tokenised(row, backbone.tokenizer).length

    def limit(self, backbone: Backbone) -> int | None:
        """The longest row that fits; null where neither the model nor the settings give a limit."""
        return hf.limit(backbone, self.settings.max_length)

    def train(self, data: Sequence[Pair], backbone: Backbone, workplace: Workplace) -> Trained:
        """Learns from `data` but the held-out pairs; leaves `adapter/` with its head in the workplace.

        Raises:
            ValueError: no pairs, all of them held out, one that says nothing or does not fit.
            FloatingPointError: a loss or gradient that is not finite; no weight was touched by that step.
            RuntimeError: the adapter did not learn, or the scores tell nothing apart.
        """
        workplace.folder.mkdir(parents=True, exist_ok=True)
        pairs = [tokenised(pair, backbone.tokenizer) for pair in data]
        hf.refuse_unfit([(p.prompt_id, p.length) for p in pairs], self.limit(backbone))
        held = [p for p in pairs if measures.is_held_out(p.prompt_id, self.settings.held_out)]
        learnt = [p for p in pairs if not measures.is_held_out(p.prompt_id, self.settings.held_out)]
        if not learnt:
            raise ValueError(
                f"all {len(held)} pairs are of prompts that fall to the held-out share of {self.settings.held_out:g}, "
                "so there is nothing to learn from; bring pairs of more prompts, or lower `held_out`"
            )
        with hf.silent(), tracked(workplace, self.settings) as desk:
            return self._train(learnt, held, backbone, desk)

    def _train(
        self, learnt: list[PairTokens], held: list[PairTokens], backbone: Backbone, workplace: Workplace
    ) -> Trained:
        settings, rows, module = self.settings, len(learnt), backbone.module
        batch, micro = settings.batch_pairs, settings.microbatch_pairs
        layout = layout_for(module, [pair.fork for pair in learnt])
        plan = Plan([p.length for p in learnt], seed=workplace.seed, batch=batch, micro=micro)
        lesson = Lesson(pairs=learnt, plan=plan, layout=layout, margin=settings.margin)
        cpu = module.device.type == "cpu"
        keywords = hf.arguments(settings, workplace, cpu=cpu, batch=batch, micro=micro, rows=rows)
        seed = seed_for(workplace.seed, "lora")
        with adapted(module, settings.lora, seed=seed, start=backbone.adapter) as model:
            scorer = Scorer(module)
            with hf.checkpointing(module, settings.gradient_checkpointing):
                trainer = PairScorer(model=scorer, args=TrainingArguments(**keywords), lesson=lesson)
                before = adapter_hash(model)
                steps = hf.updates(settings, rows=rows, batch=batch)
                trainable = hf.watched(trainer, workplace, steps=steps, save_every=settings.save_every)
            after = hf.changed(before, adapter_hash(model))
            learnt_P2, held_P2 = (scores(scorer, pairs, layout=layout, micro=micro) for pairs in (learnt, held))
            folder = save(model, workplace.folder / "adapter")
        mean, deviation = measures.spread(learnt_P2)
        _save_head(folder, scorer.head.weight, mean=mean, scale=ScoreScale(deviation=deviation, replies=2 * rows))
        facts: Facts = {
            "pairs": rows,
            "pairs_held_out": len(held),
            "steps": trainer.state.global_step,
            "trainable_parameters": trainable,
            "layout": layout,
            "adapter_hash": after,
            "start/loss": trainer.steps[0]["loss"],
            **_ending(learnt_P2),
            "score_deviation": deviation,
            **_held_out(held, held_P2, longer_wins=measures.longer_wins(learnt)),
        }
        return Trained(adapter=folder, step=trainer.state.global_step, facts=facts)


def _save_head(folder: Path, weight_1D: Tensor, *, mean: float, scale: ScoreScale) -> None:
    bias = torch.tensor(-mean, dtype=torch.float32)
    save_file({"weight": weight_1D.detach()[0].cpu().contiguous(), "bias": bias}, folder / SCORE_HEAD)
    (folder / SCORE_SCALE).write_text(scale.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _ending(learnt_P2: Tensor) -> Facts:
    """What the finished model makes of the pairs it has learnt from."""
    gap_P = learnt_P2[:, 0] - learnt_P2[:, 1]
    return {
        "end/loss": float(-torch.nn.functional.logsigmoid(gap_P).mean()),
        "end/accuracy": sum(measures.accuracy(gap_P.tolist())) / len(gap_P),
        "end/margin": float(gap_P.mean()),
    }


def _held_out(pairs: list[PairTokens], score_P2: Tensor, *, longer_wins: bool) -> Facts:
    if not pairs:
        return {}
    return {f"held_out/{n}": v for n, v in measures.measured(pairs, score_P2, longer_wins=longer_wins).items()}
