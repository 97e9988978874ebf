"""Whether a candidate is worse: one-sided ends of levels and paired differences, and what a limit makes of them.

    D   candidate − other, over the same items     U, L   its one-sided upper and lower ends, each missed with
    A   the candidate's own level                         probability α: together a two-sided interval at 1 − 2α

Lower is better throughout; where higher is, negate the ends (`Ends.negated`) and the limit. The bad end decides, not
the point: what cannot be told is not passed. Items of one fact or template are one cluster, and a cluster is one item.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from dressage.maths.stats import ROUNDING, t_quantile

Outcome = Literal["pass", "fail", "inconclusive"]


class Ends(NamedTuple):
    """A mean with its one-sided ends; both null where there are fewer than two items or no way to bound them."""

    value: float
    low: float | None
    high: float | None
    n: int
    """Independent items."""

    def negated(self) -> "Ends":
        """The same of −x: for a metric of which more is better."""
        low, high = (None if end is None else -end for end in (self.high, self.low))
        return Ends(-self.value, low, high, self.n)


class Limits(NamedTuple):
    """What a gate allows; null where it has no such limit."""

    may_worsen_by: float | None = None
    at_most: float | None = None
    smallest_n: int = 2


class Decision(NamedTuple):
    """A gate's answer and, in words, every comparison it rests on."""

    outcome: Outcome
    reasons: tuple[str, ...]


def unseen(n: int, alpha: float) -> float:
    """1 − α^{1/n}: what of a whole can have gone unseen in n items with probability α (about 3/n for 5 %)."""
    if n < 1 or not 0 < alpha < 1:
        raise ValueError(f"n is at least 1 and alpha between 0 and 1, not {n} and {alpha}")
    return -math.expm1(math.log(alpha) / n)


def level_of_attempt(alpha: float, *, earlier: int) -> float:
    """α, α/2, α/4 …: the level of a retry after `earlier` attempts on the very same items; all together below 2α.

    Fresh items start again at α.
    """
    if earlier < 0 or not 0 < alpha < 1:
        raise ValueError(f"alpha lies between 0 and 1 and there are 0 or more attempts, not {alpha} and {earlier}")
    return alpha * 0.5**earlier


# ---------------------------------------------------------------- ends


def level_ends(
    values: Mapping[Hashable, float], *, alpha: float, span: tuple[float, float] | None = (0.0, 1.0)
) -> Ends:
    """The mean over items with t_{1−α} ends.

    `span` is where a single value can lie, null if anywhere. Where the sample does not vary, a share of up to
    h = 1 − α^{1/n} of other values may have gone unseen, so the ends are (1−h) mean + h · span; without a span none.

    Raises:
        ValueError: for no items, a value outside the span, or α outside (0, ½).
    """
    _checked(alpha, values.values(), span)
    return _ends(list(values.values()), alpha=alpha, span=span)


def difference_ends(
    candidate: Mapping[Hashable, float],
    other: Mapping[Hashable, float],
    *,
    alpha: float,
    span: tuple[float, float] | None = (0.0, 1.0),
) -> Ends:
    """The mean of candidate − other over the items that both have, with t_{1−α} ends; `span` is that of one side.

    Where all differences are the same, h as in `level_ends`, of differences as large as the span is wide.

    Raises:
        ValueError: where no item has both, a value is outside the span, or α is outside (0, ½).
    """
    shared = [item for item in candidate if item in other]
    if not shared:
        raise ValueError("no item has a value on both sides; probe both with the same items")
    for side in (candidate, other):
        _checked(alpha, [side[item] for item in shared], span)
    wide = None if span is None else (span[0] - span[1], span[1] - span[0])
    return _ends([candidate[item] - other[item] for item in shared], alpha=alpha, span=wide)


class Share(NamedTuple):
    """Of one item: how often it happened (flips), out of how often it could (was right at first)."""

    happened: float
    could: float


def share_ends(items: Mapping[Hashable, Share], *, alpha: float) -> Ends:
    """Σ happened / Σ could, with ends by its influence values (happened_i − R could_i) / mean(could).

    n is the number of items on which it could happen. Where no item says anything else than R, `unseen` of those.

    Raises:
        ValueError: where it could happen nowhere, more happened than could, or α is outside (0, ½).
    """
    value, influence = _influences(items, list(items), alpha)
    n = sum(share.could > 0 for share in items.values())
    return _around(value, influence, n, alpha=alpha, span=(0.0, 1.0))


def share_difference_ends(
    candidate: Mapping[Hashable, Share], other: Mapping[Hashable, Share], *, alpha: float
) -> Ends:
    """The difference of two such shares over the items that both have, paired by item through their influence values.

    n is the number of items on which it could happen, of the side that has fewer.
    """
    shared = [item for item in candidate if item in other]
    if not shared:
        raise ValueError("no item has a value on both sides; probe both with the same items")
    (mine, mine_at), (theirs, theirs_at) = (_influences(side, shared, alpha) for side in (candidate, other))
    n = min(sum(side[item].could > 0 for item in shared) for side in (candidate, other))
    apart = [a - b for a, b in zip(mine_at, theirs_at, strict=True)]
    return _around(mine - theirs, apart, n, alpha=alpha, span=(-1.0, 1.0))


