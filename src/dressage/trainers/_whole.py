"""Tensors that FSDP2 has spread over processes: made whole to be kept, spread again as they are read back.

Making whole and spreading are steps of all processes together: each must come here, in the same order.
"""

from typing import Any

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor, of which this process may have a part only."""
    if not isinstance(tensor, DTensor):
        return tensor
    full: Tensor = tensor.full_tensor()
    return full


def spread_like(tensor: Tensor, other: Any) -> Tensor:
    """A whole tensor as `other` is: itself, or this process's part of it."""
    if not isinstance(other, DTensor) or tensor.ndim == 0:
        return tensor
    return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements)
