"""One process or several that train together: who computes what, and sums over all of them.

The model stays unwrapped: DistributedDataParallel does not see the second of two alternating adapters. Every loss
is weighted over its whole minibatch, so the gradients of the processes add up to that of one process.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor, nn

T = TypeVar("T")


@dataclass(frozen=True)
class Crew:
    """This process's number among `size`; the first of them leads: it draws, has graded, writes and reports."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, work: Sequence[T]) -> Sequence[T]:
        """This process's part of the work."""
        return work[self.rank :: self.size]

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            dist.barrier()

    def sum_up(self, tensors: Iterable[Tensor]) -> None:
        """Each tensor becomes its sum over all processes."""
        if self.size > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """A parameter that had no gradient here but has one elsewhere counts as zero here."""
        if self.size > 1:
            for parameter in parameters:
                if parameter.grad is None:
                    parameter.grad = parameter.new_zeros(parameter.shape)
                dist.all_reduce(parameter.grad)


def crew(*, cpu: bool) -> Crew:
    """The processes that a launcher (torchrun, accelerate launch) started; without one, this process alone.

    Raises:
        RuntimeError: the launcher announced several processes, and they did not find one another.
    """
    announced = int(os.environ.get("WORLD_SIZE", "1"))
    if announced > 1 and not dist.is_initialized():
        PartialState(cpu=cpu)
    if not (dist.is_available() and dist.is_initialized()):
        if announced > 1:
            raise RuntimeError(
                f"a launcher announced {announced} processes, but this one is alone; start with torchrun"
            )
        return Crew()
    return Crew(dist.get_rank(), dist.get_world_size())
