"""From battles and replies to measures and guards: pure functions over the rows of an evaluation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from dressage.maths.rates import Game, rate_of
from dressage.maths.stats import Estimate, clustered
from dressage.maths.text import commonest_opener, distinct_n
from dressage.records import Battle, Candidate, GateResult, Grade, Measure, Trace
from dressage.settings import Guards
from dressage.tokens import without_thinking

SIDES = ("policy", "predecessor")
TOKENS, CHARACTERS = "reply_tokens", "reply_chars"


@dataclass(frozen=True)
class Rows:
    """Everything an evaluation wrote down."""

    candidates: tuple[Candidate, ...]
    battles: tuple[Battle, ...]
    traces: tuple[Trace, ...]
    grades: tuple[Grade, ...]

    def replies(self, side: str) -> list[Candidate]:
        """The replies a side brought to its battles, each once."""
        ids = [b.candidate_a if b.a == side else b.candidate_b for b in self.battles if side in (b.a, b.b)]
        known = {c.id: c for c in self.candidates}
        return [known[i] for i in dict.fromkeys(ids)]


def measured(rows: Rows, *, judges: Sequence[str], train_judge: str | None) -> list[Measure]:
    """Preference rates by each judge, then what both sides' replies look like."""
    measures = [m for judge in judges for m in _rates(rows, judge)]
    counted = all(c.token_ids for side in SIDES for c in rows.replies(side))
    for side in SIDES:
        measures += _lengths(rows, side, name=TOKENS if counted else CHARACTERS)
        measures += _looks(rows, side)
        measures += _scores(rows, side, train_judge)
    return measures


def _measure(name: str, of: str, found: Estimate, *, by: str = "") -> Measure:
    return Measure(name=name, of=of, by=by, value=found.value, low=found.low, high=found.high, n=found.clusters)


def within(found: Estimate) -> Estimate:
    """A mean of numbers in [0, 1] lies there, and so do the ends of its interval."""
    low, high = (None if end is None else min(max(end, 0.0), 1.0) for end in (found.low, found.high))
    return found._replace(low=low, high=high)


def _rates(rows: Rows, judge: str) -> Iterator[Measure]:
    for side in dict.fromkeys(b.a for b in rows.battles):
        games = [Game(b.prompt_id, b.outcome, b.broken) for b in rows.battles if b.judge == judge and b.a == side]
        for name, as_losses in (("preference_rate", True), ("preference_rate_without_failures", False)):
            if rate := rate_of(games, failures_as_losses=as_losses):
                yield _measure(name, side, rate.estimate, by=judge)


def _lengths(rows: Rows, side: str, *, name: str) -> Iterator[Measure]:
    """Tokens, or characters without thinking: both sides in the same unit, so in tokens only where all have them."""
    replies = rows.replies(side)
    if replies:
        sizes = [len(c.token_ids) if name == TOKENS else len(without_thinking(c.text)) for c in replies]
        yield _measure(name, side, clustered([float(size) for size in sizes], [c.prompt_id for c in replies]))


def _looks(rows: Rows, side: str) -> Iterator[Measure]:
    """Endings, variety, openers, NLL under the base and KL; n is the number of prompts."""
    replies = rows.replies(side)
    if not replies:
        return
    prompts = [c.prompt_id for c in replies]
    texts = [without_thinking(c.text) for c in replies]
    yield _measure("eos_share", side, within(clustered([float(c.finish == "stop") for c in replies], prompts)))
    plain = Estimate(distinct_n(texts, 2), None, None, len(texts), len(set(prompts)))
    yield _measure("distinct_2", side, plain)
    opener = commonest_opener(texts, words=5)[1]
    yield _measure("opener_share", side, plain._replace(value=opener))
    yield from _under_base(rows, side, {c.id: c.prompt_id for c in replies})


