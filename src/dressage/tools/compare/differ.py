"""The shortest edit between two sequences of words: Myers' greedy algorithm (Algorithmica 1, 1986), with a bound.

x, y   how many words of the first and of the second are behind us       k = x − y, the diagonal
d      words taken out or put in so far
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

MOST_EDITS = 600
"""More than this and the texts are too different to be laid side by side; time and memory grow with its square."""


class Change(NamedTuple):
    """`first[a:b]` was replaced by `second[c:d]`; one of the two may be empty."""

    a: int
    b: int
    c: int
    d: int


def changes(
    first: Sequence[str], second: Sequence[str], *, most: int = MOST_EDITS, check: Callable[[], None] = lambda: None
) -> list[Change] | None:
    """What to replace, in order; null where it takes more than `most` words. `check` may stop it by raising."""
    start = 0
    while start < min(len(first), len(second)) and first[start] == second[start]:
        start += 1
    end = 0
    while end < min(len(first), len(second)) - start and first[-1 - end] == second[-1 - end]:
        end += 1
    steps = _steps(first[start : len(first) - end], second[start : len(second) - end], most, check)
    return None if steps is None else _grouped([(x + start, y + start, put_in) for x, y, put_in in steps])


def _steps(
    first: Sequence[str], second: Sequence[str], most: int, check: Callable[[], None]
) -> list[tuple[int, int, bool]] | None:
    """Single edits in order: at (x, y), the word second[y] is put in, or the word first[x] taken out."""
    n, m = len(first), len(second)
    far = [0] * (2 * most + 3)  # far[k + most + 1] is the furthest x on diagonal k
    trail: list[list[int]] = []
    for d in range(min(most, n + m) + 1):
        check()
        trail.append(far[most - d + 1 : most + d + 2])
        for k in range(-d, d + 1, 2):
            at = k + most + 1
            down = k == -d or (k != d and far[at - 1] < far[at + 1])
            x = far[at + 1] if down else far[at - 1] + 1
            while x < n and x - k < m and first[x] == second[x - k]:
                x += 1
            far[at] = x
            if x >= n and x - k >= m:
                return _back(trail, n, m)
    return None


def _back(trail: list[list[int]], n: int, m: int) -> list[tuple[int, int, bool]]:
    """The way back from the end: `trail[d]` is the furthest x on the diagonals −d … d before edit d."""
    steps, x, y = [], n, m
    for d in range(len(trail) - 1, 0, -1):
        k, far = x - y, trail[d]
        down = k == -d or (k != d and far[k - 1 + d] < far[k + 1 + d])
        before = k + 1 if down else k - 1
        x = far[before + d]
        y = x - before
        steps.append((x, y, down))
    return steps[::-1]


def _grouped(steps: list[tuple[int, int, bool]]) -> list[Change]:
    """Edits that touch one another as one change."""
    found: list[Change] = []
    for x, y, put_in in steps:
        step = Change(x, x, y, y + 1) if put_in else Change(x, x + 1, y, y)
        if found and found[-1].b == step.a and found[-1].d == step.c:
            found[-1] = Change(found[-1].a, step.b, found[-1].c, step.d)
        else:
            found.append(step)
    return found
