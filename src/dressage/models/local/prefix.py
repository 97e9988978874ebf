"""Computes what several token sequences have in common once: a tree of shared beginnings.

Four candidates of one prompt, five criteria on one candidate, or a system message before every prompt begin
with the same tokens, hence the same keys and values; each stretch of the tree is computed once, and its
children start from it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dressage.models.local.cache import KeyValues, RowCache, extend

_LEAST = 16
"""Sharing fewer tokens costs more in extra passes than it saves."""


@dataclass
class Stretch:
    """Tokens that at least two sequences share, after those of `parent`."""

    tokens: list[int]
    start: int
    parent: "Stretch | None"
    depth: int
    key_values: KeyValues = field(default_factory=list)

    def path(self) -> list[KeyValues]:
        """The keys and values from the first token to the end of this stretch."""
        return [*(self.parent.path() if self.parent else []), self.key_values]

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)


@dataclass
class Rest:
    """What is a sequence's own: `tokens` after the shared stretch `after`."""

    index: int
    tokens: list[int]
    after: Stretch | None

    @property
    def start(self) -> int:
        return self.after.end if self.after else 0


@dataclass(frozen=True)
class Limits:
    """Bounds on what is computed at once."""

    tokens: int
    """New tokens in one pass, padding included."""
    columns: int
    """Rows times columns of keys and values held at once."""
    logits: int
    """Logits held at once: rows times columns kept times vocabulary."""


def runs(sequences: Sequence[Sequence[int]], limits: Limits) -> Iterator[list[int]]:
    """Indices in an order that puts common beginnings side by side, cut into runs that fit in memory."""
    run: list[int] = []
    held = 0
    for index in sorted(range(len(sequences)), key=lambda i: list(sequences[i])):
        if run and held + len(sequences[index]) > limits.columns:
            yield run
            run, held = [], 0
        run.append(index)
        held += len(sequences[index])
    if run:
        yield run


def tree(sequences: Sequence[Sequence[int]], tails: Sequence[int]) -> tuple[list[Stretch], list[Rest]]:
    """The stretches that sequences share, parents first, and the rest of each.

    Args:
        tails: How many last tokens of each sequence must stay in its rest (at least one).
    """
    stretches: list[Stretch] = []
    rests: list[Rest] = []

    def branch(members: list[int], after: Stretch | None) -> None:
        start = after.end if after else 0
        if len(members) == 1:
            rests.append(Rest(members[0], list(sequences[members[0]][start:]), after))
            return
        # Sorted, so what the first and the last have in common, all have.
        common = _common(sequences[members[0]], sequences[members[-1]])
        end = min(common, *(len(sequences[i]) - tails[i] for i in members))
        if end - start >= _LEAST:
            tokens = list(sequences[members[0]][start:end])
            after = Stretch(tokens, start, after, after.depth + 1 if after else 0)
            stretches.append(after)
        parts: dict[int | None, list[int]] = {}
        for i in members:
            parts.setdefault(sequences[i][common] if len(sequences[i]) > common else None, []).append(i)
        for key, part in parts.items():
            if key is None:  # those that end here are equal
                for i in part:
                    branch([i], after)
            else:
                branch(part, after)

    branch(sorted(range(len(sequences)), key=lambda i: list(sequences[i])), None)
    return stretches, rests


def compute(module: Any, stretches: Sequence[Stretch], limits: Limits) -> None:
    """Fills in the keys and values of the stretches, one depth after the other, many at a time."""
    for depth in range(max((s.depth for s in stretches), default=-1) + 1):
        level = [s for s in stretches if s.depth == depth]
        for batch in batches([(s.start, len(s.tokens)) for s in level], limits):
            members = [level[i] for i in batch]
            cache = loaded(module, [m.parent for m in members])
            extend(module, cache, [m.tokens for m in members], keep=1)
            for row, member in enumerate(members):
                member.key_values = cache.read(row, member.start)


def loaded(module: Any, afters: Sequence[Stretch | None]) -> RowCache:
    """A cache whose row i holds everything up to the end of `afters[i]`."""
    cache = RowCache(module.config.get_text_config().num_hidden_layers, len(afters))
    for row, after in enumerate(afters):
        if after:
            cache.load(row, after.path())
    return cache


def batches(sizes: Sequence[tuple[int, int]], limits: Limits, *, most: int | None = None) -> Iterator[list[int]]:
    """Indices of (past, new) sizes, the longest first, cut so that each batch is within the limits."""
    batch: list[int] = []
    new = width = 0
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i][1], -sizes[i][0])):
        wider = max(width, sum(sizes[index]))
        longer = max(new, sizes[index][1])
        rows = len(batch) + 1
        full = rows * longer > limits.tokens or rows * wider > limits.columns or (most and rows > most)
        if batch and full:
            yield batch
            batch, wider, longer = [], sum(sizes[index]), sizes[index][1]
        batch.append(index)
        new, width = longer, wider
    if batch:
        yield batch


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    shorter = min(len(first), len(second))
    return next((i for i in range(shorter) if first[i] != second[i]), shorter)