def _under_base(rows: Rows, side: str, prompt_of: dict[str, str]) -> Iterator[Measure]:
    traces = [t for t in rows.traces if t.side == side and t.tokens]
    if not traces:
        return
    clusters = [prompt_of[t.candidate_id] for t in traces]
    total = sum(t.tokens for t in traces)
    mean = -sum(t.base_at_1 for t in traces) / total
    # A ratio's influence values: the mean's interval around them is the ratio's (linearisation).
    scale = total / len(traces)
    influence = [(-t.base_at_1 - mean * t.tokens) / scale + mean for t in traces]
    found = clustered(influence, clusters)
    yield _measure("nll_per_token", side, found._replace(value=mean))
    gaps = [t.own - t.base for t in traces if t.own is not None and t.base is not None]
    if len(gaps) == len(traces):
        found = clustered(gaps, clusters)
        varies = len(set(gaps)) > 1  # a policy that is the base: no share, so Wilson's interval says nothing of it
        yield _measure("kl_per_reply", side, found if varies else found._replace(low=None, high=None))


def _scores(rows: Rows, side: str, judge: str | None) -> Iterator[Measure]:
    ids = {c.id: c.prompt_id for c in rows.replies(side)}
    scores = [(g.score, ids[g.candidate_id]) for g in rows.grades if g.judge == judge and g.candidate_id in ids]
    if judge and scores:
        yield _measure("score_mean", side, within(clustered([s for s, _ in scores], [p for _, p in scores])), by=judge)


# ---------------------------------------------------------------- guards


def guarded(measures: Sequence[Measure], guards: Guards) -> list[GateResult]:
    """Each guard that is set, on the point values of both sides."""
    value = {(m.name, m.of): m.value for m in measures}
    return [g for g in _guards(value, guards) if g is not None]


def _guards(value: dict[tuple[str, str], float], guards: Guards) -> Iterator[GateResult | None]:
    def both(name: str) -> tuple[float | None, float | None]:
        return value.get((name, "policy")), value.get((name, "predecessor"))

    if (share := guards.length_within) is not None:
        length = CHARACTERS if (CHARACTERS, "policy") in value else TOKENS
        yield _ratio(length, both(length), (1 - share, 1 + share), f"between {_change(-share)} and {_change(share)}")
    if (fall := guards.eos_may_fall_by) is not None:
        yield _shift("eos_share", both("eos_share"), (-fall, 1.0), f"may fall by at most {_points(fall)}")
    if (floor := guards.distinct_2_at_least) is not None:
        limit = f"at least {100 * floor:g} % of the predecessor's"
        yield _ratio("distinct_2", both("distinct_2"), (floor, float("inf")), limit)
    if (rise := guards.opener_may_rise_by) is not None:
        yield _shift("opener_share", both("opener_share"), (-1.0, rise), f"at most {_points(rise)} more")
    if (most := guards.kl_at_most) is not None:
        kl = value.get(("kl_per_reply", "policy"))
        held = None if kl is None else kl <= most
        yield _gate("kl_per_reply", (kl, None), held, f"at most {most:g} nats")
    if (ends := guards.nll_within) is not None:
        limit = f"between {_change(ends[0])} and {_change(ends[1])}"
        yield _ratio("nll_per_token", both("nll_per_token"), (1 + ends[0], 1 + ends[1]), limit)


def _change(share: float) -> str:
    """A limit on a change relative to the predecessor's value."""
    return f"{100 * share:+g} %" if share else "0 %"


def _points(share: float) -> str:
    """A limit on a difference of two shares, in percentage points."""
    points = f"{100 * share:g}"
    return f"{points} {'point' if points == '1' else 'points'}"


Both = tuple[float | None, float | None]
ROUNDING = 1e-12


def _ratio(metric: str, both: Both, ends: tuple[float, float], limit: str) -> GateResult:
    new, old = both
    known = new is not None and old is not None and old > 0
    ratio = new / old if known and new is not None and old is not None else None
    held = None if ratio is None else ends[0] - ROUNDING <= ratio <= ends[1] + ROUNDING
    return _gate(metric, both, held, limit)


def _shift(metric: str, both: Both, ends: tuple[float, float], limit: str) -> GateResult:
    new, old = both
    held = None if new is None or old is None else ends[0] - ROUNDING <= new - old <= ends[1] + ROUNDING
    return _gate(metric, both, held, limit)


def _gate(metric: str, both: Both, held: bool | None, limit: str) -> GateResult:
    """A guard whose number is missing is inconclusive, not held."""
    decisions: dict[bool | None, Literal["held", "broken", "inconclusive"]] = {
        True: "held",
        False: "broken",
        None: "inconclusive",
    }
    value = both[0] if both[0] is not None else 0.0
    return GateResult(metric=metric, value=value, baseline=both[1], limit=limit, decision=decisions[held])
