"""From verdicts on labelled pairs to what they tell of a judge: agreement, order, calibration, leanings, stability.

A pair has no right way round. Verdicts speak of (preferred by people, other); whatever would change if the two were
named the other way round is counted both ways.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from dressage.cards import Agreement, Calibrated, Calibration, Number, Order, OwnFamily, Pairs, Stability
from dressage.engines.auditing.pairs import Asked, Judged
from dressage.maths.agreement import brier, calibration_error, cohen_kappa, reliability
from dressage.maths.leanings import leaning, relative_difference
from dressage.maths.stats import clustered
from dressage.maths.text import style_features
from dressage.records import Winner

FEATURES = {
    "characters": "length",
    "list_items": "list items",
    "headers": "headings",
    "bold": "bold words",
    "emoji": "emoji",
    "exclamation_marks": "exclamation marks",
}
"""What judges are known to like for its own sake (see maths.text), and what a card calls it."""
TURNED: Mapping[Winner, Winner] = {"first": "second", "second": "first", "tie": "tie"}


def told(asked: Asked, again: Asked | None, *, own: Sequence[str]) -> Pairs:
    """The part of a card that comes from labelled pairs; `own`: the names of the judge's models."""
    judged = asked.judged
    return Pairs(
        pairs=asked.asked + asked.settled,
        settled=asked.settled,
        agreement=agreement(judged),
        order=order(judged),
        calibration=calibration(judged),
        leanings=leanings(judged),
        own_family=own_family(judged, own),
        stability=stability(judged, again.judged) if again else None,
    )


def mean(values: Iterable[tuple[float, str]]) -> Number | None:
    """The mean of shares (value, prompt) with prompts as clusters; null where there is none."""
    rows = list(values)
    if not rows:
        return None
    return Number.of(clustered([v for v, _ in rows], [prompt for _, prompt in rows]), least=0.0, most=1.0)


# ---------------------------------------------------------------- agreement


def agreement(judged: Sequence[Judged]) -> Agreement:
    untied = [j for j in judged if not j.pair.tied]
    says = [(_label(j), j.verdict.winner, j.pair.prompt.id) for j in judged]
    both = [*says, *((TURNED[label], TURNED[word], prompt) for label, word, prompt in says)]
    kappa = cohen_kappa(*map(list, zip(*both, strict=True))) if both else None
    return Agreement(
        accuracy=_accuracy(judged),
        exact=mean((float(label == word), prompt) for label, word, prompt in says),
        decided=mean((j.choice, j.pair.prompt.id) for j in untied if j.verdict.winner != "tie"),
        kappa=Number.of(kappa) if kappa else None,
        judge_ties=sum(j.verdict.winner == "tie" for j in judged),
        label_ties=len(judged) - len(untied),
        by_category=_by(judged, lambda j: j.pair.prompt.tags),
        by_difficulty=_by(judged, _bands(judged)),
    )


def _label(judged: Judged) -> Winner:
    return "tie" if judged.pair.tied else "first"


def _accuracy(judged: Iterable[Judged]) -> Number | None:
    return mean((j.choice, j.pair.prompt.id) for j in judged if not j.pair.tied)


def _by(judged: Sequence[Judged], groups: Callable[[Judged], Iterable[str]]) -> dict[str, Number]:
    """Group → accuracy, groups in the order of their names; a pair may be in several."""
    of: dict[str, list[Judged]] = {}
    for one in judged:
        for group in groups(one):
            of.setdefault(group, []).append(one)
    found = {group: _accuracy(of[group]) for group in sorted(of)}
    return {group: number for group, number in found.items() if number}


