"""Which sentences of two texts speak of the same, which say something else about it, and which stand alone."""

import re
from typing import NamedTuple

from dressage.maths.counting import content_words, sentence_texts, words
from dressage.tools._calling import Deadline
from dressage.tools.compare.mentions import names, numbers

MOST = 150
"""Sentences of each text that are looked at."""
NEGATION = re.compile(r"\b(?:no|not|never|none|neither|nor|nobody|nothing|without|cannot)\b|n['’]t\b", re.IGNORECASE)


class Contrast(NamedTuple):
    """Two sentences about the same that differ in something that can make one of them wrong."""

    first: str
    second: str
    what: tuple[str, ...]


class Claims(NamedTuple):
    """The sentences of two texts, sorted."""

    same: int
    """Pairs with the same words."""
    reworded: int
    """Pairs about the same with other words, and the same numbers, names and negations."""
    contrasts: tuple[Contrast, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    left_out: int
    """Sentences beyond the first MOST of a text, which were not looked at."""


def sorted_out(first: str, second: str, *, alike: float, deadline: Deadline) -> Claims:
    """Pairs the sentences of two texts, the most alike first; swapping the texts swaps the answer."""
    a, b = sentence_texts(first), sentence_texts(second)
    pairs = _paired(a[:MOST], b[:MOST], alike, deadline)
    same, reworded, contrasts = 0, 0, []
    for i, j in sorted(pairs):
        what = _differences(a[i], b[j])
        if what:
            contrasts.append(Contrast(a[i], b[j], what))
        elif words(a[i]) == words(b[j]):
            same += 1
        else:
            reworded += 1
    left, right = {i for i, _ in pairs}, {j for _, j in pairs}
    return Claims(
        same,
        reworded,
        tuple(contrasts),
        tuple(s for i, s in enumerate(a[:MOST]) if i not in left),
        tuple(s for j, s in enumerate(b[:MOST]) if j not in right),
        max(0, len(a) - MOST) + max(0, len(b) - MOST),
    )


def _paired(a: list[str], b: list[str], alike: float, deadline: Deadline) -> list[tuple[int, int]]:
    """Each sentence in at most one pair. Of pairs as alike, those at the same place come first: with (distance, sum of
    places) no two pairs that compete for a sentence are equal, so the texts may be swapped."""
    bags_a, bags_b = [_bag(s) for s in a], [_bag(s) for s in b]
    ranked = []
    for i, x in enumerate(bags_a):
        deadline.check()
        for j, y in enumerate(bags_b):
            shared = len(x & y) / len(x | y) if x or y else 0.0
            if shared >= alike:
                ranked.append((-shared, abs(i - j), i + j, i, j))
    found: list[tuple[int, int]] = []
    left: set[int] = set()
    right: set[int] = set()
    for *_, i, j in sorted(ranked):
        if i not in left and j not in right:
            left.add(i)
            right.add(j)
            found.append((i, j))
    return found


def _bag(sentence: str) -> frozenset[str]:
    """What a sentence is about: its content words, a plural like its singular, without its numbers."""
    found = {word[:-1] if len(word) > 3 and word.endswith("s") else word for word in content_words(sentence)}
    return frozenset(word for word in found if not any(c.isdigit() for c in word)) or frozenset(words(sentence))


def _differences(first: str, second: str) -> tuple[str, ...]:
    found = [_unlike("numbers", numbers(first), numbers(second))]
    found.append(_unlike("names", names(first, beside=second), names(second, beside=first)))
    not_a, not_b = (len(NEGATION.findall(s)) % 2 for s in (first, second))
    if not_a != not_b:
        found.append("only the first denies" if not_a else "only the second denies")
    return tuple(what for what in found if what)


def _unlike(sort: str, a: list[str], b: list[str]) -> str:
    if sorted(a) == sorted(b):
        return ""
    return f"{sort} {', '.join(a) or 'none'} against {', '.join(b) or 'none'}"
