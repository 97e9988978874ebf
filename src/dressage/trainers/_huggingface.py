"""transformers' Trainer as `dpo`, `sft` and `reward` run it: defaults stated, silent, checkpoints by us."""

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from huggingface_hub import constants
from transformers import PrinterCallback, TrainerCallback
from transformers.utils import logging as transformers_logging

from dressage.protocols import Backbone, Workplace
from dressage.seeds import seed_for
from dressage.trainers._lora.adapter import trainable
from dressage.trainers._lora.checks import GradientWitness


class Schedule(Protocol):
    """The settings that a gradient trainer has; the kinds spell them alike."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def schedule(self) -> str: ...
    @property
    def warmup(self) -> float: ...
    @property
    def epochs(self) -> int: ...
    @property
    def max_grad_norm(self) -> float: ...


def arguments(settings: Schedule, workplace: Workplace, *, cpu: bool, batch: int, micro: int, rows: int) -> Any:
    """Keywords of TrainingArguments (or TRL's configs) for `rows` rows in batches cut into microbatches.

    The warm-up is rounded down: transformers' first warm-up step has rate 0, and a run of few steps has none to
    waste.
    """
    return {
        "output_dir": str(workplace.folder),
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": batch // micro,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.schedule,
        "warmup_steps": int(settings.warmup * updates(settings, rows=rows, batch=batch)),
        "max_grad_norm": settings.max_grad_norm,
        "weight_decay": 0.0,
        "optim": "adamw_torch",
        "seed": seed_for(workplace.seed, "trainer") % 2**32,
        "use_cpu": cpu,
        "bf16": False,
        "fp16": False,
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": [],  # trackers see what the run's own metrics see: _trackers
        "disable_tqdm": True,
        "log_level": "error",
        "remove_unused_columns": False,
        "dataloader_pin_memory": not cpu,
        "dataloader_num_workers": 0,
    }


def updates(settings: Schedule, *, rows: int, batch: int) -> int:
    """Optimizer steps of the whole training; the last batch of an epoch may be smaller."""
    return settings.epochs * -(-rows // batch)


def one_process(trainer: Any) -> None:
    """Refuses what would go wrong without a word: several processes, or one model copied over several GPUs.

    Raises:
        RuntimeError: launched with more than one process.
    """
    if trainer.accelerator.num_processes > 1:
        raise RuntimeError(
            f"this trainer runs in one process, and was launched with {trainer.accelerator.num_processes}: "
            "gradients are not summed over processes; start it without a launcher"
        )
    trainer.args._n_gpu = min(trainer.args.n_gpu, 1)


class Watcher(TrainerCallback):  # type: ignore[misc]
    """At each step: gradients looked at before the weights move; after, the run is told and the state is kept."""

    def __init__(self, trainer: Any, workplace: Workplace, advance: Callable[[int], None], *, save_every: int) -> None:
        self._trainer, self._workplace, self._advance = trainer, workplace, advance
        self._save_every = save_every

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._trainer.witness.look(state.global_step + 1)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """A step's numbers, all of them; the line first, so that no checkpoint is ahead of the run's metrics."""
        if "loss" not in logs:
            return
        step = state.global_step
        self._workplace.log({"step": step, **logs})
        if step % self._save_every == 0 or step == state.max_steps:
            self._workplace.checkpoints.commit(step, self._trainer.keep)
        self._advance(1)


def watched(trainer: Any, workplace: Workplace, *, steps: int, save_every: int) -> int:
    """Runs the trainer under a watcher, from the newest checkpoint on; returns the number of trainable parameters."""
    one_process(trainer)
    trainer.witness = GradientWitness(trainable(trainer.model))
    trainer.remove_callback(PrinterCallback)
    found = workplace.resume()
    with workplace.progress.task("training", steps) as advance:
        advance(found[0] if found else 0)
        trainer.add_callback(Watcher(trainer, workplace, advance, save_every=save_every))
        trainer.train(resume_from_checkpoint=str(found[1]) if found else None)
    trainer.witness.settle()
    count: int = trainer.witness.count
    return count


@contextmanager
def silent() -> Iterator[None]:
    """No messages of the training libraries, no telemetry; both as before afterwards."""
    before, told = transformers_logging.get_verbosity(), constants.HF_HUB_DISABLE_TELEMETRY
    accelerate_level = logging.getLogger("accelerate").level
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    constants.HF_HUB_DISABLE_TELEMETRY = True
    transformers_logging.set_verbosity_error()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # transformers 5.23 renames the argument that peft and TRL 1.16 still use.
            warnings.filterwarnings("ignore", message=".*gradient_checkpointing.* is deprecated")
            yield
    finally:
        transformers_logging.set_verbosity(before)
        constants.HF_HUB_DISABLE_TELEMETRY = told
        logging.getLogger("accelerate").setLevel(accelerate_level)


@contextmanager
def checkpointing(module: Any, wanted: bool | None) -> Iterator[None]:
    """Activations recomputed in the backward pass: as wanted, and by default everywhere but on a CPU."""
    if not (module.device.type != "cpu" if wanted is None else wanted):
        yield
        return
    module.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    try:
        yield
    finally:
        module.gradient_checkpointing_disable()


def limit(backbone: Backbone, max_length: int | None) -> int | None:
    """The longest row in tokens: the smaller of the setting and the model's context; null where neither is known."""
    context = getattr(backbone.module.config.get_text_config(), "max_position_embeddings", None)
    return min((n for n in (context, max_length) if n is not None), default=None)


def refuse_unfit(rows: Sequence[tuple[str, int]], most: int | None) -> None:
    """Rows (prompt id, tokens) are filtered and counted before they reach a trainer; one too long stops it here.

    Raises:
        ValueError: there are no rows, or some do not fit.
    """
    if not rows:
        raise ValueError("there is nothing to learn from: no rows reached the trainer")
    long = [row for row in rows if most is not None and row[1] > most]
    if long:
        name, worst = max(long, key=lambda row: row[1])
        raise ValueError(
            f"{len(long)} of {len(rows)} rows have more than {most} tokens, the longest {worst} (of prompt {name}); "
            "rows are never cut: leave them out, or raise `max_length` within the model's context"
        )


def changed(before: str, after: str) -> str:
    """The hash of the trained adapter.

    Raises:
        RuntimeError: it is the one from before training.
    """
    if before == after:
        raise RuntimeError(
            "training ended and the adapter is what it was before: every step had learning rate 0, or no gradient "
            "reached it; raise `epochs` or lower `warmup`"
        )
    return after
