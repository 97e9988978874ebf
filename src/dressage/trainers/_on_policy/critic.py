"""Who says what to expect: a linear head on hidden states, the policy's own or those of an adapter of its own.

N tokens · D hidden width.
"""

import torch
from torch import Tensor, nn

from dressage.trainers._on_policy.roles import Roles


class ValueHead(nn.Module):
    """V = w · h' + b in fp32, h' being h brought to mean 0 and length 1.

    A hidden state is tens to hundreds long, and Adam moves every weight by the rate whatever the gradient: on h as it
    is one step of 1e-3 would move a value by more than grades ever differ.
    """

    def __init__(self, width: int, device: torch.device) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1, device=device, dtype=torch.float32)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden_ND: Tensor) -> Tensor:
        width = hidden_ND.shape[-1]
        value_N: Tensor = self.linear(nn.functional.layer_norm(hidden_ND.float(), (width,)) / width**0.5)[:, 0]
        return value_N

    @torch.no_grad()
    def expect(self, value: float) -> None:
        """Says `value` of everything: the mean grade of the first rollout, or else the end of every early reply would
        look like a surprise, which GAE hands to the tokens before it."""
        self.linear.weight.zero_()
        self.linear.bias.fill_(value)


class Critic:
    """A value head and the adapter under it: the policy's, which it never changes (`own` False), or its own."""

    def __init__(self, roles: Roles, *, width: int, device: torch.device, own: bool) -> None:
        self.own = own
        self.head = ValueHead(width, device)
        self.named: dict[str, nn.Parameter] = {f"head.{name}": p for name, p in self.head.named_parameters()}
        if own:
            self.named |= roles.parameters("critic")
