"""What the reference and the critic say of the replies of an update, before anything is learnt from them.

S samples · T tokens of a reply · N tokens of some samples laid end to end.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dressage.trainers._forks import Layout, laid_out
from dressage.trainers._logprobs import token_logprobs
from dressage.trainers._on_policy.crew import Crew
from dressage.trainers._on_policy.critic import Critic
from dressage.trainers._on_policy.roles import Role, Roles
from dressage.trainers._on_policy.rollout import Rollout
from dressage.trainers._policy import Policy


def in_micros(forks: Sequence[int], size: int) -> list[list[int]]:
    """Forks in groups that are in memory at once."""
    return [list(forks[i : i + size]) for i in range(0, len(forks), size)]


def by_length(rollout: Rollout, forks: Sequence[int]) -> list[int]:
    """Forks of like length beside one another, so that little is padded."""
    return sorted(forks, key=lambda g: (sum(map(len, rollout.forks[g].replies)) + len(rollout.forks[g].prompt), g))


@torch.no_grad()
def scored(rollout: Rollout, roles: Roles, critic: Critic | None, *, how: "Scoring", crew: Crew) -> Rollout:
    """The rollout with the reference's log-probabilities, and the critic's values where there is one."""
    micros = in_micros(by_length(rollout, range(len(rollout.forks))), how.microbatch)
    ref_ST = torch.zeros_like(rollout.old_logprob_ST)
    value_ST = None if critic is None else torch.zeros_like(rollout.old_logprob_ST)
    with roles.wearing("reference") as module:
        for forks in crew.share(micros):
            policy, batch = Policy(module).eval(), how.batch(rollout, forks, module)
            _put(ref_ST, rollout, forks, how.logprobs(policy.hidden(batch), module, batch.target_N))
    if critic is not None and value_ST is not None:
        with roles.wearing("critic" if critic.own else "policy") as module:
            for forks in crew.share(micros):
                hidden_ND = Policy(module).eval().hidden(how.batch(rollout, forks, module))
                _put(value_ST, rollout, forks, critic.head(hidden_ND))
        crew.sum_up([value_ST])
    crew.sum_up([ref_ST])
    return rollout._replace(ref_logprob_ST=ref_ST, value_ST=value_ST)


@torch.no_grad()
def start_gap(rollout: Rollout, roles: Roles, *, how: "Scoring") -> float:
    """Largest difference in nats of a token between policy and reference on one batch: 0 where they coincide."""
    forks = by_length(rollout, range(len(rollout.forks)))[: how.microbatch]
    found: list[Tensor] = []
    both: tuple[Role, Role] = ("policy", "reference")
    for role in both:
        with roles.wearing(role) as module:
            batch = how.batch(rollout, forks, module)
            found.append(how.logprobs(Policy(module).eval().hidden(batch), module, batch.target_N))
    return float((found[0] - found[1]).abs().max())


def start_may_differ(module: Any) -> float:
    """Nats by which a token may differ between two passes of one model over one batch. On a CPU there is no rounding
    between them. A GPU may sum in another order: on the demo model that moves a token by 5e-5 in fp32, and in bfloat16
    single tokens by 0.3."""
    if module.device.type == "cpu":
        return 0.0
    return 1e-3 if module.dtype in (torch.float32, torch.float64) else 0.5


class Scoring:
    """How replies are put before the model: the layout, how many prompts at once, and at which temperature."""

    def __init__(self, layout: Layout, *, microbatch: int, temperature: float) -> None:
        self.layout, self.microbatch, self.temperature = layout, microbatch, temperature

    def batch(self, rollout: Rollout, forks: Sequence[int], module: Any) -> Any:
        return laid_out([rollout.forks[g] for g in forks], layout=self.layout).on(module.device)

    def logprobs(self, hidden_ND: Tensor, module: Any, target_N: Tensor) -> Tensor:
        return token_logprobs(hidden_ND, module.get_output_embeddings(), target_N, temperature=self.temperature)


def _put(x_ST: Tensor, rollout: Rollout, forks: Sequence[int], x_N: Tensor) -> None:
    rows = rollout.samples(forks)
    part = torch.zeros_like(x_ST[rows])
    part[rollout.real_ST[rows]] = x_N.float().cpu()
    x_ST[rows] = part
