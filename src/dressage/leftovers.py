"""What a stage left and what it left out, in a line each for people: nothing is dropped without a word."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from dressage.store import Shard

WORDS = {
    "prompts_doubled": "doubled prompt",
    "prompts_too_long": "prompt too long for the context",
    "prompts_over_cap": "prompt over data.at_most",
    "rows_unreadable": "unreadable row",
    "rows_doubled": "doubled row",
    "rows_held_out": "row that is held out (dev, test)",
    "rows_unfit": "row too long for the context",
    "watch_failures": "failure of the watch judge",
}
"""Facts that count what was left out."""
STARTS = {
    "left_out: ": "",
    "failures of ": "failure of ",
    "failed draws: ": "failed draw: ",
    "undecided by ": "undecided by ",
}
"""How such a fact's name may begin otherwise, and what one of what it counts is called."""


def left_out(facts: Mapping[str, object]) -> str | None:
    """`3 × doubled prompt, 12 × ties`, or null where all was used."""
    return ", ".join(_told(facts)) or None


def rows_left(shards: Iterable[Shard]) -> str:
    """`20 prompts, 66 candidates`, over all shards."""
    total: Counter[str] = Counter()
    for shard in shards:
        total.update(shard.rows)
    return ", ".join(counted_rows(table, n) for table, n in total.items())


def counted_rows(table: str, n: int) -> str:
    """`1 checkpoint`, `1,200 candidates`."""
    return f"{n:,} {table.removesuffix('s') if n == 1 else table}"


def _told(facts: Mapping[str, object]) -> Iterator[str]:
    for name, n in facts.items():
        if isinstance(n, int) and n and (name in WORDS or name.startswith(tuple(STARTS))):
            yield f"{n:,} × {_one(name)}"


def _one(name: str) -> str:
    """A fact that counts, as one of what it counts."""
    if name in WORDS:
        return WORDS[name]
    start = next(start for start in STARTS if name.startswith(start))
    return STARTS[start] + name.removeprefix(start)
