"""Pairs laid out as a batch."""

from collections.abc import Sequence

from dressage.trainers._forks import Batch, Layout, laid_out
from dressage.trainers._pairs import PairTokens


def collate(pairs: Sequence[PairTokens], indices: Sequence[int], *, layout: Layout) -> Batch:
    """Lays the pairs out; replies are numbered 2·pair for the chosen one, 2·pair + 1 for the rejected."""
    return laid_out([pairs[i].fork for i in indices], layout=layout)
