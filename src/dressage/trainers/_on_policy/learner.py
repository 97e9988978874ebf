"""One update: the policy and the critic learn from a rollout, minibatch by minibatch.

S samples · T tokens of a reply · N tokens of a microbatch laid end to end.
"""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dressage.maths.advantages import Advantages
from dressage.maths.policy_losses import clipped_policy, clipped_value, weights_over_sequences, weights_over_tokens
from dressage.seeds import seed_for
from dressage.trainers._logprobs import told_tokens
from dressage.trainers._lora.checks import GradientWitness, finite
from dressage.trainers._on_policy import OnPolicySettings
from dressage.trainers._on_policy.crew import Crew
from dressage.trainers._on_policy.critic import Critic
from dressage.trainers._on_policy.microbatches import Lesson, Part, Penalty, Sums
from dressage.trainers._on_policy.roles import Roles
from dressage.trainers._on_policy.rollout import Rollout
from dressage.trainers._on_policy.scoring import Scoring, by_length, in_micros

RATIO_MAY_DIFFER = 1e-3
"""How far a token's first ratio may be from 1 where sampler and trainer compute in fp32."""

WEIGHTS = {"tokens": weights_over_tokens, "sequences": weights_over_sequences}


class CriticRates(NamedTuple):
    """What the critic's learning needs."""

    learning_rate: float
    clip: float
    max_grad_norm: float
    warmup_updates: int


