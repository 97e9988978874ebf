"""GRPO by TRL's GRPOTrainer: prompts in, a LoRA adapter out; TRL draws, our judge is its reward.

What TRL does with a failed judgement: the reply is left out of its group's mean and deviation and has no advantage;
its KL to the reference and its tokens still count in the loss (`grpo` leaves it out altogether).

Going on after a crash ends in the same bytes on a CPU in fp32. TRL's own resume does so only from a generation's
boundary in the first epoch, so both are made certain: prompts stand in one epoch as long as the training, and
checkpoints between generations. On a GPU or with vLLM, draws are not repeated to the bit: it goes on from the
checkpoint with other noise, and asks the judge anew about replies that differ.

Several processes (torchrun) share a generation: the first has it graded, writes and reports. Each draws with noise of
its own, so the replies are not those of one process. From the same replies the gradients are, where a step takes a
whole generation: of several minibatches each process deals out its own share. `bnpo` is an exception, which weighs
each forward pass alike, whatever its tokens.

FSDP 2 (accelerate launch with configs/launch/fsdp2.yaml) may spread the model over them. Adapter, moments and gradients
are made whole to be looked at, hashed and kept, and spread again as a training goes on; so every guard holds but one,
train.watch, which the first process has alone and which is therefore refused. So is whatever else would use the model
in one process only: a judge on it, an opponent. Refused are DeepSpeed and FSDP 1, of which the guards do not hold.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from random import Random
from typing import Any

import datasets
from accelerate.utils import broadcast_object_list
from transformers import PrinterCallback
from trl import GRPOConfig
from trl.import_utils import is_vllm_available

from dressage.protocols import Backbone, Practice, Trained, Workplace
from dressage.records import Prompt, content_hash
from dressage.seeds import seed_for
from dressage.tokens import end_ids, prompt_ids
from dressage.trainers import _huggingface as hf
from dressage.trainers import _trl
from dressage.trainers._lora.adapter import adapted, adapter_hash, save, trainable
from dressage.trainers._lora.checks import GradientWitness
from dressage.trainers._trackers import tracked
from dressage.trainers.trl_grpo import NO_VLLM, REFUSED, Settings, VLLMSettings
from dressage.trainers.trl_grpo.judge import Judge
from dressage.trainers.trl_grpo.learner import Guarded, UpdateWatcher


def open(settings: Settings, *, practice: Practice) -> "TRLGRPO":
    """The trainer, handed what grades.

    Raises:
        ValueError: vLLM is asked for and not installed.
    """
    if settings.vllm is not None and not is_vllm_available():
        raise ValueError(NO_VLLM)
    return TRLGRPO(settings, practice)


@dataclass(frozen=True)
class TRLGRPO:
    settings: Settings
    practice: Practice

    def tokens(self, row: Prompt, backbone: Backbone) -> int:
        """Tokens of the prompt and of the longest reply that may be drawn to it."""
        return len(prompt_ids(backbone.tokenizer, row.messages)) + self.practice.sampling.max_new_tokens

    def limit(self, backbone: Backbone) -> int | None:
        """The model's context; null where it has none."""
        return hf.limit(backbone, None)

    def train(self, data: Sequence[Prompt], backbone: Backbone, workplace: Workplace) -> Trained:
        """Practises on `data`; leaves `adapter/` in the workplace. `Trained.step` counts generations.

        Raises:
            ValueError: no prompts, an adapter to start from of another shape, sampling that cannot be learnt from.
            FloatingPointError: a loss or gradient that is not finite; no weight was touched by that step.
            TrainingStopped: an alarm rang; what was drawn and graded is kept.
            TimeoutError: the judge did not answer.
            RuntimeError: policy and reference do not coincide, or the adapter did not learn.
        """
        self._possible(data, backbone)
        workplace.folder.mkdir(parents=True, exist_ok=True)
        settings, module, seed = self.settings, backbone.module, seed_for(workplace.seed, "lora")
        lent, told = _trl.lent(module, backbone.tokenizer), tracked(workplace, settings)
        start = backbone.adapter
        with hf.silent(), told as desk, lent, adapted(module, settings.lora, seed=seed, start=start) as model:
            with hf.checkpointing(module, settings.gradient_checkpointing):
                trainer = self._trainer(model, data, backbone, workplace)
                before = adapter_hash(model)
                try:
                    count = self._practise(trainer, desk)
                finally:
                    trainer.async_loop.call_soon_threadsafe(trainer.async_loop.stop)
            after = hf.changed(before, adapter_hash(model))
            folder = workplace.folder / "adapter"
            save(model, folder, writes=trainer.accelerator.is_main_process)
        facts: dict[str, float | int | str] = {
            "updates_done": settings.updates(),
            "steps": trainer.state.global_step,
            "prompts": len(data),
            "trainable_parameters": count,
            "adapter_hash": after,
            "start/gap": trainer.start_gap,
            **trainer.facts(),
        }
        return Trained(adapter=folder, step=settings.updates(), facts=facts)

    def _possible(self, data: Sequence[Prompt], backbone: Backbone) -> None:
        """What a YAML cannot say wrong, but a caller can."""
        sampling = self.practice.sampling
        if sampling.top_p < 1 or sampling.temperature == 0:
            raise ValueError(
                f"replies are drawn with temperature {sampling.temperature:g} and top_p {sampling.top_p:g}; trl_grpo "
                "scores them under the whole distribution at that temperature: it needs top_p 1 and a temperature "
                "above 0"
            )
        if not data:
            raise ValueError("there is nothing to practise on: no prompts reached the trainer")
        hf.refuse_unfit([(p.id, self.tokens(p, backbone)) for p in data], self.limit(backbone))

    def _practise(self, trainer: Guarded, workplace: Workplace) -> int:
        """Every step that is still to be done; returns the number of trainable parameters."""
        settings = self.settings
        self._can_be_spread(trainer)
        trainer.witness = GradientWitness(trainable(trainer.model))
        trainer.remove_callback(PrinterCallback)
        leads = trainer.accelerator.is_main_process
        (found,) = broadcast_object_list([workplace.resume() if leads else None])
        with workplace.progress.task("training", settings.steps) as advance:
            advance(found[0] if found else 0)
            trainer.add_callback(UpdateWatcher(trainer, workplace, advance, settings=settings, practice=self.practice))
            trainer.train(resume_from_checkpoint=str(found[1]) if found else None)
        trainer.witness.settle()
        return trainer.witness.count

    def _can_be_spread(self, trainer: Guarded) -> None:
        """Refuses those under whom our guards do not hold, and what only one process would come to."""
        fsdp = trainer.accelerator.state.fsdp_plugin if trainer.is_fsdp_enabled else None
        by = "DeepSpeed" if trainer.is_deepspeed_enabled else f"FSDP {fsdp.fsdp_version}" if fsdp else None
        if by in REFUSED:
            raise RuntimeError(f"a launcher asks for {by}, {REFUSED[by]}")
        if by is None:
            return
        if self.practice.watch is not None:
            raise RuntimeError(
                f"train.watch looks at the policy from the first process alone, of which {by} leaves it a part only; "
                "leave train.watch out, or start without FSDP"
            )
        # With it `generate` keeps every process at work until the last has its replies, and nobody else draws (see
        # models/local): a layer is whole only while all processes are in it.
        trainer.model.get_base_model()._is_fsdp_managed_module = True

    def _trainer(self, model: Any, data: Sequence[Prompt], backbone: Backbone, workplace: Workplace) -> Guarded:
        settings, tokenizer = self.settings, backbone.tokenizer
        ends = end_ids(tokenizer, backbone.module.generation_config)
        judge = Judge(
            practice=self.practice,
            prompts={p.id: p for p in data},
            tokenizer=tokenizer,
            ends=ends,
            policy=content_hash(["trl_grpo", backbone.fingerprint, settings.model_dump(mode="json"), workplace.seed]),
            steps_per_update=settings.steps_per_update(),
            timeout=settings.judge_timeout,
        )
        rows = [
            {"prompt": [m.model_dump(include={"role", "content"}) for m in p.messages], "prompt_id": p.id}
            for p in in_order(data, settings, seed=workplace.seed)
        ]
        with _trl.unrounded(model):
            trainer = Guarded(
                tokens={p.id: prompt_ids(tokenizer, p.messages) for p in data},
                settings=settings,
                model=model,
                reward_funcs=[judge],
                args=self._arguments(backbone, workplace),
                train_dataset=datasets.Dataset.from_list(rows),
                processing_class=deepcopy(tokenizer),  # TRL may set its pad token
            )
        if set(trainer.eos_token_ids) != ends:
            raise RuntimeError(f"TRL ends replies with {sorted(trainer.eos_token_ids)}, and we with {sorted(ends)}")
        return trainer

    def _arguments(self, backbone: Backbone, workplace: Workplace) -> Any:
        settings, sampling = self.settings, self.practice.sampling
        cpu = backbone.module.device.type == "cpu"
        rows = settings.steps // settings.epochs  # with batches of one row, as many steps as the settings say
        usual = hf.arguments(settings, workplace, cpu=cpu, batch=1, micro=1, rows=rows)
        own = {
            "num_train_epochs": 1,
            "max_steps": settings.steps,
            "per_device_train_batch_size": settings.per_device_train_batch_size,
            "generation_batch_size": settings.generation_batch_size,
            "num_generations": settings.num_generations,
            "num_iterations": settings.num_iterations,
            "max_completion_length": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": 1.0,
            "top_k": 0,
            "repetition_penalty": 1.0,
            "beta": settings.beta,
            "loss_type": settings.loss_type,
            "epsilon": settings.epsilon,
            "epsilon_high": settings.epsilon_high,
            "importance_sampling_level": settings.importance_sampling_level,
            "scale_rewards": settings.scale_rewards,
            "mask_truncated_completions": settings.mask_truncated_completions,
            "use_bias_correction_kl": True,
            "shuffle_dataset": False,
            "log_completions": False,
            "sync_ref_model": False,
            "ddp_timeout": int(settings.judge_timeout) + 1800,  # the other processes wait for the judge too
        }
        found = GRPOConfig(**{**usual, **own, **_trl.STATED, **by_vllm(settings.vllm)})
        # `steps_per_generation` counts forward passes of one process; TRL knows how many processes share a generation.
        found.gradient_accumulation_steps, over = divmod(found.steps_per_generation, settings.minibatches)
        if over or not found.gradient_accumulation_steps:
            raise ValueError(
                f"a generation of {settings.generation_batch_size} replies in {found.world_size} processes cannot be "
                f"cut into {settings.minibatches} minibatches of whole forward passes of "
                f"{settings.per_device_train_batch_size}; lower per_device_train_batch_size"
            )
        return _trl.on_one_device(found)


