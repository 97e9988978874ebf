"""What a reward model is worth on pairs it has not seen: accuracy, calibration, and what length alone would say.

P pairs.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dressage.maths.stats import fold, wilson
from dressage.records import content_hash
from dressage.trainers._pairs import PairTokens


def is_held_out(prompt_id: str, share: float) -> bool:
    """Whether the pairs of a prompt only measure: decided by its content, so the same in every run."""
    return int(content_hash(["held out", prompt_id]), 16) / 16**16 < share


def accuracy(gap_P: Sequence[float]) -> list[float]:
    """1 where the chosen reply scores higher, ½ where both score the same, else 0."""
    return [1.0 if gap > 0 else 0.5 if gap == 0 else 0.0 for gap in gap_P]


def measured(pairs: Sequence[PairTokens], score_P2: Tensor, *, longer_wins: bool) -> dict[str, float]:
    """Facts about held-out pairs; every prompt weighs the same, and the 95 % interval is Wilson's over prompts.

    `brier` is the mean of (1 − p)² with p = σ(r_w − r_l), the probability given to what happened: ¼ knows
    nothing. `confidence` is the mean probability of the likelier side: above the accuracy it is overconfident.
    """
    gap_P = (score_P2[:, 0] - score_P2[:, 1]).double()
    prompts = [pair.prompt_id for pair in pairs]

    def mean(value_P: Sequence[float]) -> float:
        return _mean_over_prompts(value_P, prompts)

    right = fold(accuracy(gap_P.tolist()), prompts)
    share = wilson(sum(right.values()), len(right))
    assert share.low is not None
    assert share.high is not None
    return {
        "accuracy": share.value,
        "accuracy_low": share.low,
        "accuracy_high": share.high,
        "prompts": len(right),
        "loss": mean((-F.logsigmoid(gap_P)).tolist()),
        "brier": mean(((1 - gap_P.sigmoid()) ** 2).tolist()),
        "confidence": mean(gap_P.abs().sigmoid().tolist()),
        "length_only_accuracy": mean(accuracy([gap if longer_wins else -gap for gap in length_gaps(pairs)])),
    }


def length_gaps(pairs: Sequence[PairTokens]) -> list[float]:
    """By how many tokens the chosen reply is the longer one."""
    return [float(len(pair.chosen) - len(pair.rejected)) for pair in pairs]


def longer_wins(pairs: Sequence[PairTokens]) -> bool:
    """Whether, in the pairs learnt from, the longer reply is chosen at least as often as not."""
    return _mean_over_prompts(accuracy(length_gaps(pairs)), [p.prompt_id for p in pairs]) >= 0.5


def spread(score_P2: Tensor) -> tuple[float, float]:
    """Mean and standard deviation over all replies.

    Raises:
        RuntimeError: every reply scores the same, so the scores say nothing.
    """
    deviation = float(score_P2.double().std(correction=0))
    if not deviation > 0:
        raise RuntimeError(
            f"every reply scores {float(score_P2.flatten()[0]):g}, so the reward model tells nothing apart; "
            "train longer, or raise `learning_rate`"
        )
    return float(score_P2.double().mean()), deviation


def _mean_over_prompts(value_P: Sequence[float], prompts: Sequence[str]) -> float:
    folded = fold(value_P, prompts)
    return float(torch.tensor(list(folded.values()), dtype=torch.float64).mean())