def _bands(judged: Sequence[Judged]) -> Callable[[Judged], list[str]]:
    """Names the bands of difficulty of a pair.

    As the rows' column `difficulty` says; else by thirds of the labels' margins, where these differ. And, as length is
    what a weak judge goes by: whether the preferred reply is the longer one.
    """
    margins = sorted(j.pair.margin for j in judged if not j.pair.tied)
    low, high = (margins[len(margins) // 3], margins[2 * len(margins) // 3]) if margins else (0.0, 0.0)

    def bands(one: Judged) -> list[str]:
        own, lengths = one.pair.prompt.extra.get("difficulty"), (len(one.pair.preferred.text), len(one.pair.other.text))
        named = [f"said to be {own}"] if isinstance(own, str | int | float) else []
        if not named and low < high:
            at = one.pair.margin
            named = ["labels close"] if at < low else ["labels far apart"] if at >= high else ["labels between"]
        if lengths[0] != lengths[1]:
            named.append("preferred is longer" if lengths[0] > lengths[1] else "preferred is shorter")
        return named

    return bands


# ---------------------------------------------------------------- order, calibration, leanings


def order(judged: Sequence[Judged]) -> Order | None:
    """What being shown first does; null for a judge that grades each reply by itself."""
    both = [j for j in judged if len(j.verdict.votes) == 2]
    consistent = mean((float(j.verdict.consistent), j.pair.prompt.id) for j in both)
    first = mean((value, j.pair.prompt.id) for j in both for value in _picks_first(j))
    if consistent is None or first is None:
        return None
    apart = [value for j in both if not j.verdict.consistent for value in _picks_first(j)]
    bias = sum(apart) / len(apart) - 0.5 if apart else None
    return Order(consistent=consistent, picks_first=first, bias=bias)


def _picks_first(judged: Judged) -> list[float]:
    """Of each vote: 1 where it names the reply that was shown first, ½ for a tie."""
    towards = [v.margin if v.shown == "as given" else -v.margin for v in judged.verdict.votes]
    return [0.5 if margin == 0 else float(margin > 0) for margin in towards]


def calibration(judged: Sequence[Judged]) -> Calibration | None:
    """What the judge's p is worth, p = (1 + margin)/2; null where it is never anything but sure or undecided."""
    untied = [j for j in judged if not j.pair.tied]
    if all(abs(j.verdict.margin) in (0.0, 1.0) for j in untied):
        return None
    clusters = [j.pair.prompt.id for j in untied]
    p = [j.verdict.p for j in untied]
    sure, right = [max(v, 1 - v) for v in p], [j.choice for j in untied]
    bins = tuple(
        Calibrated(low=max(b.low, 0.5), high=b.high, n=b.n, said=b.p, true=b.y) for b in reliability(sure, right)
    )
    return Calibration(
        ece=Number.of(calibration_error(sure, right, clusters), least=0.0, most=1.0),
        brier=Number.of(brier(p, [1.0] * len(p), clusters), least=0.0, most=1.0),
        bins=bins,
    )


def leanings(judged: Sequence[Judged]) -> dict[str, Number]:
    """Feature → its slope with the label held fixed; features in which no two replies differ are left out."""
    if not judged:
        return {}
    styles = [(style_features(j.pair.preferred.text), style_features(j.pair.other.text)) for j in judged]
    choice, label = [j.choice - 0.5 for j in judged], [0.0 if j.pair.tied else 0.5 for j in judged]
    clusters = [j.pair.prompt.id for j in judged]
    found = {}
    for feature, name in FEATURES.items():
        apart = [relative_difference(a[feature], b[feature]) for a, b in styles]
        if slope := leaning(choice, label, apart, clusters):
            found[name] = Number.of(slope)
    return found


# ---------------------------------------------------------------- its own family, another asking


def own_family(judged: Sequence[Judged], own: Sequence[str]) -> OwnFamily | None:
    """Of the pairs with one reply of the judge's own family: how often it wins, by the judge and by people."""
    mine = frozenset(filter(None, map(family, own)))
    rows, names = [], set[str]()
    for one in judged:
        is_own = [writer is not None and family(writer) in mine for writer in one.pair.writers]
        if is_own[0] == is_own[1]:
            continue
        people = 0.5 if one.pair.tied else float(is_own[0])
        rows.append((one.choice if is_own[0] else 1 - one.choice, people, one.pair.prompt.id))
        names.add(str(one.pair.writers[0 if is_own[0] else 1]))
    if not rows:
        return None
    excess = clustered([j - p for j, p, _ in rows], [prompt for *_, prompt in rows])
    return OwnFamily(
        names=tuple(sorted(names)),
        judge=sum(j for j, *_ in rows) / len(rows),
        people=sum(p for _, p, _ in rows) / len(rows),
        excess=Number.of(excess, least=-1.0, most=1.0),
    )


NOT_A_FAMILY = frozenset({"meta", "instruct", "chat", "base", "mini", "model", "hf", "the"})


def family(name: str) -> str:
    """`smollm` of HuggingFaceTB/SmolLM2-135M-Instruct, `gpt` of gpt-4o-mini: the first word of a model's own name."""
    words = re.findall(r"[a-z]{2,}", name.rstrip("/").rpartition("/")[2].lower())
    return next((word for word in words if word not in NOT_A_FAMILY), "")


def stability(judged: Sequence[Judged], again: Sequence[Judged]) -> Stability | None:
    """How far two askings of the same pairs agree."""
    later = {j.pair.id: j.verdict for j in again}
    twice = [(j.verdict, later[j.pair.id], j.pair.prompt.id) for j in judged if j.pair.id in later]
    same = mean((float(one.winner == other.winner), prompt) for one, other, prompt in twice)
    if same is None:
        return None
    return Stability(same=same, moved=sum(abs(one.margin - other.margin) for one, other, _ in twice) / len(twice))
