"""The head of a page: who was preferred how often by whom, the guards, the other measures."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from dressage.maths.rates import Game, Rate, rate_of
from dressage.records import Battle, GateResult, Measure
from dressage.report.forest import Interval, Mark, forest
from dressage.report.wording import counted, measure, number, percent, plain

RATE = "preference_rate"
WITHOUT = "preference_rate_without_failures"
EVEN = Mark(0.5, "50 %: neither is preferred", "even")


@dataclass(frozen=True)
class Verdict:
    """What one judge says of the policy, in words."""

    judge: str
    rate: str
    interval: str
    sentence: str
    """Goes on from the rate, ends before “by ‹judge›”."""
    reading: str
    """What the interval allows to say."""
    tone: str
    detail: str


@dataclass(frozen=True)
class Headline:
    verdicts: tuple[Verdict, ...]
    chart: Markup


def headline(measures: Sequence[Measure], battles: Sequence[Battle]) -> Headline | None:
    """The preference rate of the policy by each judge, with the baselines beside it; null where none was measured."""
    rates = [m for m in measures if m.name == RATE]
    own = [m for m in rates if m.of == "policy"]
    if not own:
        return None
    others = sorted({m.of for m in rates if m.of != "policy"})
    judges = list(dict.fromkeys(m.by for m in own))
    rows = [_row(m) for judge in judges for of in ("policy", *others) for m in rates if (m.of, m.by) == (of, judge)]
    verdicts = tuple(_verdict(m, _of(measures, WITHOUT, by=m.by), battles) for m in own)
    return Headline(verdicts, forest(rows, [EVEN], title="Preference rates with their 95 % intervals"))


def _of(measures: Sequence[Measure], name: str, *, by: str) -> Measure | None:
    return next((m for m in measures if (m.name, m.of, m.by) == (name, "policy", by)), None)


def ends(low: float | None, high: float | None) -> str:
    """An interval of shares in percent, or that there is none."""
    return f"[{100 * low:.1f}, {100 * high:.1f}]" if low is not None and high is not None else "[no interval]"


def _row(m: Measure) -> Interval:
    tone = "policy" if m.of == "policy" else "baseline"
    label = m.by if m.of == "policy" else f"{plain(m.of)}, {m.by}"
    return Interval(label, m.value, m.low, m.high, f"{percent(m.value)} {ends(m.low, m.high)}", tone)


def _verdict(m: Measure, without: Measure | None, battles: Sequence[Battle]) -> Verdict:
    interval = ends(m.low, m.high)
    reading, tone = _reading(m)
    played = rate_of(games(battles, judge=m.by), failures_as_losses=True)
    parts = [_tally(played)] if played else []
    if without is not None and (without.value, without.low, without.high) != (m.value, m.low, m.high):
        parts.append(f"with broken replies left out {percent(without.value)} {ends(without.low, without.high)}")
    sentence = f"preferred over its predecessor on {counted(m.n, 'prompt', 'prompts')}"
    return Verdict(m.by, percent(m.value), interval, sentence, reading, tone, "; ".join(parts))


def _reading(m: Measure) -> tuple[str, str]:
    if m.low is None or m.high is None:
        return "too few prompts for an interval", "open"
    if m.low > 0.5:
        return "the whole interval lies above 50 %", "good"
    if m.high < 0.5:
        return "the whole interval lies below 50 %", "bad"
    return "the interval holds 50 %: no preference is shown", "open"


def games(battles: Sequence[Battle], *, judge: str) -> list[Game]:
    """The policy's battles against its predecessor by one judge, with the policy as side `a`."""
    turned = {"a": "b", "b": "a", "tie": "tie", None: None}
    found = []
    for battle in battles:
        if battle.judge == judge and (battle.a, battle.b) == ("policy", "predecessor"):
            found.append(Game(battle.prompt_id, battle.outcome, battle.broken))
        elif battle.judge == judge and (battle.a, battle.b) == ("predecessor", "policy"):
            broken = tuple("b" if end == "a" else "a" for end in battle.broken)
            found.append(Game(battle.prompt_id, turned[battle.outcome], broken))
    return found


def _tally(rate: Rate) -> str:
    left_out = f", {number(rate.left_out)} left out" if rate.left_out else ""
    return f"{number(rate.wins)} won, {number(rate.ties)} tied, {number(rate.losses)} lost{left_out}"


# ---------------------------------------------------------------- guards and measures


@dataclass(frozen=True)
class Guard:
    metric: str
    unit: str
    policy: str
    predecessor: str
    change: str
    """In percent of the predecessor's, for shares in percentage points: what the limit is about."""
    limit: str
    decision: str


def guards(gates: Sequence[GateResult], measures: Sequence[Measure]) -> list[Guard]:
    """The guards as they are shown, the broken first; a number that was not measured is none."""
    order = {"broken": 0, "inconclusive": 1, "held": 2}
    measured = {m.name for m in measures if m.of == "policy"}
    return [_guard(gate, gate.metric in measured) for gate in sorted(gates, key=lambda gate: order[gate.decision])]


def guards_in_short(gates: Sequence[GateResult]) -> str:
    """How many guards were held and broken, in words."""
    counts = Counter(gate.decision for gate in gates)
    return ", ".join(f"{counts[word]} {word}" for word in ("broken", "inconclusive", "held") if word in counts)


def _guard(gate: GateResult, measured: bool) -> Guard:
    kind = measure(gate.metric)
    known = measured or gate.decision != "inconclusive"
    return Guard(
        metric=kind.name,
        unit=kind.unit,
        policy=kind.show(gate.value) if known else "–",
        predecessor=kind.show(gate.baseline) if gate.baseline is not None else "–",
        change=_change(gate.value, gate.baseline, points=kind.share) if known else "–",
        limit=re.sub(r"-(?=\d)", "−", gate.limit),
        decision=gate.decision,
    )


def _change(value: float, baseline: float | None, *, points: bool) -> str:
    if baseline is None or (baseline == 0 and not points):
        return "–"
    change = 100 * (value - baseline if points else value / baseline - 1)
    return f"{change:+.1f} {'points' if points else '%'}".replace("-", "−")


@dataclass(frozen=True)
class Measured:
    """A row of the table of measures: one cell a side."""

    name: str
    unit: str
    by: str
    cells: tuple[str, ...]
    n: str


_ORDER = {"policy": 0, "predecessor": 1}


def other_measures(measures: Sequence[Measure]) -> tuple[tuple[str, ...], list[Measured]]:
    """The sides, and a row for each measure that is not part of the headline."""
    shown = [m for m in measures if m.name not in (RATE, WITHOUT)]
    sides = sorted(dict.fromkeys(m.of for m in shown), key=lambda of: _ORDER.get(of, len(_ORDER)))
    rows = []
    for name, by in dict.fromkeys((m.name, m.by) for m in shown):
        of = {m.of: m for m in shown if (m.name, m.by) == (name, by)}
        kind = measure(name)
        cells = tuple(_cell(of[s]) if s in of else "–" for s in sides)
        sizes = dict.fromkeys(number(m.n) for m in of.values())
        rows.append(Measured(kind.name, kind.unit, by, cells, " / ".join(sizes)))
    return tuple(plain(s) for s in sides), rows


def _cell(m: Measure) -> str:
    kind = measure(m.name)
    if m.low is None or m.high is None:
        return kind.show(m.value)
    return f"{kind.show(m.value)} [{kind.show(m.low)}, {kind.show(m.high)}]"
