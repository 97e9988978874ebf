"""The figures of a page: training curves, grades before and after, reply lengths, margins of the pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from dressage.records import Battle, Candidate, Grade, Preference
from dressage.report.axes import is_constant
from dressage.report.panels import Curve, Group, histogram, lines, spread
from dressage.report.reading import Round, curves
from dressage.report.wording import number, plain, trimmed

TONES = {"policy": "policy", "predecessor": "predecessor"}

TRAINING = {
    "loss": "Loss",
    "rewards/margins": "Reward margin, chosen − rejected",
    "rewards/accuracies": "Pairs told apart rightly",
    "rewards/chosen": "Reward of the chosen",
    "rewards/rejected": "Reward of the rejected",
    "objective/scores": "Mean grade of the draws",
    "watch/prefers": "How often the watch judge prefers the policy",
    "objective/kl": "KL from the reference, nats per reply",
    "policy/entropy": "Entropy, nats per token",
    "policy/loss": "Loss of the policy",
    "policy/clipfrac": "Share of tokens clipped",
    "value/loss": "Loss of the critic",
    "value/explained_variance": "Variance of the returns that the critic explains",
    "reply/tokens": "Length of the draws, tokens",
    "reply/truncated": "Share of draws cut at the limit",
    "judge/failed": "Share of draws the judge failed on",
    "objective/kl_coefficient": "Coefficient of the KL",
    "policy/grad_norm": "Gradient norm of the policy",
    "grad_norm": "Gradient norm",
    "learning_rate": "Learning rate",
}
"""Logged numbers in the order they are shown; others follow under their own names."""
SHARES = frozenset(
    {
        "rewards/accuracies",
        "objective/scores",
        "watch/prefers",
        "policy/clipfrac",
        "reply/truncated",
        "judge/failed",
    }
)
"""Those that lie in [0, 1]."""
PANELS_AT_MOST = 12
UNTOLD = ("epoch", "num_tokens", "total_flos", "seconds", "train_runtime")
UNTOLD_GROUPS = ("time/", "rate/")


@dataclass(frozen=True)
class Legend:
    tone: str
    label: str
    words: str


@dataclass(frozen=True)
class Figure:
    title: str
    chart: Markup
    legend: tuple[Legend, ...] = ()


def training(metrics: tuple[Mapping[str, Any], ...]) -> list[Figure]:
    """A panel for each number that training logged at two steps or more."""
    found = {
        key: points
        for key, points in curves(metrics).items()
        if len(points) > 1 and key not in UNTOLD and not key.startswith(UNTOLD_GROUPS)
    }
    order = [*(key for key in TRAINING if key in found), *(key for key in found if key not in TRAINING)]
    return [_curve(key, found[key]) for key in order[:PANELS_AT_MOST]]


def _curve(key: str, points: Sequence[tuple[float, float]]) -> Figure:
    name = TRAINING[key] if key in TRAINING else plain(key)
    first, last, steps = number(points[0][1]), number(points[-1][1]), number(points[-1][0])
    constant = is_constant([value for _, value in points])
    words = (
        f"{trimmed(points[-1][1])} throughout, {steps} steps" if constant else f"{first} → {last} over {steps} steps"
    )
    chart = lines([Curve(name, "policy", points)], title=f"{name}: {words}", x_label="step", share=key in SHARES)
    return Figure(name, chart, (Legend("policy", words, ""),))


# ---------------------------------------------------------------- distributions


def _distribution(title: str, groups: Sequence[Group], *, x_label: str, grades: bool = False) -> list[Figure]:
    """A histogram and its legend, or nothing where there are no values."""
    filled = [group for group in groups if group.values]
    if not filled:
        return []
    words = [(group, spread(group.values)) for group in filled]
    told = f"{title}: " + "; ".join(f"{group.label} {text}" for group, text in words)
    chart = histogram(filled, title=told, x_label=x_label, ends=(0.0, 1.0) if grades else None)
    return [Figure(title, chart, tuple(Legend(group.tone, group.label, text) for group, text in words))]


def labelling(grades: Sequence[Grade], preferences: Sequence[Preference], judge: str) -> list[Figure]:
    """The training judge's grades of all, chosen and rejected candidates, and the margins of the pairs."""
    score = {g.candidate_id: g.score for g in grades if g.judge == judge}
    groups = [
        Group("all candidates", "all", list(score.values())),
        Group("rejected", "predecessor", [score[p.rejected] for p in preferences if p.rejected in score]),
        Group("chosen", "policy", [score[p.chosen] for p in preferences if p.chosen in score]),
    ]
    margins = [Group("pairs", "policy", [p.margin for p in preferences])]
    return [
        *_distribution(f"Grades of the candidates by {judge}", groups, x_label="grade", grades=True),
        *_distribution("Margins of the pairs", margins, x_label="margin", grades=True),
    ]


def replies(evaluation: Round, battles: Sequence[Battle], candidates: Mapping[str, Candidate]) -> list[Figure]:
    """Lengths of both sides' replies, and their grades by each judge that graded them."""
    sides = sides_of(battles)
    grades = evaluation.rows("evaluate", Grade)
    figures = _lengths(sides, candidates)
    for judge in dict.fromkeys(g.judge for g in grades):
        score = {g.candidate_id: g.score for g in grades if g.judge == judge}
        groups = [Group(side, TONES[side], [score[c] for c in ids if c in score]) for side, ids in sides.items()]
        figures += _distribution(f"Grades of the replies by {judge}", groups, x_label="grade", grades=True)
    return figures


def sides_of(battles: Sequence[Battle]) -> dict[str, list[str]]:
    """The candidate ids of predecessor and policy where these two met, each once."""
    met = [b for b in battles if {b.a, b.b} == {"policy", "predecessor"}]
    ids: dict[str, dict[str, None]] = {"predecessor": {}, "policy": {}}
    for battle in met:
        ids[battle.a][battle.candidate_a] = None
        ids[battle.b][battle.candidate_b] = None
    return {side: list(found) for side, found in ids.items()}


def _lengths(sides: Mapping[str, Sequence[str]], candidates: Mapping[str, Candidate]) -> list[Figure]:
    drawn = {side: [candidates[i] for i in ids if i in candidates] for side, ids in sides.items()}
    tokens = all(c.token_ids for side in drawn.values() for c in side if c.text)
    unit = "tokens" if tokens else "characters"
    groups = [Group(s, TONES[s], [len(c.token_ids) if tokens else len(c.text) for c in of]) for s, of in drawn.items()]
    return _distribution("Reply lengths", groups, x_label=unit)
