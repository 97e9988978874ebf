"""Who says what to expect: a linear head on hidden states, the policy's own or those of an adapter of its own.

N tokens · D hidden width.
"""

import torch
from torch import Tensor, nn

from dressage.trainers._on_policy.roles import Roles


class ValueHead(nn.Module):
    """V = w · h + b in fp32; zero at the start, so that the first advantages are the returns."""

    def __init__(self, width: int, device: torch.device) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1, device=device, dtype=torch.float32)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden_ND: Tensor) -> Tensor:
        value_N: Tensor = self.linear(hidden_ND.float())[:, 0]
        return value_N


class Critic:
    """A value head and the adapter under it: the policy's, which it never changes (`own` False), or its own."""

    def __init__(self, roles: Roles, *, width: int, device: torch.device, own: bool) -> None:
        self.own = own
        self.head = ValueHead(width, device)
        self.named: dict[str, nn.Parameter] = {f"head.{name}": p for name, p in self.head.named_parameters()}
        if own:
            self.named |= roles.parameters("critic")
