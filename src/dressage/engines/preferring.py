"""From labels to what can be learnt: standings of candidates, and preferences between them."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from dressage.engines.judging import Labels, winner_of
from dressage.records import Grade, Preference, Verdict


def standings(labels: Labels) -> dict[str, float]:
    """Candidate id → grade, or, for a comparing judge, the mean margin over the verdicts it stood in."""
    if not labels.verdicts:
        return {g.candidate_id: g.score for g in labels.grades}
    margins: dict[str, list[float]] = {}
    for verdict in labels.verdicts:
        margins.setdefault(verdict.first, []).append(verdict.margin)
        margins.setdefault(verdict.second, []).append(-verdict.margin)
    return {candidate: sum(found) / len(found) for candidate, found in margins.items()}


def preferences(labels: Labels, *, pairing: str, min_margin: float) -> tuple[list[Preference], dict[str, int]]:
    """Pairs to learn from, and how many were left out and why (ties, small margins, disagreeing orders)."""
    verdicts = labels.verdicts or list(_implied(labels.grades))
    if pairing == "best_worst":
        verdicts = list(_extremes(verdicts, standings(labels)))
    made: list[Preference] = []
    left_out = {"ties": 0, "orders disagree": 0, "margin too small": 0}
    for verdict in verdicts:
        if not verdict.consistent:
            left_out["orders disagree"] += 1
        elif verdict.winner == "tie":
            left_out["ties"] += 1
        elif abs(verdict.margin) <= min_margin:
            left_out["margin too small"] += 1
        else:
            made.append(_preference(verdict))
    return made, left_out


def _preference(verdict: Verdict) -> Preference:
    won = verdict if verdict.winner == "first" else verdict.swapped()
    votes = max(1, len(won.votes))
    agreed = sum(v.margin > 0 for v in won.votes) if won.votes else 1
    return Preference(
        prompt_id=won.prompt_id,
        chosen=won.first,
        rejected=won.second,
        margin=min(1.0, won.margin),
        votes=votes,
        agreed=agreed,
    )


def _implied(grades: Sequence[Grade]) -> Iterator[Verdict]:
    """The verdicts that grades imply, so that one rule makes preferences of both."""
    grouped: dict[str, list[Grade]] = {}
    for g in grades:
        grouped.setdefault(g.prompt_id, []).append(g)
    for group in grouped.values():
        for a, b in combinations(group, 2):
            margin = a.score - b.score
            yield Verdict(
                prompt_id=a.prompt_id,
                first=a.candidate_id,
                second=b.candidate_id,
                judge=a.judge,
                winner=winner_of(margin, 0.0),
                margin=margin,
            )


def _extremes(verdicts: Sequence[Verdict], standing: Mapping[str, float]) -> Iterator[Verdict]:
    """For each prompt the verdict between its best and its worst candidate; ids break equal standings."""
    grouped: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        grouped.setdefault(verdict.prompt_id, []).append(verdict)
    for group in grouped.values():
        ids = sorted({i for v in group for i in (v.first, v.second)}, key=lambda i: (standing.get(i, 0.0), i))
        worst, best = ids[0], ids[-1]
        yield from (v for v in group if {v.first, v.second} == {worst, best})
