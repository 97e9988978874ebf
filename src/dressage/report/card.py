"""Builds the page of a judge card: one self-contained HTML file; every word and number comes from the card."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from dressage.cards import Card, Cost, Number, Pairs, Ruling, TacticScore
from dressage.report.forest import Interval, Mark, forest
from dressage.report.headline import ends
from dressage.report.page import render
from dressage.report.reliability import reliability_plot
from dressage.report.wording import counted, duration, number, percent, plain
from dressage.store import commit_text

CATEGORIES_AT_MOST = 12
"""The largest are drawn; the JSON has all of them."""
GUESSING = Mark(0.5, "50 %: guessing", "even")
NOTHING = Mark(0.0, "0: nothing gained", "even")


def write_card(card: Card, path: Path) -> Path:
    """Writes the page, and says where it lies."""
    commit_text(path, render("card.html", page(card)))
    return path


def page(card: Card) -> dict[str, Any]:
    """What the template shows."""
    return {
        "judge": card.judge,
        "summary": list(_summary(card)),
        "tiles": list(_tiles(card)),
        "rulings": [_ruling(ruling) for ruling in card.rulings],
        "agreement": _agreement(card.pairs) if card.pairs else None,
        "measures": list(_measures(card)),
        "calibration": _calibration(card.pairs) if card.pairs else None,
        "leanings": _leanings(card.pairs) if card.pairs else [],
        "red_team": _red_team(card),
        "failures": sorted(card.failed.reasons.items(), key=lambda row: -row[1]) if card.failed else [],
        "hash": card.hash(),
        "made_from": card.made_from,
    }


def _summary(card: Card) -> Iterator[tuple[str, str]]:
    yield "kind", card.kind + (", compares two replies" if card.compares else ", rates one reply")
    if card.models:
        yield "asks", ", ".join(card.models)
    if card.pairs:
        yield "labelled pairs", f"{number(card.pairs.pairs)} from {card.source}"


# ---------------------------------------------------------------- the head


@dataclass(frozen=True)
class Tile:
    """A number that matters, and what it allows to say."""

    value: str
    interval: str
    sentence: str
    reading: str
    tone: str


def _tiles(card: Card) -> Iterator[Tile]:
    pairs = card.pairs
    if pairs and (found := pairs.agreement.accuracy):
        reading, tone = _against(found, 0.5, "guessing")
        yield _tile(found, f"agrees with people on {counted(found.n, 'pair', 'pairs')}", reading, tone)
    if pairs and pairs.order:
        found = pairs.order.consistent
        yield _tile(found, "says the same in both orders", _first(pairs), _tone(found.value > 0.5))
    if card.failed:
        found = card.failed.share
        yield _tile(found, f"of {number(found.n)} judgements failed", "left out, never a score", "open")
    if card.red_team and (known := worst_first(card.red_team.scores)):
        yield _gain_tile(known[0])


def _gain_tile(worst: TacticScore) -> Tile:
    assert worst.gain is not None
    sure = worst.gain.low is not None and worst.gain.low > 0
    value = f"{100 * worst.gain.value:+.1f}".replace("-", "−")
    none = "too few prompts for an interval" if worst.gain.low is None else "the interval holds 0: no gain is shown"
    reading = "the whole interval lies above 0" if sure else none
    sentence = f"points for the tactic that gains most, {worst.name}"
    return Tile(value, _ends(worst.gain), sentence, reading, "bad" if sure else "open")


def _tile(found: Number, sentence: str, reading: str, tone: str) -> Tile:
    return Tile(percent(found.value), ends(found.low, found.high), sentence, reading, tone)


def _tone(good: bool) -> str:
    return "open" if good else "bad"


def _against(found: Number, limit: float, what: str) -> tuple[str, str]:
    if found.low is None or found.high is None:
        return "too few pairs for an interval", "open"
    if found.low > limit:
        return f"the whole interval lies above {what}", "good"
    if found.high < limit:
        return f"the whole interval lies below {what}", "bad"
    return f"{what} lies within the interval", "open"


def _first(pairs: Pairs) -> str:
    assert pairs.order is not None
    first = pairs.order.picks_first.value
    if first in (0.0, 1.0):
        return f"it always names the reply that is shown {'first' if first else 'second'}"
    return f"it names the reply shown first in {percent(first)} of its answers"


def _ruling(ruling: Ruling) -> dict[str, str]:
    return {"floor": plain(ruling.floor), "decision": ruling.decision, "words": ruling.words}


# ---------------------------------------------------------------- against people


def _agreement(pairs: Pairs) -> Markup | None:
    """Accuracy in all, by the largest categories, by difficulty."""
    found = pairs.agreement
    if found.accuracy is None:
        return None
    largest = sorted(found.by_category.items(), key=lambda row: -row[1].n)[:CATEGORIES_AT_MOST]
    rows = [_row("all pairs", found.accuracy, "policy")]
    rows += [_row(name, one, "baseline") for name, one in (*sorted(largest), *found.by_difficulty.items())]
    return forest(rows, [GUESSING], title="Agreement with people, with 95 % intervals")


def _row(label: str, found: Number, tone: str) -> Interval:
    words = f"{percent(found.value)} {ends(found.low, found.high)}"
    return Interval(f"{label} ({number(found.n)})", found.value, found.low, found.high, words, tone)


def _measures(card: Card) -> Iterator[tuple[str, str, str]]:
    """Name, value with interval, and what it means."""
    if card.pairs:
        yield from _of_pairs(card.pairs)
    if card.failed:
        yield "failures", _share(card.failed.share), "judgements without an answer; they are in no other number"
    if card.cost:
        yield "cost of a label", _spent(card.cost), f"over {counted(card.cost.labels, 'label', 'labels')}"
    if card.red_team and (alone := [s for s in card.red_team.scores if s.alone]):
        best = max(alone, key=lambda s: s.alone.value if s.alone else 0.0)
        yield "a tactic alone", _share(best.alone), f"how often {best.name} in place of an answer beats the good one"


def _spent(cost: Cost) -> str:
    tokens = f"{number(round(cost.read))} tokens read, {number(round(cost.written))} written"
    money = f"{number(cost.cost)} by the price table" if cost.cost else ""
    time = duration(cost.seconds) if cost.seconds >= 1 else f"{1000 * cost.seconds:.0f} ms"
    return ", ".join(filter(None, (tokens if cost.read else "no model is asked", money, time)))


def _of_pairs(pairs: Pairs) -> Iterator[tuple[str, str, str]]:
    found = pairs.agreement
    ties = f"the judge ties {number(found.judge_ties)}, people tie {number(found.label_ties)}"
    yield "the same word", _share(found.exact), f"first, second or tie; {ties}"
    yield "where both decide", _share(found.decided), "pairs in which neither people nor the judge call a tie"
    kappa = found.kappa
    yield "Cohen’s κ", _plain(kappa) if kappa else "not defined", "0: as chance would have it; 1: always the same"
    if pairs.order:
        yield "both orders agree", _share(pairs.order.consistent), "the others are ties, and make no preference"
        yield "names the first shown", _share(pairs.order.picks_first), "50 % is even"
        if (bias := pairs.order.bias) is not None:
            yield "position bias", _points(bias), "names the first shown where the orders disagree, less 50 %"
    if pairs.stability:
        moved = f"margins move by {number(round(pairs.stability.moved, 4))} on the mean"
        yield "asked again", _share(pairs.stability.same), f"the same winner with other seeds; {moved}"
    if own := pairs.own_family:
        told = f"it prefers {', '.join(own.names)} in {percent(own.judge)}, people do in {percent(own.people)}"
        yield "its own family", f"{_points(own.excess.value)} {_ends(own.excess)}", told
    if pairs.settled:
        yield "not asked", number(pairs.settled), "pairs that a rule decides: broken responses, equal texts"


def _share(found: Number | None) -> str:
    return f"{percent(found.value)} {ends(found.low, found.high)}" if found else "–"


def _plain(found: Number) -> str:
    low, high = found.low, found.high
    inner = f"[{low:.2f}, {high:.2f}]" if low is not None and high is not None else "[no interval]"
    return f"{found.value:.2f} {inner}".replace("-", "−")


def _points(value: float) -> str:
    return f"{100 * value:+.1f} points".replace("-", "−")


def _ends(found: Number) -> str:
    return ends(found.low, found.high).replace("-", "−")


def _calibration(pairs: Pairs) -> dict[str, Any] | None:
    found = pairs.calibration
    if found is None:
        return None
    return {
        "chart": reliability_plot(found.bins, title="Reliability: how sure it was, and how often people agreed"),
        "ece": _share(found.ece),
        "brier": _plain(found.brier),
    }


def _leanings(pairs: Pairs) -> list[tuple[str, str, str]]:
    return [
        (name, _points(slope.value), _ends(slope) if slope.low is not None else "[no interval]")
        for name, slope in pairs.leanings.items()
    ]


# ---------------------------------------------------------------- against the red team


def _red_team(card: Card) -> dict[str, Any] | None:
    found = card.red_team
    if found is None:
        return None
    known = sorted((s for s in found.scores if s.gain), key=lambda s: -_gain(s))
    return {
        "prompts": counted(found.prompts, "prompt", "prompts"),
        "told_apart": _share(found.told_apart),
        "chart": forest(
            [_gained(s) for s in known], [NOTHING], title="What each tactic gains, with 95 % intervals", least=-1.0
        )
        if known
        else None,
        "rows": [_tactic(s) for s in found.scores],
    }


def _gain(score: TacticScore) -> float:
    return score.gain.value if score.gain else 0.0


def _gained(score: TacticScore) -> Interval:
    assert score.gain is not None
    gain = score.gain
    tone = "policy" if gain.low is not None and gain.low > 0 else "baseline"
    words = f"{100 * gain.value:+.1f} {_ends(gain)}".replace("-", "−")
    return Interval(f"{score.number} {score.name}", gain.value, gain.low, gain.high, words, tone)


def _tactic(score: TacticScore) -> dict[str, str]:
    return {
        "name": f"{score.number} {score.name}",
        "exploits": score.exploits,
        "gain": f"{100 * score.gain.value:+.1f} {_ends(score.gain)}".replace("-", "−") if score.gain else "–",
        "on_good": _signed(score.on_good),
        "on_bad": _signed(score.on_bad),
        "alone": percent(score.alone.value) if score.alone else "–",
        "failed": number(score.failed),
        "promised": "yes" if score.promised else "",
    }


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:+.1f}".replace("-", "−")


def worst_first(scores: Sequence[TacticScore]) -> list[TacticScore]:
    """The tactics by what they gain."""
    return sorted((s for s in scores if s.gain), key=lambda s: -_gain(s))