def in_order(data: Sequence[Prompt], settings: Settings, *, seed: int) -> list[Prompt]:
    """The prompts of all generations, one after the other: shuffled epochs over the data, a function of the seed.

    TRL forgets its own order where a training goes on after its first epoch; this one is a single epoch.
    """
    wanted = settings.updates() * settings.generation_batch_size // settings.num_generations
    found: list[Prompt] = []
    epoch = 0
    while len(found) < wanted:
        order = list(range(len(data)))
        Random(seed_for(seed, "prompts", epoch)).shuffle(order)
        found += [data[i] for i in order]
        epoch += 1
    return found[:wanted]


def by_vllm(vllm: VLLMSettings | None) -> dict[str, Any]:
    """GRPOConfig's keywords about who draws."""
    if vllm is None:
        return {"use_vllm": False, "use_transformers_continuous_batching": False}
    if vllm.mode == "colocate":
        place: dict[str, Any] = {
            "vllm_gpu_memory_utilization": vllm.gpu_memory_utilization,
            "vllm_tensor_parallel_size": vllm.tensor_parallel_size,
            "vllm_max_model_length": vllm.max_model_length,
            "vllm_enable_sleep_mode": vllm.enable_sleep_mode,
        }
    else:
        place = {
            "vllm_server_base_url": vllm.base_url,
            "vllm_server_timeout": vllm.timeout,
            "vllm_group_port": vllm.group_port,
        }
    return {"use_vllm": True, "vllm_mode": vllm.mode, **place}
