"""transformers' Trainer with a loss over pairs, and what each step says about it.

B pairs of a microbatch · P pairs of the data.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dressage.maths import kl
from dressage.maths.losses import PairLoss
from dressage.trainers._forks import Layout
from dressage.trainers._lora.checks import finite
from dressage.trainers._pairs import PairTokens
from dressage.trainers._plan import Plan
from dressage.trainers._planned import PlannedPairs, unpacked
from dressage.trainers.dpo.batches import collate
from dressage.trainers.dpo.objective import About, Objective


@dataclass(frozen=True)
class Lesson:
    """All that the loss needs besides the policy."""

    pairs: list[PairTokens]
    plan: Plan
    layout: Layout
    loss: Objective
    reference_P2: Tensor
    weight_P: Tensor
    gap_at_most: float | None
    """The first batch may differ from the reference by this many nats a reply; null: not comparable."""


class PairTrainer(PlannedPairs):
    """A batch's loss is the mean over its pairs, however it is cut into microbatches."""

    def __init__(self, *, lesson: Lesson, **known: Any) -> None:
        laid_out = partial(collate, lesson.pairs, layout=lesson.layout)
        super().__init__(count=len(lesson.pairs), plan=lesson.plan, collate=laid_out, **known)
        self.tally = Tally()
        self.start_gap = 0.0
        self._lesson = lesson

    def memory(self) -> dict[str, float]:
        return {"start_gap": self.start_gap}

    def recall(self, memory: Mapping[str, float]) -> None:
        self.start_gap = memory["start_gap"]

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """This microbatch's part of the batch's mean, so that the parts of a batch add up to it."""
        lesson, (batch, indices) = self._lesson, unpacked(inputs)
        ref_B2 = lesson.reference_P2[indices].to(self.args.device)
        weight_B = lesson.weight_P[indices].to(self.args.device)
        logprob_B2 = model(batch).view(-1, 2)
        result = lesson.loss(logprob_B2, ref_B2, self._about(indices))
        loss: Tensor = (weight_B * result.loss_B).sum() / num_items_in_batch
        step = self.state.global_step + 1
        finite(loss, step=step, about="prompts " + ", ".join(lesson.pairs[i].prompt_id for i in indices))
        if step == 1:
            self._compare_with_reference(logprob_B2.detach(), ref_B2)
        self.tally.add(result, logprob_B2.detach(), ref_B2)
        return loss

    def _about(self, indices: list[int]) -> About:
        pairs = [self._lesson.pairs[i] for i in indices]
        lengths = [[float(len(pair.chosen)), float(len(pair.rejected))] for pair in pairs]
        return About(
            torch.tensor(lengths, device=self.args.device),
            torch.tensor([pair.margin for pair in pairs], device=self.args.device),
        )

    def _compare_with_reference(self, logprob_B2: Tensor, ref_B2: Tensor) -> None:
        self.start_gap = max(self.start_gap, float((logprob_B2 - ref_B2).abs().max()))
        limit = self._lesson.gap_at_most
        if limit is not None and self.start_gap > limit:
            raise RuntimeError(
                f"before the first step the policy differs from its reference by {self.start_gap:.2g} nats on a reply "
                f"(at most {limit:g} is rounding): they do not start as the same model, so the loss would pull "
                "towards something else than where the run starts from"
            )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the step's means to what transformers logs; no times."""
        if "loss" in logs:
            logs |= self.tally.means()
            self.tally = Tally()
        super().log(logs, start_time)


@dataclass
class Tally:
    """Sums over the pairs of one optimizer step."""

    pairs: int = 0
    sums: dict[str, float] = field(default_factory=dict)

    @torch.no_grad()
    def add(self, result: PairLoss, logprob_B2: Tensor, ref_B2: Tensor) -> None:
        margin_B = result.chosen_reward_B - result.rejected_reward_B
        seen = {
            "rewards/chosen": result.chosen_reward_B,
            "rewards/rejected": result.rejected_reward_B,
            "rewards/accuracies": (margin_B > 0).float(),
            "rewards/margins": margin_B,
            "logps/chosen": logprob_B2[:, 0],
            "logps/rejected": logprob_B2[:, 1],
            # The replies are the starting policy's (or a user's), not this policy's: hence reference first.
            "kl/reference_to_policy": kl.k1(ref_B2, logprob_B2).mean(1),
            "loss/unweighted": result.loss_B.detach(),
        }
        self.pairs += len(margin_B)
        for name, value_B in seen.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value_B.sum())

    def means(self) -> dict[str, float]:
        return {name: total / self.pairs for name, total in self.sums.items()}
