"""A policy's hidden states under a linear head, and transformers' Trainer with the Bradley–Terry loss over it.

B pairs of a microbatch · K replies of a microbatch, 2·pair the chosen one · P pairs of the data · D hidden width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dressage.trainers._forks import Batch, Layout, ends, laid_out
from dressage.trainers._lora.checks import finite
from dressage.trainers._pairs import PairTokens
from dressage.trainers._plan import Plan
from dressage.trainers._planned import PlannedPairs, unpacked
from dressage.trainers._policy import Policy

SPREAD = 0.02
"""Standard deviation of the head's first weights, as transformers begins a sequence classifier."""


class BradleyTerry(NamedTuple):
    """One loss a pair, and by how much its chosen reply scores higher."""

    loss_B: Tensor
    gap_B: Tensor
    """Detached."""


def bradley_terry(chosen_B: Tensor, rejected_B: Tensor, margin_B: Tensor) -> BradleyTerry:
    """Eq. 2 of arXiv:2307.09288, a pair: L = −log σ(r(x, y_w) − r(x, y_l) − m); with m = 0 Bradley and Terry's."""
    gap_B = chosen_B - rejected_B
    return BradleyTerry(-F.logsigmoid(gap_B - margin_B), gap_B.detach())


class Scorer(nn.Module):
    """r(x, y) = w · h, with h what the output head would read at the reply's last token; w in fp32."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.policy = Policy(module)
        self.head = nn.Linear(module.config.get_text_config().hidden_size, 1, bias=False, device=module.device)
        nn.init.normal_(self.head.weight, std=SPREAD)

    def forward(self, batch: Batch) -> Tensor:
        """Scores (K,) at the positions `batch.where_N`."""
        score_K1: Tensor = self.head(self.policy.hidden(batch).float())
        return score_K1[:, 0]


def collate(pairs: Sequence[PairTokens], indices: Sequence[int], *, layout: Layout) -> Batch:
    """Lays the pairs out, to be read at the last token of each reply."""
    forks = [pairs[i].fork for i in indices]
    return laid_out(forks, layout=layout)._replace(where_N=ends(forks, layout=layout))


@torch.no_grad()
def scores(scorer: Scorer, pairs: Sequence[PairTokens], *, layout: Layout, micro: int) -> Tensor:
    """Scores of chosen and rejected (P, 2), as the model is now."""
    scorer.eval()
    score_P2 = torch.zeros(len(pairs), 2)
    for indices in Plan([p.length for p in pairs], seed=0, batch=max(1, len(pairs)), micro=micro).of(0):
        batch = collate(pairs, indices, layout=layout).on(scorer.head.weight.device)
        score_P2[indices] = scorer(batch).view(-1, 2).cpu()
    return score_P2


@dataclass(frozen=True)
class Lesson:
    """All that the loss needs besides the model."""

    pairs: list[PairTokens]
    plan: Plan
    layout: Layout
    margin: float
    """What a judge's margin of 1 asks of the scores."""


class PairScorer(PlannedPairs):
    """A batch's loss is the mean over its pairs, however it is cut into microbatches."""

    def __init__(self, *, lesson: Lesson, **known: Any) -> None:
        laid_out = partial(collate, lesson.pairs, layout=lesson.layout)
        super().__init__(count=len(lesson.pairs), plan=lesson.plan, collate=laid_out, **known)
        self.tally = Tally()
        self._lesson = lesson

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """This microbatch's part of the batch's mean, so that the parts of a batch add up to it."""
        lesson, (batch, indices) = self._lesson, unpacked(inputs)
        score_B2 = model(batch).view(-1, 2)
        margin_B = lesson.margin * torch.tensor([lesson.pairs[i].margin for i in indices], device=score_B2.device)
        result = bradley_terry(score_B2[:, 0], score_B2[:, 1], margin_B)
        loss: Tensor = result.loss_B.sum() / num_items_in_batch
        about = "prompts " + ", ".join(lesson.pairs[i].prompt_id for i in indices)
        finite(loss, step=self.state.global_step + 1, about=about)
        self.tally.add(score_B2.detach(), result.gap_B)
        return loss

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

    def add(self, score_B2: Tensor, gap_B: Tensor) -> None:
        seen = {
            "rewards/chosen": score_B2[:, 0],
            "rewards/rejected": score_B2[:, 1],
            "rewards/accuracies": (gap_B > 0).float(),
            "rewards/margins": gap_B,
        }
        self.pairs += len(gap_B)
        for name, value_B in seen.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value_B.sum())

    def means(self) -> dict[str, float]:
        return {name: total / self.pairs for name, total in self.sums.items()}
