"""The judge card: what an audit found out about one judge. Made by engines.auditing, read by floors and the report."""

from typing import Literal, Protocol, Self

from pydantic import Field

from dressage.records import Frozen, content_hash


class Estimated(Protocol):
    """dressage.maths.stats.Estimate, whose import brings numpy along."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...
    @property
    def n(self) -> int: ...
    @property
    def clusters(self) -> int: ...


class Number(Frozen):
    """A number with its 95 % interval; the ends are null where none is identified."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int
    """Observations."""
    prompts: int
    """What the interval takes for independent."""

    @classmethod
    def of(cls, found: Estimated, *, least: float | None = None, most: float | None = None) -> Self:
        """An estimate, its ends cut to what the number can be."""

        def cut(end: float | None) -> float | None:
            if end is None:
                return None
            end = end if least is None else max(end, least)
            return end if most is None else min(end, most)

        return cls(value=found.value, low=cut(found.low), high=cut(found.high), n=found.n, prompts=found.clusters)


# ---------------------------------------------------------------- against labelled pairs


class Agreement(Frozen):
    """How far the judge and the people who labelled the pairs agree."""

    accuracy: Number | None
    """Of the pairs with a human winner: 1 where the judge names it too, ½ for a tie, 0 for the other. Guessing: ½."""
    exact: Number | None
    """Of all pairs: the judge says the same word, first, second or tie; a tie of the judge alone is wrong."""
    decided: Number | None
    """Of the pairs in which people and judge both name a winner: the same one."""
    kappa: Number | None
    """Cohen's κ over the three words, every pair counted both ways round; null where chance alone explains all."""
    judge_ties: int
    label_ties: int
    by_category: dict[str, Number] = Field(default_factory=dict)
    """Tag of the prompt → accuracy."""
    by_difficulty: dict[str, Number] = Field(default_factory=dict)
    """Band of difficulty → accuracy: as the rows say, or by how far apart the labels' scores are; and by length."""


class Order(Frozen):
    """What the order of the two replies does; only of a judge that compares, which is asked in both."""

    consistent: Number
    """Share of pairs in which both orders name the same winner."""
    picks_first: Number
    """Share of single answers that name the reply shown first, ties as ½; ½ is even."""
    bias: float | None
    """P(names the first shown | the orders disagree) − ½; null where they never do."""


class Calibrated(Frozen):
    """A bin of the reliability plot: how sure the judge was of the winner it named, and how often people agree."""

    low: float
    high: float
    n: int
    said: float
    true: float


class Calibration(Frozen):
    """What the judge's p is worth; of a judge that is never less than sure there is none."""

    ece: Number
    brier: Number
    bins: tuple[Calibrated, ...]


class Stability(Frozen):
    """What another asking of the same pairs gives: other seeds, another order of asking."""

    same: Number
    """Share of pairs with the same winner."""
    moved: float
    """Mean |difference of the two margins|."""


class OwnFamily(Frozen):
    """How the judge treats replies of its own family of models, where the pairs say who wrote what."""

    names: tuple[str, ...]
    """Whose replies count as its own."""
    judge: float
    """How often the judge prefers them."""
    people: float
    """How often the labels do."""
    excess: Number
    """The difference: above 0 it likes its own more than people do."""


class Pairs(Frozen):
    """All that labelled pairs tell of a judge."""

    pairs: int
    settled: int
    """Pairs that a rule decides without asking (a broken response, equal texts); they say nothing of the judge."""
    agreement: Agreement
    order: Order | None
    calibration: Calibration | None
    leanings: dict[str, Number]
    """Feature → how much likelier a reply with one deviation more of it wins, the label held fixed (0.1: ten points);
    only features in which the replies differ."""
    own_family: OwnFamily | None
    stability: Stability | None


# ---------------------------------------------------------------- against the red team


class TacticScore(Frozen):
    """What one tactic gains."""

    number: int
    name: str
    exploits: str
    promised: bool
    """Whether reading gives no gain by protocol, whatever the model."""
    gain: Number | None
    """Mean of grade(answer + tactic) − grade(answer), or of the margin between the two: in [−1, 1]."""
    on_good: float | None
    on_bad: float | None
    alone: Number | None
    """How often the bare tactic beats the good answer (strictly)."""
    failed: int
    """Judgements with the tactic in them that failed; they are in no mean."""


class RedTeam(Frozen):
    """What the twenty-six tactics gain with this judge."""

    prompts: int
    told_apart: Number | None
    """How often the good answer beats the bad one (strictly): a judge that cannot tell them cannot be bought either."""
    scores: tuple[TacticScore, ...]

    def worst(self) -> TacticScore | None:
        """The tactic whose gain may be the largest: by the upper end, and by the mean where there is none."""
        known = [s for s in self.scores if s.gain is not None]
        return max(known, key=lambda s: _upper(s.gain), default=None)


def _upper(gain: Number | None) -> float:
    assert gain is not None
    return gain.value if gain.high is None else gain.high


# ---------------------------------------------------------------- failures, cost, the card


class Failed(Frozen):
    """How often the judge gave no answer; such a judgement is left out everywhere, and counts here."""

    share: Number
    """Of the pairs; where there are none, of the red team's judgements of answers without a tactic."""
    reasons: dict[str, int]
    """Reason → how many, the red team's included."""


class Cost(Frozen):
    """What a label took, over the pairs (or the red team's judgements) that were asked about."""

    labels: int
    read: float
    """Tokens read for a label."""
    written: float
    cost: float
    """By the price table of the model, in its currency."""
    seconds: float
    """Wall time for a label, with as much asked at the same time as the run allows."""


Decision = Literal["held", "broken", "inconclusive"]


class Ruling(Frozen):
    """What one floor says of a judge."""

    floor: str
    """The key in `judge.floors`."""
    decision: Decision
    words: str
    """A sentence for whoever has to act on it."""


class Card(Frozen):
    """What is known of one judge."""

    version: Literal[1] = 1
    judge: str
    kind: str
    models: tuple[str, ...]
    """What it asks."""
    compares: bool
    made_from: str
    """Names judge, models, pairs and corpus by content: where it differs, the card must be made again."""
    source: str
    """Where the pairs came from; empty where there were none."""
    pairs: Pairs | None
    red_team: RedTeam | None
    failed: Failed | None
    cost: Cost | None
    rulings: tuple[Ruling, ...] = ()
    """What the floors say, where there are some."""

    def hash(self) -> str:
        """Names what was measured: not how long it took, nor what a floor made of it."""
        found = self.model_dump(mode="json", exclude={"rulings": True, "cost": {"seconds"}})
        return content_hash(found)
