"""One process or several that train together: who computes what, and sums over all of them.

The model stays unwrapped: DistributedDataParallel does not see the second of two alternating adapters. Every loss
is weighted over its whole minibatch, so the gradients of the processes add up to that of one process.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor, nn

from dressage.company import company, processes

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

    def agree(self, decide: Callable[[], Any]) -> Any:
        """What the leader decides, in all processes; it may take hours, for no collective waits for it."""
        return company().agree(decide)

    def gather(self, mine: T) -> list[T]:
        """Everybody's, in the order of the processes, to all of them."""
        if self.size == 1:
            return [mine]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, mine)
        return found

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
    announced = processes()
    if announced > 1 and not dist.is_initialized():
        PartialState(cpu=cpu)
    size = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    if size != announced:
        raise RuntimeError(
            f"a launcher announced {announced} processes, and {size} found one another; start them with torchrun"
        )
    return Crew(dist.get_rank(), size) if size > 1 else Crew()
