"""The preference rate of side `a` from its battles: one outcome a row, folded to the prompt."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

from dressage.maths.stats import Estimate, clustered, fold

VALUE = {"a": 1.0, "tie": 0.5, "b": 0.0}


class Game(NamedTuple):
    """What a rate needs to know of one battle."""

    prompt: Hashable
    """The cluster: the same prompt in another run or under another seed is the same cluster."""
    outcome: str | None
    """`a`, `b`, `tie`, or null where no judge decided."""
    broken: tuple[str, ...] = ()
    """The sides (`a`, `b`) whose own reply failed."""


class Rate(NamedTuple):
    """How often `a` is preferred, ties as ½; `left_out` counts the games that say nothing of that."""

    estimate: Estimate
    """n is the games that count, clusters their prompts; the ends are cut to [0, 1]."""
    wins: int
    ties: int
    losses: int
    left_out: int


def value_of(game: Game, *, failures_as_losses: bool) -> float | None:
    """1, ½ or 0 for side `a`, or null where the game is left out.

    A reply broken on one side only loses, or leaves the game out; a game broken on both sides is left out,
    and so is one that nobody decided although nothing was broken (the judge's failure is no score).
    """
    if game.broken:
        if not failures_as_losses or len(set(game.broken)) == 2:
            return None
        return 0.0 if game.broken[0] == "a" else 1.0
    return None if game.outcome is None else VALUE[game.outcome]


def rate_of(games: Iterable[Game], *, failures_as_losses: bool, level: float = 0.95) -> Rate | None:
    """The mean over prompts of each prompt's mean value, with prompts as clusters; null where no game counts.

    Every prompt weighs the same however many of its games count. Give games of one judge only: several
    judges are several rates. Games of several runs may be put together: the prompts stay the clusters.
    """
    played = [(game, value_of(game, failures_as_losses=failures_as_losses)) for game in games]
    counted = [(game, value) for game, value in played if value is not None]
    if not counted:
        return None
    by_prompt = fold([value for _, value in counted], [game.prompt for game, _ in counted])
    estimate = clustered(list(by_prompt.values()), list(by_prompt), level=level)
    low, high = (None if end is None else min(max(end, 0.0), 1.0) for end in (estimate.low, estimate.high))
    values = [value for _, value in counted]
    return Rate(
        estimate._replace(low=low, high=high, n=len(values)),
        wins=values.count(1.0),
        ties=values.count(0.5),
        losses=values.count(0.0),
        left_out=len(played) - len(values),
    )


def rate_without_ties(games: Iterable[Game], *, failures_as_losses: bool, level: float = 0.95) -> Rate | None:
    """The same over the games that one side won; ties join what is left out. Published rates differ in this."""
    every = list(games)
    decided = [game for game in every if value_of(game, failures_as_losses=failures_as_losses) != 0.5]
    found = rate_of(decided, failures_as_losses=failures_as_losses, level=level)
    return found and found._replace(left_out=found.left_out + len(every) - len(decided))


def rates_by_tag(
    games: Iterable[Game], tags: Mapping[Hashable, Sequence[str]], *, failures_as_losses: bool, level: float = 0.95
) -> dict[str, Rate | None]:
    """The rate on the prompts of each tag, by name; a prompt with several tags counts under each of them.

    Raises:
        KeyError: for a prompt that `tags` does not have; one without tags has an empty list there.
    """
    under: dict[str, list[Game]] = {}
    for game in games:
        for tag in dict.fromkeys(tags[game.prompt]):
            under.setdefault(tag, []).append(game)
    return {tag: rate_of(under[tag], failures_as_losses=failures_as_losses, level=level) for tag in sorted(under)}
