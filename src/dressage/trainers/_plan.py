"""Which rows share a batch, and in which order batches come: a function of seed and epoch alone."""

import random
from collections.abc import Iterator, Sequence

from dressage.seeds import seed_for


def plan(lengths: Sequence[int], *, seed: int, epoch: int, batch: int, micro: int) -> list[list[int]]:
    """Microbatches of an epoch, as indices of rows of these lengths, batch after batch.

    A batch is drawn by seed and epoch alone, so cutting it otherwise changes no batch; within one, rows go by
    length, so that a microbatch is padded little.
    """
    order = list(range(len(lengths)))
    random.Random(seed_for(seed, "order", epoch)).shuffle(order)
    micros = []
    for start in range(0, len(order), batch):
        members = sorted(order[start : start + batch], key=lambda i: (lengths[i], i))
        micros += [members[i : i + micro] for i in range(0, len(members), micro)]
    return micros


class Plan:
    """The batch sampler that torch's DataLoader asks: the microbatches of the epoch it was last told."""

    def __init__(self, lengths: Sequence[int], *, seed: int, batch: int, micro: int) -> None:
        self._lengths, self._seed, self._batch, self._micro = lengths, seed, batch, micro
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def of(self, epoch: int) -> list[list[int]]:
        return plan(self._lengths, seed=self._seed, epoch=epoch, batch=self._batch, micro=self._micro)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.of(self._epoch))

    def __len__(self) -> int:
        return len(self.of(0))
