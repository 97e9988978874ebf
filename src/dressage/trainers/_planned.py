"""transformers' Trainer over pairs in planned microbatches, whose losses add up to the mean over the batch's pairs."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import Trainer

from dressage.trainers._forks import Batch
from dressage.trainers._plan import Plan
from dressage.trainers._resuming import Resumes


class PlannedPairs(Resumes, Trainer):  # type: ignore[misc]
    """What `dpo` and `reward` have in common; a subclass says what a microbatch costs."""

    def __init__(self, *, count: int, plan: Plan, collate: Callable[[Sequence[int]], Batch], **known: Any) -> None:
        super().__init__(**known)
        self.loss_is_scaled_for_ga = True
        self._count, self._plan, self._collate = count, plan, collate

    def get_train_dataloader(self) -> Any:
        """Microbatches as the plan says; the epoch reaches it through accelerate's `set_epoch`."""
        loader: Any = DataLoader(
            range(self._count),  # type: ignore[arg-type]
            batch_sampler=self._plan,
            collate_fn=self._collated,
        )
        return self.accelerator.prepare(loader)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], int]:
        """An optimizer step's microbatches, and how many pairs they are."""
        samples, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        return samples, sum(len(sample["index_B"]) for sample in samples)

    def _collated(self, indices: list[int]) -> dict[str, Any]:
        return {**self._collate(indices)._asdict(), "index_B": torch.tensor(indices)}


def unpacked(inputs: dict[str, Any]) -> tuple[Batch, list[int]]:
    """A microbatch as it was laid out, and which pairs of the data it holds."""
    batch = Batch(**{name: part for name, part in inputs.items() if name != "index_B"})
    return batch, inputs["index_B"].tolist()
