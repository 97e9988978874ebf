"""What a pair costs under the settings: one of the losses, a margin to be kept, and the chosen reply's likelihood.

B pairs of a microbatch.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

from dressage.maths import losses
from dressage.maths.losses import PairLoss
from dressage.trainers.dpo import Settings


class About(NamedTuple):
    """What a loss may look at besides log-probabilities."""

    length_B2: Tensor
    """Tokens of the chosen and the rejected reply."""
    margin_B: Tensor
    """The judge's."""


Objective = Callable[[Tensor, Tensor, About], PairLoss]
"""(log-probabilities of both replies (B, 2), the reference's, what else is known) → PairLoss."""

PLAIN: Mapping[str, Callable[..., PairLoss]] = {
    "sigmoid": losses.dpo,
    "ipo": losses.ipo,
    "hinge": losses.hinge,
    "robust": losses.robust,
    "length_normalised": losses.length_normalised,
}


def objective(settings: Settings) -> Objective:
    """The settings' loss. With a margin m (arXiv:2402.10571) the chosen reply's implicit reward must be ahead by m:
    the loss sees it less m, the log sees it as it is."""

    def loss(logprob_B2: Tensor, ref_B2: Tensor, about: About) -> PairLoss:
        more: dict[str, Tensor | float] = {"beta": settings.beta}
        if settings.loss == "robust":
            more["noise"] = settings.label_noise
        if settings.loss == "length_normalised":
            more["length_B2"] = about.length_B2
        ahead_B = settings.margin * about.margin_B
        chosen_B, rejected_B = logprob_B2.unbind(1)
        ref_chosen_B, ref_rejected_B = ref_B2.unbind(1)
        found = PLAIN[settings.loss](
            chosen_B - ahead_B / settings.beta, rejected_B, ref_chosen_B, ref_rejected_B, **more
        )
        found = found._replace(chosen_reward_B=found.chosen_reward_B + ahead_B)
        if not settings.sft:
            return found
        likelihood_B = losses.nll_of_chosen(chosen_B, about.length_B2[:, 0])
        return found._replace(loss_B=found.loss_B + settings.sft * likelihood_B)

    return loss
