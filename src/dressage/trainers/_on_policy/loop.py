"""The on-policy loop: draw, reward, advantage, update, record.

ppo, grpo and rloo differ in how a graded reply becomes an advantage, and in little else (see Algorithm).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from torch import Tensor

from dressage.maths import kl
from dressage.maths.advantages import Advantages, explained_variance
from dressage.protocols import Backbone, Graded, Practice, Trained, Workplace
from dressage.records import Candidate, Prompt
from dressage.seeds import seed_for
from dressage.tokens import prompt_ids
from dressage.trainers import _huggingface as hf
from dressage.trainers._lora import LoraSettings
from dressage.trainers._lora.adapter import adapted, adapter_hash, save
from dressage.trainers._on_policy import OnPolicySettings, state
from dressage.trainers._on_policy.alarms import Alarms
from dressage.trainers._on_policy.crew import Crew, crew
from dressage.trainers._on_policy.critic import Critic
from dressage.trainers._on_policy.learner import CriticRates, Learner
from dressage.trainers._on_policy.roles import Roles
from dressage.trainers._on_policy.rollout import Rollout, rollout_of
from dressage.trainers._on_policy.scoring import Scoring, scored, start_gap, start_may_differ
from dressage.trainers._on_policy.telling import Clock, about, mean_of, short
from dressage.trainers._policy import layout_for
from dressage.trainers._trackers import tracked

Rows = Sequence[tuple[Candidate, Graded]]


@dataclass(frozen=True)
class Algorithm:
    """What one on-policy trainer has of its own."""

    advantages: Callable[[Rollout, float], Advantages]
    """(the rollout, β) → advantages of every token; the returns are the critic's targets."""
    penalty: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    """(log π, log π_old, log ref) → what a token's KL costs in the loss, per unit of β; null: it is in the reward."""
    critic: CriticRates | None = None
    critic_lora: LoraSettings | None = None
    """The critic's own adapter; null: a head on the policy's hidden states."""


@dataclass(frozen=True)
class OnPolicy:
    """A trainer that draws from the policy as it learns."""

    settings: OnPolicySettings
    practice: Practice
    algorithm: Algorithm

    def tokens(self, row: Prompt, backbone: Backbone) -> int:
        """Tokens of the prompt and of the longest reply that may be drawn to it."""
        return len(prompt_ids(backbone.tokenizer, row.messages)) + self.practice.sampling.max_new_tokens

    def limit(self, backbone: Backbone) -> int | None:
        """The model's context; null where it has none."""
        return hf.limit(backbone, None)

    def train(self, data: Sequence[Prompt], backbone: Backbone, workplace: Workplace) -> Trained:
        """Practises on `data`; leaves `adapter/` in the workplace.

        Raises:
            ValueError: no prompts, an adapter to start from of another shape, sampling that cannot be learnt from.
            FloatingPointError: a loss or gradient that is not finite; no weight was touched by that step.
            TrainingStopped: an alarm rang; what was drawn and graded is kept.
            RuntimeError: sampler and trainer disagree, or the adapter did not learn.
        """
        self._possible(data)
        workplace.folder.mkdir(parents=True, exist_ok=True)
        module, seed = backbone.module, seed_for(workplace.seed, "lora")
        told = tracked(workplace, self.settings)
        with hf.silent(), told as desk, adapted(module, self.settings.lora, seed=seed, start=backbone.adapter) as model:
            with hf.checkpointing(module, self.settings.gradient_checkpointing):
                roles = Roles(model, start=backbone.adapter, critic=self.algorithm.critic_lora)
                team = crew(cpu=module.device.type == "cpu")
                run = _Run(self, data, backbone, desk, roles=roles, crew=team)
                before = adapter_hash(model)
                facts = run.to_the_end()
            facts["adapter_hash"] = hf.changed(before, adapter_hash(model))
            if team.leads:
                save(model, workplace.folder / "adapter")
        return Trained(adapter=workplace.folder / "adapter", step=self.settings.updates, facts=facts)

    def _possible(self, data: Sequence[Prompt]) -> None:
        """What a YAML cannot say wrong, but a caller can."""
        sampling = self.practice.sampling
        if sampling.top_p < 1 or sampling.temperature == 0:
            raise ValueError(
                f"replies are drawn with temperature {sampling.temperature:g} and top_p {sampling.top_p:g}; "
                f"{self.settings.kind} scores them under the whole distribution at that temperature: it needs top_p 1 "
                "and a temperature above 0"
            )
        if not data:
            raise ValueError("there is nothing to practise on: no prompts reached the trainer")


