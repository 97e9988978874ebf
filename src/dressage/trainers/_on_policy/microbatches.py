"""A microbatch of an update under a role, what all microbatches share, and the sums over them.

S samples · T tokens of a reply · N tokens of a microbatch laid end to end · D hidden width.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from dressage.maths.advantages import Advantages
from dressage.trainers._on_policy.rollout import Rollout
from dressage.trainers._on_policy.scoring import Scoring
from dressage.trainers._policy import Policy

Penalty = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(log π, log π_old, log ref) → what a token's KL costs in the loss."""


@dataclass
class Sums:
    """Means of an update: weighted sums over the tokens of each minibatch, averaged over minibatches."""

    minibatches: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)

    def add(self, weight_N: Tensor, **seen_N: Tensor) -> None:
        for name, x_N in seen_N.items():
            self.sums[name] = self.sums.get(name, 0.0) + float((weight_N * x_N.detach().float()).sum())

    def peak(self, **seen: float) -> None:
        for name, x in seen.items():
            self.peaks[name] = max(self.peaks.get(name, -math.inf), x)

    def join(self, other: "Sums") -> None:
        """Takes in what another process saw of the same minibatches."""
        for name, x in other.sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + x
        self.peak(**other.peaks)

    def means(self) -> dict[str, float]:
        return {name: total / max(1, self.minibatches) for name, total in self.sums.items()} | self.peaks


@dataclass(frozen=True)
class Lesson:
    """All that is the same for every microbatch of an update."""

    rollout: Rollout
    told: Advantages
    how: Scoring
    penalty: Penalty | None
    policy_learns: bool
    sums: Sums


class Part:
    """A microbatch under a role: its hidden states, and its tokens' share of anything that is known of them."""

    def __init__(self, module: Any, lesson: Lesson, forks: Sequence[int], weight_ST: Tensor) -> None:
        self.module, self.lesson = module, lesson
        self._samples = lesson.rollout.samples(forks)
        self.batch = lesson.how.batch(lesson.rollout, forks, module)
        self.weight_N = self.of(weight_ST)
        self.hidden_ND = Policy(module).train(lesson.policy_learns).hidden(self.batch)

    def of(self, x_ST: Tensor) -> Tensor:
        """This microbatch's tokens of a tensor over all samples."""
        return self.lesson.rollout.flat(x_ST, self._samples).to(self.module.device)
