"""TRL's GRPOTrainer under our guards, and who watches it from generation to generation."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor
from trl import GRPOTrainer

from dressage.protocols import Practice, Workplace
from dressage.seeds import seed_for
from dressage.trainers import _trl
from dressage.trainers._huggingface import Watcher
from dressage.trainers._lora.adapter import trainable
from dressage.trainers._lora.checks import finite
from dressage.trainers._on_policy.alarms import Alarms
from dressage.trainers._resuming import Resumes
from dressage.trainers.trl_grpo import Settings

VLLM_GAP = "sampling/sampling_logp_difference/mean"
"""What TRL calls the difference between vLLM's log-probabilities and its own, in nats a token."""


class Guarded(Resumes, GRPOTrainer):  # type: ignore[misc]
    """Prompts are the token ids we make of them; the first step is held to the reference, every loss must be a number.

    Between two generations nothing is in TRL's buffers, so there `Resumes` keeps the whole state.
    """

    def __init__(self, *, tokens: Mapping[str, list[int]], settings: Settings, **known: Any) -> None:
        self._tokens = tokens
        self._asked: list[str] = []
        self.start_gap = 0.0
        self.alarms = Alarms(settings.alarms, holds="beta", length="steps")
        self.told: list[dict[str, float]] = []
        """What each generation said, for the facts at the end."""
        super().__init__(**known)

    def memory(self) -> dict[str, Any]:
        """Nothing of the generation at hand: checkpoints are between two."""
        alarms = self.alarms
        rung = {"ringing": alarms.ringing, "watched": alarms.watched, "scores": alarms.scores}
        return {"start_gap": self.start_gap, "alarms": rung, "told": self.told}

    def recall(self, memory: Mapping[str, Any]) -> None:
        self.start_gap, self.told, rung = memory["start_gap"], memory["told"], memory["alarms"]
        watched = [(prefers, mean) for prefers, mean in rung["watched"]]
        self.alarms = replace(self.alarms, ringing=rung["ringing"], watched=watched, scores=rung["scores"])

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._asked = [row["prompt_id"] for row in inputs]
        if self.accelerator.num_processes > 1:
            # A checkpoint holds the first process's noise; so that the others' goes on too, all take it from names.
            names = ("noise", self.accelerator.process_index, self.state.global_step)
            torch.manual_seed(seed_for(self.args.seed, *names) % 2**63)
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        return output

    def _tokenize_prompts(self, prompts: Sequence[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """Ours: control tokens in a prompt's text stay text, and a conversation left open stays so."""
        return [self._tokens[prompt_id] for prompt_id in self._asked], None, {}

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Sequence[Sequence[int]]
    ) -> Tensor:
        """Of several processes the first alone has the whole generation graded: it alone writes the run's folder."""
        if self.accelerator.num_processes == 1:
            alone: Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
            return alone
        drawn = gather_object([(row["prompt_id"], ids) for row, ids in zip(inputs, completion_ids_list, strict=True)])
        told: list[Any] = [None]
        if self.accelerator.is_main_process:
            asked, replies = zip(*drawn, strict=True)
            (judge,) = self.reward_funcs
            told = [
                asyncio.run(
                    judge(
                        completion_ids=replies, prompt_id=asked, trainer_state=self.state, log_metric=self._log_metric
                    )
                )
            ]
        (scores,) = broadcast_object_list(told)
        return torch.tensor(
            [[float("nan") if score is None else score] for score in scores], device=self.accelerator.device
        )

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        loss: Tensor = super().compute_loss(model, inputs)
        step = self.state.global_step + 1
        finite(loss, step=step, about=f"{len(inputs['advantages'])} replies")
        if step == 1:
            # k3 of two log-probabilities that differ by d nats is d² / 2 to first order.
            gap = (2 * max(0.0, self._metrics["train"]["kl"][-1])) ** 0.5
            self.start_gap = max(self.start_gap, _trl.at_its_reference(gap, dtype=self.model.dtype))
        return loss

    def facts(self) -> dict[str, float]:
        """The first generation, and the mean of the last quarter of them."""
        last = self.told[-max(1, len(self.told) // 4) :]
        found = {f"start/{name}": x for name, x in self.told[0].items()}
        for name in self.told[-1]:
            known = [one[name] for one in last if name in one]
            found[f"end/{name}"] = sum(known) / len(known)
        return found


class UpdateWatcher(Watcher):
    """Tells the run of each step, and after a generation's last one looks at the alarms and keeps the state.

    Of several processes the first alone tells and keeps; the alarms ring in all of them.
    """

    def __init__(
        self,
        trainer: Guarded,
        workplace: Workplace,
        advance: Callable[[int], None],
        *,
        settings: Settings,
        practice: Practice,
    ) -> None:
        super().__init__(trainer, workplace, advance, save_every=settings.save_every)
        self._settings, self._practice = settings, practice
        self._update: dict[str, float] = {}
        """What the generation at hand has said: its first step's numbers are of the policy that drew it."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._trainer.witness.watch(trainable(self._trainer.model))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" not in logs:
            return
        step, whole = state.global_step, self._settings.steps_per_update()
        line = _in_our_names(logs)
        self._update = line | self._update
        leads = state.is_world_process_zero
        if leads:
            self._workplace.log({"step": step, **line})
        if step % whole == 0:
            self._after(step // whole, leads=leads)
        due = step % self._save_every == 0 or step == state.max_steps
        now = self._trainer.gathered() if due and (leads or self._trainer.is_fsdp_enabled) else None
        if not leads:
            return
        if now is not None:
            self._workplace.checkpoints.commit(step, partial(self._trainer.write, now))
        self._advance(1)

    def _after(self, update: int, *, leads: bool) -> None:
        """The alarms, which stop a training before it keeps the state that rang."""
        said, self._update = self._update, {}
        self._trainer.told.append(_short(said))
        self._trainer.alarms.judged(said["judge/failed"], update=update)
        self._trainer.alarms.look(said, update=update)
        if not leads or self._practice.watch is None or update % self._settings.alarms.watch_every:
            return
        prefers = self._practice.watch(update)
        if prefers is not None:
            self._workplace.log({"step": update * self._settings.steps_per_update(), "watch/prefers": prefers})
            self._trainer.alarms.watch(prefers, update=update)


def _in_our_names(logs: Mapping[str, Any]) -> dict[str, float]:
    """TRL's numbers without those it has none for; times by a name that says so, and what the alarms ask for by theirs:
    the KL in nats a reply, where TRL's is a mean over tokens."""
    line = {name: x for name, x in logs.items() if x is not None}
    if "step_time" in line:
        line["time/step"] = line.pop("step_time")
    if "entropy" in line:
        line["policy/entropy"] = line.pop("entropy")
    if VLLM_GAP in line:
        line["ratio/first_gap_mean"] = line.pop(VLLM_GAP)
    if "reply/tokens" in line and "kl" in line:  # the first step of a generation
        line["objective/kl"] = line["kl"] * line["reply/tokens"]
    return line


def _short(said: Mapping[str, float]) -> dict[str, float]:
    """What the facts at the end are made of."""
    named = {"score": "objective/scores", "kl": "objective/kl", "entropy": "policy/entropy", "length": "reply/tokens"}
    return {short: said[name] for short, name in named.items() if name in said}
