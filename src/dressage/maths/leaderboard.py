"""The rows of a leaderboard, and in words what its battles cannot say."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from dressage.maths.win_graph import Place

Standing = Literal["anchor", "rated", "regularised", "not identified"]
Kind = Literal["elsewhere", "one-sided", "apart", "few prompts", "unvarying", "style"]


class Rating(NamedTuple):
    """A row of the leaderboard, in Elo points; an end that is null is open or unknown, and a statement says which."""

    model: str
    rating: float | None
    low: float | None
    high: float | None
    games: int
    prompts: int
    standing: Standing


class StyleEffect(NamedTuple):
    """Elo points of one deviation more of a relative difference; null where the sides never differ in it."""

    name: str
    elo: float | None
    low: float | None
    high: float | None
    deviation: float
    learned: bool
    """False where the ridge says more of it than the battles do."""


class Statement(NamedTuple):
    """Something the battles cannot say."""

    kind: Kind
    models: tuple[str, ...]
    text: str


class Ratings(NamedTuple):
    """Best first; who has no rating comes last, by name."""

    anchor: str
    level: float
    rows: tuple[Rating, ...]
    statements: tuple[Statement, ...]
    style: tuple[StyleEffect, ...]

    def of(self, model: str) -> Rating:
        """The row of a model that played; KeyError for one that did not."""
        for row in self.rows:
            if row.model == model:
                return row
        raise KeyError(model)


def statements(
    rows: Sequence[Rating], where: Mapping[str, Place], groups: Mapping[str, int], *, anchor: str
) -> Iterator[Statement]:
    """What must be said of the models: `where` each stands to the anchor, `groups` with paths both ways by number."""
    away = tuple(sorted(r.model for r in rows if where[r.model] == "elsewhere"))
    if away:
        yield Statement("elsewhere", away, f"{listed(away)}: no chain of battles leads to {anchor}; not identified")
    for place in ("above", "below", "apart"):
        of_place = sorted(r.model for r in rows if where[r.model] == place)
        for group in dict.fromkeys(groups[model] for model in of_place):
            members = tuple(m for m in of_place if groups[m] == group)
            yield _one_sided(members, place, anchor)
    on = next(r.prompts for r in rows if r.model == anchor)
    for row in rows:
        if row.low is None and where[row.model] == "level":
            yield _without_interval(row.model, min(on, row.prompts), anchor)


def _one_sided(members: tuple[str, ...], place: str, anchor: str) -> Statement:
    assumed = "the rating assumes half a win and half a loss more for every pair that met"
    names = listed(members)
    if place == "apart":
        text = f"{names}: neither ahead of nor behind {anchor}, for want of battles that lead there and back; {assumed}"
        return Statement("apart", members, text)
    never, end = ("lost to", "upper") if place == "above" else ("won against", "lower")
    text = f"{names}: never {never} {anchor} or those between them, so there is no {end} end; {assumed}"
    return Statement("one-sided", members, text)


def _without_interval(model: str, prompts: int, anchor: str) -> Statement:
    if prompts < 2:
        text = f"{model}: it or {anchor} played on one prompt only, so there is no interval"
        return Statement("few prompts", (model,), text)
    text = f"{model}: what it got does not vary from prompt to prompt, so there is no interval"
    return Statement("unvarying", (model,), text)


def style_statements(effects: Sequence[StyleEffect]) -> Iterator[Statement]:
    """Which counts of style say nothing, or cannot be told from strength."""
    alike = tuple(e.name for e in effects if e.elo is None)
    if alike:
        yield Statement("style", (), f"{listed(alike)}: alike on both sides of every battle, so nothing to control for")
    bound = tuple(e.name for e in effects if e.elo is not None and not e.learned)
    if bound:
        text = f"{listed(bound)}: differs so evenly between the models that it cannot be told from their strength"
        yield Statement("style", (), text)


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
