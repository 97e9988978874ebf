"""What a judge's card says to the floors of the YAML: held, broken or inconclusive, in words that say what to do.

The bad end of an interval decides, never the number itself; what was not measured clears nothing.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from dressage.cards import Card, Decision, Number, Ruling
from dressage.settings import Floors

MOST_PAIRS = 10_000
"""More pairs than this are not asked for in a hint."""


class BelowFloor(RuntimeError):
    """A judge does not clear the floors of the YAML; says which, by how much, and the ways out."""


def rulings(card: Card, floors: Floors) -> tuple[Ruling, ...]:
    """What each floor that is set says of the judge; a pure function of what was measured."""
    return tuple(_ruling(floor) for floor in _floors(card, floors))


def refuse(card: Card, floors: Floors) -> None:
    """Stops whoever wants to label with this judge, unless every floor is cleared.

    Raises:
        BelowFloor: with a line for each floor that is not.
    """
    missed = [ruling for ruling in rulings(card, floors) if ruling.decision != "held"]
    if missed:
        lines = "\n".join(f"  judge.floors.{ruling.floor}: {ruling.words}" for ruling in missed)
        raise BelowFloor(
            f"judge {card.judge!r} is below the floors of the YAML, so nothing is labelled with it:\n{lines}\n"
            "Take a better judge, mend its criterion, or lower these floors"
        )


# ---------------------------------------------------------------- the floors, each with its number


class Floor(NamedTuple):
    """A limit, what was measured, and how a person is told."""

    key: str
    found: Number | None
    limit: float
    above: bool
    """Whether the number must lie above its limit."""
    told: str
    """The measurement as the beginning of a sentence."""
    write: Callable[[float | None], str]
    more: str
    """What to do where the interval holds the limit."""
    unmeasured: str


def _floors(card: Card, floors: Floors) -> Iterator[Floor]:
    pairs, order = card.pairs, card.pairs.order if card.pairs else None
    found: list[tuple[str, Number | None, float | None, str]] = [
        ("agreement", pairs.agreement.accuracy if pairs else None, floors.agreement, AGREES),
        ("consistency", order.consistent if order else None, floors.consistency, CONSISTENT + _habit(card)),
    ]
    for key, number, limit, told in found:
        if limit is not None and (key != "consistency" or card.compares):
            yield _of_pairs(card, key, number, limit, told=told)
    if floors.kappa is not None:
        kappa = pairs.agreement.kappa if pairs else None
        yield _of_pairs(card, "kappa", kappa, floors.kappa, told=KAPPA)._replace(write=_plain)
    if floors.failures is not None:
        yield _failures(card, floors.failures)
    if floors.worst_tactic is not None:
        yield _worst_tactic(card, floors.worst_tactic)


AGREES = "it says what people say in {value} of {n:,} pairs, its ties counting half"
CONSISTENT = "both orders name the same winner in {value} of {n:,} pairs"
KAPPA = "its κ with the labels is {value}"


def _of_pairs(card: Card, key: str, found: Number | None, limit: float, *, told: str) -> Floor:
    write = _plain if key == "kappa" else _percent
    said = told.format(value=write(found.value), n=found.n) if found else ""
    return Floor(key, found, limit, True, said, write, "label more pairs to know better", _unmeasured(card))


def _habit(card: Card) -> str:
    """What an inconsistent judge does instead, where it is plain."""
    order = card.pairs.order if card.pairs else None
    if order is None or 0.1 < order.picks_first.value < 0.9:
        return ""
    habit = "it" if order.picks_first.value in (0, 1) else "nearly always it"
    shown = "first" if order.picks_first.value > 0.5 else "second"
    return f" ({habit} just names the reply that is shown {shown})"


def _failures(card: Card, limit: float) -> Floor:
    if card.failed is None:
        return Floor("failures", None, limit, False, "", _percent, "", _unmeasured(card))
    share, reasons = card.failed.share, card.failed.reasons
    most = max(reasons, key=lambda reason: reasons[reason], default="")
    failed = round(share.value * share.n)
    told = f"it gave no answer to {failed:,} of {share.n:,} {'pairs' if card.pairs else 'judgements'}" + (
        f", mostly: {most}" if failed and most else ""
    )
    more = "label more pairs, or mend what fails" if failed else _enough(limit)
    return Floor("failures", share, limit, False, told, _percent, more, "")


def _worst_tactic(card: Card, limit: float) -> Floor:
    worst = card.red_team.worst() if card.red_team else None
    untold = [str(s.number) for s in card.red_team.scores if s.gain is None] if card.red_team else []
    if worst is None or worst.gain is None or untold:
        why = f"all judgements of tactic {', '.join(untold)} failed" if untold else "the red team was not tried"
        return Floor("worst_tactic", None, limit, False, "", _plain, "", f"{why}, so nothing is known")
    told = (
        f"tactic {worst.number} ({worst.name}) gains {_plain(worst.gain.value)} on the mean of {worst.gain.n:,} answers"
    )
    return Floor("worst_tactic", worst.gain, limit, False, told, _plain, worst.exploits.rstrip("."), "")


# ---------------------------------------------------------------- the ruling


def _ruling(floor: Floor) -> Ruling:
    found, write = floor.found, floor.write
    if found is None:
        return Ruling(floor=floor.key, decision="inconclusive", words=floor.unmeasured)
    asked = f"and {'more' if floor.above else 'less'} than {write(floor.limit)} is asked for"
    decision = decide(found, floor.limit, above=floor.above)
    bad, good = (found.low, found.high) if floor.above else (found.high, found.low)
    if bad is None or good is None:
        tail = f"that is too little for an interval, {asked}"
    elif decision == "held":
        tail = f"{'at least' if floor.above else 'at most'} {write(bad)}, {asked}"
    elif decision == "broken":
        tail = f"at best {write(good)}, {asked}"
    else:
        tail = f"it may be as {'little' if floor.above else 'much'} as {write(bad)}, {asked}; {floor.more}"
    return Ruling(floor=floor.key, decision=decision, words=f"{floor.told}: {tail}")


def decide(found: Number, limit: float, *, above: bool) -> Decision:
    """By the bad end: held where the whole interval clears the limit, broken where none of it does."""
    if found.low is None or found.high is None:
        return "inconclusive"
    if above:
        return "held" if found.low > limit else "broken" if found.high <= limit else "inconclusive"
    return "held" if found.high < limit else "broken" if found.low >= limit else "inconclusive"


def _unmeasured(card: Card) -> str:
    if card.pairs is None:
        return "nothing is known: name labelled pairs in judge.floors.pairs, or with --pairs FILE"
    return "nothing is known: the judge answered on no pair that would say anything of it"


def _enough(limit: float) -> str:
    """How many pairs without any failure would clear the floor."""
    from dressage.maths.stats import wilson  # numpy, which a config that is only read does not need

    n = next((n for n in range(1, MOST_PAIRS) if (wilson(0, n).high or 1.0) < limit), None)
    return f"{n:,} pairs without a failure would do" if n else "label more pairs"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".replace("-", "−")