class _Run:
    """One training from its newest checkpoint to its end."""

    def __init__(
        self,
        trainer: OnPolicy,
        data: Sequence[Prompt],
        backbone: Backbone,
        workplace: Workplace,
        *,
        roles: Roles,
        crew: Crew,
    ) -> None:
        self.settings, self.practice, self.algorithm = trainer.settings, trainer.practice, trainer.algorithm
        self.data, self.backbone, self.workplace = data, backbone, workplace
        self.roles, self.crew = roles, crew
        module = backbone.module
        critic = None
        if self.algorithm.critic is not None:
            width = module.config.get_text_config().hidden_size
            critic = Critic(roles, width=width, device=module.device, own=self.algorithm.critic_lora is not None)
        self.learner = Learner(roles, critic, self.settings, rates=self.algorithm.critic, crew=crew)
        controller = self.settings.kl
        start: kl.FixedKL | kl.AdaptiveKL = kl.FixedKL(controller.coefficient)
        if controller.kind == "adaptive":
            start = kl.AdaptiveKL(controller.coefficient, controller.target, controller.horizon)
        self.standing = state.Standing(0, start, Alarms(self.settings.alarms))

    def to_the_end(self) -> dict[str, float | int | str]:
        """Every update that is still to be done; then the facts."""
        if (found := self.crew.agree(self._going_on_from)) is not None:
            self.standing = state.read(Path(found), self.learner, self.standing)
        with self.workplace.progress.task("training", self.settings.updates) as advance:
            advance(self.standing.update)
            for update in range(self.standing.update + 1, self.settings.updates + 1):
                told, spent = self._update(update)
                self.standing.update = update
                self.standing.ends = [*(self.standing.ends or []), short(told)]
                if self.crew.leads:
                    self._tell({**told, **spent}, update)
                advance(1)
        self.learner.settle()
        return self._facts()

    def _going_on_from(self) -> str | None:
        """The folder of the checkpoint to go on from, or null for a start."""
        found = self.workplace.resume()
        return None if found is None else str(found[1])

    def _update(self, update: int) -> tuple[dict[str, float], dict[str, float]]:
        """Draw, reward, advantage, update: what it says of itself, and what it cost in time."""
        clock = Clock()
        rows = self._rows(update, clock)
        told = about(rows)
        rollout = rollout_of(rows, {p.id: p for p in self.data}, self.settings, tokenizer=self.backbone.tokenizer)
        if rollout is None:
            return told, clock.spent
        how = self._scoring(rollout)
        with clock.counting("scoring"):
            rollout = scored(rollout, self.roles, self.learner.critic, how=how, crew=self.crew)
        if update == 1:
            told["start/gap"] = self._start_gap(rollout, how)
        beta = self.standing.kl.coefficient
        advantages = self.algorithm.advantages(rollout, beta)
        with clock.counting("learning"):
            told |= self.learner.learn(
                rollout, advantages, update=update, seed=self.workplace.seed, how=how, penalty=self._penalty(beta)
            )
        told |= self._objective(rollout, advantages)
        self.standing.kl = self.standing.kl.after(told["objective/kl"], len(rollout.score_S))
        return told, clock.with_rates(tokens=int(rollout.real_ST.sum()), replies=len(rollout.score_S))

    def _rows(self, update: int, clock: Clock) -> Rows:
        """The graded replies of an update: those kept by an earlier attempt, or new ones, which are kept at once. The
        leader sees to it; the others wait, and read what it kept."""
        rows: Rows | None = None
        if self.crew.leads:
            rows = self.practice.kept(update)
            new = rows is None
            rows = self._new_rows(update, clock) if rows is None else rows
            self._judged(rows, update)
            if new:
                self.practice.keep(update, rows)
        self.crew.agree(lambda: update)
        rows = self.practice.kept(update) if rows is None else rows
        if rows is None:
            raise RuntimeError(
                f"process {self.crew.rank} does not find what the leading one kept of update {update}; all processes "
                "need the same run folder, on a disk that they share"
            )
        return rows

    def _new_rows(self, update: int, clock: Clock) -> Rows:
        prompts = self._prompts(update)
        with clock.counting("drawing"):
            drawn = self.practice.draw(prompts, self.settings.per_prompt, update)
        by_id = {p.id: p for p in prompts}
        with clock.counting("judging"):
            graded = self.practice.reward([by_id[c.prompt_id] for c in drawn], drawn)
        if len(graded) != len(drawn):
            raise ValueError(f"the reward gave {len(graded)} answers to {len(drawn)} replies; it owes one each")
        return list(zip(drawn, graded, strict=True))

    def _judged(self, rows: Rows, update: int) -> None:
        self.standing.alarms.judged(about(rows)["judge/failed"], update=update)

    def _prompts(self, update: int) -> list[Prompt]:
        """The next prompts of an endless row of shuffled epochs: a function of the update's number alone."""
        size, count = len(self.data), self.settings.prompts_per_update
        chosen: dict[str, Prompt] = {}
        for place in range((update - 1) * count, update * count):
            epoch, at = divmod(place, size)
            order = list(range(size))
            Random(seed_for(self.workplace.seed, "prompts", epoch)).shuffle(order)
            prompt = self.data[order[at]]
            chosen[prompt.id] = prompt  # where an epoch ends within an update, a prompt may come up twice
        return list(chosen.values())

    def _scoring(self, rollout: Rollout) -> Scoring:
        if self.standing.layout is None:
            with self.roles.wearing("reference") as module:
                self.standing.layout = layout_for(module, rollout.forks)
            if self.learner.critic is not None:
                self.learner.critic.head.expect(float(rollout.score_S.mean()))
        return Scoring(
            "shared" if self.standing.layout == "shared" else "apart",
            microbatch=self.settings.microbatch_prompts,
            temperature=self.practice.sampling.temperature,
        )

    def _start_gap(self, rollout: Rollout, how: Scoring) -> float:
        """Before the first step the policy is its reference, on the same batch: on a CPU to the last bit."""
        gap, most = start_gap(rollout, self.roles, how=how), start_may_differ(self.backbone.module)
        if not gap <= most:
            raise RuntimeError(
                f"before the first step the policy differs from its reference by {gap:.2g} nats on a token (rounding: "
                f"{most:g}): they do not start as the same model, so the KL would pull to somewhere else than where "
                "the run starts from"
            )
        return gap

    def _penalty(self, beta: float) -> Callable[[Tensor, Tensor, Tensor], Tensor] | None:
        penalty = self.algorithm.penalty
        return None if penalty is None else lambda *of: beta * penalty(*of)

    def _objective(self, rollout: Rollout, told: Advantages) -> dict[str, float]:
        """What the update optimised, as it stood before learning."""
        kl_ST = kl.k1(rollout.old_logprob_ST, rollout.ref_logprob_ST) * rollout.real_ST
        k3_ST = kl.k3(rollout.old_logprob_ST, rollout.ref_logprob_ST) * rollout.real_ST
        found = {
            "objective/kl": float(kl_ST.sum(1).mean()),
            "objective/kl_k3": float(k3_ST.sum(1).mean()),
            "objective/kl_coefficient": self.standing.kl.coefficient,
            "objective/rewards": float(rollout.score_S.mean()),
        }
        if rollout.value_ST is not None:
            explained = explained_variance(rollout.value_ST, told.return_ST, rollout.mask_ST)
            found["value/explained_variance"] = float(explained)
        return found

    def _tell(self, told: Mapping[str, float], update: int) -> None:
        """What the leader does after an update: the line of metrics, the alarms, and now and then a checkpoint."""
        self.workplace.log({"step": update, **told})
        self._alarm(told, update)
        if update % self.settings.save_every == 0 or update == self.settings.updates:
            self.workplace.checkpoints.commit(update, lambda f: state.write(f, self.learner, self.standing))

    def _alarm(self, told: Mapping[str, float], update: int) -> None:
        self.standing.alarms.look(told, update=update)
        watch, every = self.practice.watch, self.settings.alarms.watch_every
        if watch is not None and update % every == 0:
            prefers = watch(update)
            if prefers is not None:
                self.workplace.log({"step": update, "watch/prefers": prefers})
                self.standing.alarms.watch(prefers, update=update)

    def _facts(self) -> dict[str, float | int | str]:
        said = self.standing.ends or [{}]
        last = said[-max(1, len(said) // 4) :]
        learnt = self.learner.counts()
        return {
            "updates_done": self.standing.update,
            "prompts": len(self.data),
            "layout": self.standing.layout or "",
            **learnt,
            **{f"start/{name}": x for name, x in said[0].items()},
            **{f"end/{name}": mean_of(name, last) for name in said[-1]},
        }