def _influences(items: Mapping[Hashable, Share], which: Sequence[Hashable], alpha: float) -> tuple[float, list[float]]:
    _checked(alpha, [], None)
    could = math.fsum(items[item].could for item in which)
    if not could:
        raise ValueError("it could happen on no item, so it has no share")
    if any(not 0 <= items[item].happened <= items[item].could for item in which):
        raise ValueError("on some item more happened than could, or less than nothing")
    ratio = math.fsum(items[item].happened for item in which) / could
    scale = could / len(which)
    return ratio, [(items[item].happened - ratio * items[item].could) / scale for item in which]


def _ends(values: list[float], *, alpha: float, span: tuple[float, float] | None) -> Ends:
    mean = math.fsum(values) / len(values)
    return _around(mean, [v - mean for v in values], len(values), alpha=alpha, span=span)


def _around(
    value: float, deviations: Sequence[float], n: int, *, alpha: float, span: tuple[float, float] | None
) -> Ends:
    """The ends about a value from deviations that sum to 0, one an item; n of the items tell anything."""
    if n < 2:
        return Ends(value, None, None, n)
    error = math.sqrt(n / (n - 1) * math.fsum(d * d for d in deviations)) / len(deviations)
    if error > ROUNDING * max(1.0, abs(value)):
        half = t_quantile(1 - 2 * alpha, n - 1) * error
        return Ends(value, value - half, value + half, n)
    if span is None:
        return Ends(value, None, None, n)
    h = unseen(n, alpha)
    return Ends(value, (1 - h) * value + h * span[0], (1 - h) * value + h * span[1], n)


def _checked(alpha: float, values: Iterable[float], span: tuple[float, float] | None) -> None:
    if not 0 < alpha < 0.5:
        raise ValueError(f"the alpha of a one-sided end lies between 0 and 1/2, not {alpha}")
    low, high = span or (-math.inf, math.inf)
    for value in values:
        if not (low <= value <= high and math.isfinite(value)):
            raise ValueError(f"a value lies in [{low:g}, {high:g}], not {value}; a failed judgement is no value")


# ---------------------------------------------------------------- the decision


def decide(
    limits: Limits, *, differences: Mapping[str, Ends], level: Ends | None = None, doubts: Sequence[str] = ()
) -> Decision:
    """Pass where every bad end keeps its limit, fail where some good end is beyond its limit, else inconclusive.

    `differences` names what the candidate is compared with (predecessor, origin: a worsening must keep its limit
    against each), `level` is the candidate's own. Whatever makes the numbers themselves doubtful (a metric missing,
    too many failures, another judge on one side, too few engaged) goes into `doubts`: then, or on fewer
    than `smallest_n` items, nothing is decided; nor does an end that is null decide. What inconclusive means (block,
    warn) is the caller's.

    Raises:
        ValueError: where the limits limit nothing, or what they limit is not there and no doubt says why.
    """
    if limits.may_worsen_by is None and limits.at_most is None:
        raise ValueError("the gate limits neither a worsening nor the level")
    checks: list[tuple[str, Ends, float]] = []
    if limits.may_worsen_by is not None:
        checks += [(f"worse than {name} by", ends, limits.may_worsen_by) for name, ends in differences.items()]
        if not differences and not doubts:
            raise ValueError("the gate limits a worsening, but there is nothing to compare with")
    if limits.at_most is not None:
        checks += [] if level is None else [("level", level, limits.at_most)]
        if level is None and not doubts:
            raise ValueError("the gate limits the level, but there is none")
    few = {f"{ends.n} items, but it takes {limits.smallest_n}" for _, ends, _ in checks if ends.n < limits.smallest_n}
    reasons = (*doubts, *sorted(few), *(_words(*check) for check in checks))
    outcomes = {_outcome(ends, limit) for _, ends, limit in checks}
    if doubts or few or ("inconclusive" in outcomes and "fail" not in outcomes):
        return Decision("inconclusive", reasons)
    return Decision("fail" if "fail" in outcomes else "pass", reasons)


def _outcome(ends: Ends, limit: float) -> Outcome:
    if ends.low is None or ends.high is None:
        return "inconclusive"
    return "pass" if ends.high <= limit else "fail" if ends.low > limit else "inconclusive"


def _words(what: str, ends: Ends, limit: float) -> str:
    if ends.low is None or ends.high is None:
        return f"{what} {ends.value:.3f}, no interval from {ends.n} items, limit {limit:.3f}"
    return f"{what} {ends.value:.3f}, between {ends.low:.3f} and {ends.high:.3f}, limit {limit:.3f}"