class Learner:
    """Holds the optimizers of policy and critic; `learn` is one update."""

    def __init__(
        self, roles: Roles, critic: Critic | None, settings: OnPolicySettings, *, rates: CriticRates | None, crew: Crew
    ) -> None:
        self.roles, self.critic, self.settings, self.crew = roles, critic, settings, crew
        self.rates = rates
        self.policy = roles.parameters("policy")
        self.optimizer = torch.optim.AdamW(self.policy.values(), lr=settings.learning_rate, weight_decay=0.0)
        self.critic_optimizer = None
        if critic is not None and rates is not None:
            self.critic_optimizer = torch.optim.AdamW(critic.named.values(), lr=rates.learning_rate, weight_decay=0.0)
        self.witness = GradientWitness(self.policy)
        self.critic_witness = GradientWitness(critic.named) if critic is not None else None

    def learn(
        self,
        rollout: Rollout,
        told: Advantages,
        *,
        update: int,
        seed: int,
        how: Scoring,
        penalty: Penalty | None,
    ) -> dict[str, float]:
        """Passes over the rollout; returns what the update says about itself.

        Raises:
            FloatingPointError: a loss or gradient that is not finite; no weight was touched by that step.
            RuntimeError: the sampler and the trainer disagree about the policy's probabilities.
        """
        sums = Sums()
        policy_learns = self.rates is None or update > self.rates.warmup_updates
        lesson = Lesson(rollout, told, how, penalty, policy_learns, sums)
        for epoch in range(self.settings.epochs):
            for number, forks in enumerate(self._minibatches(rollout, seed_for(seed, "order", update, epoch))):
                step = ((update - 1) * self.settings.epochs + epoch) * self.settings.minibatches + number
                self._minibatch(lesson, forks, step=step, first=epoch == number == 0)
        return self._of_all(sums)

    def _of_all(self, mine: Sums) -> dict[str, float]:
        """What the update says of itself, over every process's share of it."""
        whole = Sums(mine.minibatches)
        for one in self.crew.gather(mine):
            whole.join(one)
        return whole.means()

    def witnesses(self) -> list[GradientWitness]:
        return [w for w in (self.witness, self.critic_witness) if w is not None]

    def settle(self) -> None:
        """After the last update.

        Raises:
            RuntimeError: a trainable tensor of policy or critic never received a gradient.
        """
        for witness in self.witnesses():
            witness.settle()

    def counts(self) -> dict[str, int]:
        """How many numbers are trained."""
        found = {"trainable_parameters": self.witness.count}
        return found | ({"critic_parameters": self.critic_witness.count} if self.critic_witness else {})

    def _minibatches(self, rollout: Rollout, seed: int) -> list[list[int]]:
        """Forks dealt into minibatches whose sizes differ by one at most; none of them empty."""
        order = list(range(len(rollout.forks)))
        random.Random(seed).shuffle(order)
        count = min(self.settings.minibatches, len(order))
        return [sorted(order[n::count]) for n in range(count)]

    def _minibatch(self, lesson: Lesson, forks: Sequence[int], *, step: int, first: bool) -> None:
        rollout, sums = lesson.rollout, lesson.sums
        samples = rollout.samples(forks)
        weight_ST = torch.zeros_like(rollout.old_logprob_ST)
        weight_ST[samples] = WEIGHTS[self.settings.average_over](rollout.mask_ST[samples])
        if not weight_ST.any():
            return  # every reply of it was cut at the limit, and `truncated: mask` leaves them out
        sums.minibatches += 1
        # The longest first: the room it leaves is enough for those after it.
        micros = in_micros(by_length(rollout, forks), lesson.how.microbatch)[::-1]
        about = f"update {step // (self.settings.epochs * self.settings.minibatches) + 1}"
        with self.roles.wearing("policy") as module:
            for micro in self.crew.share(micros):
                with torch.set_grad_enabled(lesson.policy_learns):
                    part = Part(module, lesson, micro, weight_ST)
                    self._policy_part(part, first=first, step=step, about=about)
                if self.critic is not None and not self.critic.own:
                    self._value_part(part, part.hidden_ND.detach(), step=step, about=about)
            if lesson.policy_learns:
                norm = self._step(self.optimizer, self.policy, self.witness, self.settings.max_grad_norm, step)
                self._add_norm(sums, "policy/grad_norm", norm)
        if self.critic is not None and self.critic.own:
            with self.roles.wearing("critic") as module:
                for micro in self.crew.share(micros):
                    part = Part(module, lesson, micro, weight_ST)
                    self._value_part(part, part.hidden_ND, step=step, about=about)
        if self.critic is not None and self.critic_optimizer is not None and self.critic_witness and self.rates:
            norm = self._step(
                self.critic_optimizer, self.critic.named, self.critic_witness, self.rates.max_grad_norm, step
            )
            self._add_norm(sums, "value/grad_norm", norm)

    def _policy_part(self, part: Part, *, first: bool, step: int, about: str) -> None:
        """A microbatch's share of the policy's loss, and its backward."""
        settings, penalty = self.settings, part.lesson.penalty
        told = told_tokens(
            part.hidden_ND,
            part.module.get_output_embeddings(),
            part.batch.target_N,
            temperature=part.lesson.how.temperature,
            entropy="learnt" if settings.entropy else "seen",
        )
        rollout = part.lesson.rollout
        old_N, ref_N = part.of(rollout.old_logprob_ST), part.of(rollout.ref_logprob_ST)
        if first:
            part.lesson.sums.peak(**self._first_gap(told.logprob_N, old_N, part))
        found = clipped_policy(
            told.logprob_N,
            old_N,
            part.of(part.lesson.told.advantage_ST),
            epsilon=settings.clip,
            epsilon_high=settings.clip_high,
        )
        loss_N = found.loss - settings.entropy * told.entropy_N
        if penalty is not None:
            loss_N = loss_N + penalty(told.logprob_N, old_N, ref_N)
        loss = (part.weight_N * loss_N).sum()
        finite(loss, step=step + 1, about=about)
        if part.lesson.policy_learns:
            loss.backward()  # type: ignore[no-untyped-call]
        log_ratio_N = told.logprob_N.detach() - old_N
        part.lesson.sums.add(
            part.weight_N,
            **{
                "policy/loss": loss_N,
                "policy/approx_kl": log_ratio_N.expm1() - log_ratio_N,
                "policy/clipfrac": found.clipped,
                "policy/entropy": told.entropy_N,
                "ratio/mean": found.ratio,
            },
        )
        counted_N = found.ratio[part.weight_N > 0]
        if len(counted_N):
            part.lesson.sums.peak(**{"ratio/max": float(counted_N.max())})

    def _first_gap(self, logprob_N: Tensor, old_N: Tensor, part: Part) -> dict[str, float]:
        """The trainer's probabilities against those the sampler recorded, before the first step of an update: in fp32
        on a CPU they are held to rounding; in half precision, on a GPU or from a server an alarm looks at their mean.
        """
        gap_N = (logprob_N.detach() - old_N).abs()
        gap = float(gap_N.max())
        exact = part.module.dtype == torch.float32 and part.module.device.type == "cpu"
        if exact and not gap <= RATIO_MAY_DIFFER:
            raise RuntimeError(
                f"before the first step of the update a token's log-probability differs by {gap:.2g} nats between the "
                f"sampler and the trainer (at most {RATIO_MAY_DIFFER:g} is rounding): they do not look at the same "
                "policy, so the ratio would teach something else. Draw with the trainer's model, at data.sampling's "
                "temperature and with top_p: 1"
            )
        return {"ratio/first_gap": gap, "ratio/first_gap_mean": float(gap_N.mean())}

    def _value_part(self, part: Part, hidden_ND: Tensor, *, step: int, about: str) -> None:
        """A microbatch's share of the critic's loss, and its own backward."""
        rollout = part.lesson.rollout
        assert self.critic is not None
        assert self.rates is not None
        assert rollout.value_ST is not None
        found = clipped_value(
            self.critic.head(hidden_ND),
            part.of(rollout.value_ST),
            part.of(part.lesson.told.return_ST),
            epsilon=self.rates.clip,
        )
        loss = (part.weight_N * found.loss).sum()
        finite(loss, step=step + 1, about=f"{about}, the critic's")
        loss.backward()  # type: ignore[no-untyped-call]
        part.lesson.sums.add(part.weight_N, **{"value/loss": found.loss, "value/clipfrac": found.clipped})

    def _step(
        self,
        optimizer: Any,
        parameters: Mapping[str, nn.Parameter],
        witness: GradientWitness,
        longest: float,
        step: int,
    ) -> float:
        """Gradients summed over the crew, looked at, shortened; then the weights move. Returns their norm before."""
        self.crew.sum_gradients(parameters.values())
        witness.look(step + 1)
        norm = float(nn.utils.clip_grad_norm_(parameters.values(), longest))
        for group, peak in zip(optimizer.param_groups, self._peaks(optimizer), strict=True):
            group["lr"] = peak * self.rate_at(step)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return norm

    def _add_norm(self, sums: Sums, name: str, norm: float) -> None:
        if self.crew.leads:  # it is of the summed gradient, the same in every process
            sums.add(torch.ones(1), **{name: torch.tensor([norm])})

    def _peaks(self, optimizer: Any) -> list[float]:
        policy = optimizer is self.optimizer
        rate = self.settings.learning_rate if policy or self.rates is None else self.rates.learning_rate
        return [rate for _ in optimizer.param_groups]

    def rate_at(self, step: int) -> float:
        """The share of the peak rate at an optimizer step, counted from 0: a function of the step alone."""
        steps = self.settings.steps()
        rising = int(self.settings.warmup * steps)
        if step < rising:
            return (step + 1) / (rising + 1)
        if self.settings.schedule == "constant":
            return 1.0
        done = (step - rising) / max(1, steps - rising)
        return 1 - done if self.settings.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
