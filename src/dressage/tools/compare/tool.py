"""Lays two answers side by side: what differs, never which is better."""

from collections import Counter

from pydantic import Field, JsonValue

from dressage.maths.counting import words
from dressage.tools._calling import Arguments, Calling, Deadline, Outcome, quoted
from dressage.tools.compare import Settings
from dressage.tools.compare.claims import Claims, sorted_out
from dressage.tools.compare.differ import Change, changes
from dressage.tools.compare.mentions import names, numbers

DESCRIPTION = (
    "Says what differs between two texts: lengths, numbers and names that only one has, statements that only one "
    "makes, statements about the same with other numbers, names or a denial, and the words changed. Look here first: "
    "what both say alike cannot decide between them."
)
SHOWN = 300
"""Characters of a sentence that are shown."""
CONTEXT = 3
"""Words before a change that are shown, so that a reader finds it."""


class Two(Arguments):
    """The texts to compare."""

    first: str = Field(max_length=40_000)
    """One text, unchanged."""
    second: str = Field(max_length=40_000)
    """The other, unchanged."""


def open(settings: Settings, *, name: str) -> Calling[Two]:
    def work(arguments: Two, deadline: Deadline) -> Outcome:
        return _compared(arguments.first, arguments.second, settings, deadline)

    return Calling(settings, name, DESCRIPTION, Two, work)


def _compared(first: str, second: str, settings: Settings, deadline: Deadline) -> Outcome:
    if first == second:
        return Outcome("the two texts are equal, character by character", {"equal": True})
    claims = sorted_out(first, second, alike=settings.alike, deadline=deadline)
    a, b = first.split(), second.split()
    edits = changes(a, b, check=deadline.check)
    digits = numbers(first), numbers(second)
    called = names(first, beside=second), names(second, beside=first)
    lists: dict[str, list[str]] = {
        "numbers only in the first": _more(*digits),
        "numbers only in the second": _more(*digits[::-1]),
        "names only in the first": _more(*called),
        "names only in the second": _more(*called[::-1]),
    }
    lines = [f"{sort}: {_some(found, settings.items)}" for sort, found in lists.items() if found]
    text = [_lengths(first, second), *lines, *_claims(claims, settings.items), *_edits(edits, a, b, settings.items)]
    data: dict[str, JsonValue] = {
        "equal": False,
        "words": [len(words(first)), len(words(second))],
        **{sort.replace(" only in the ", "_only_"): [*found[: settings.items]] for sort, found in lists.items()},
        "only_first": [*claims.only_first[: settings.items]],
        "only_second": [*claims.only_second[: settings.items]],
        "contrasts": [[c.first, c.second, *c.what] for c in claims.contrasts[: settings.items]],
        "same": claims.same,
        "reworded": claims.reworded,
        "edited_words": None if edits is None else sum(e.b - e.a + e.d - e.c for e in edits),
    }
    return Outcome("\n".join(text), data)


def _more(a: list[str], b: list[str]) -> list[str]:
    """What `a` has more often than `b`, once each."""
    return list(dict.fromkeys((Counter(a) - Counter(b)).elements()))


def _lengths(first: str, second: str) -> str:
    a, b = len(words(first)), len(words(second))
    return f"words: {a} in the first, {b} in the second"


def _some(items: list[str], most: int) -> str:
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def _claims(claims: Claims, most: int) -> list[str]:
    lines = [f"statements: {claims.same} in both word by word, {claims.reworded} in both in other words"]
    for contrast in claims.contrasts[:most]:
        lines.append(f"about the same, but with {'; '.join(contrast.what)}:")
        lines += [_shown(contrast.first), _shown(contrast.second)]
    for sort, found in (("first", claims.only_first), ("second", claims.only_second)):
        if found:
            lines += [f"only in the {sort}, {len(found)}:", *map(_shown, found[:most])]
    if claims.left_out:
        lines.append(f"{claims.left_out} sentences at the ends were not looked at")
    return lines


def _edits(edits: list[Change] | None, a: list[str], b: list[str], most: int) -> list[str]:
    if edits is None:
        return ["the texts are too different to be laid side by side word by word"]
    lines = [f"changes in the wording: {len(edits)}" + (f", the first {most}:" if len(edits) > most else ":")]
    for edit in edits[:most]:
        before = " ".join(a[max(0, edit.a - CONTEXT) : edit.a])
        where = f"after {before!r}" if before else "at the beginning"
        lines.append(f"{where}: {_piece(a[edit.a : edit.b])} became {_piece(b[edit.c : edit.d])}")
    return lines


def _shown(sentence: str) -> str:
    return quoted(sentence if len(sentence) <= SHOWN else f"{sentence[:SHOWN]} …")


def _piece(piece: list[str]) -> str:
    if not piece:
        return "nothing"
    return repr(" ".join(piece) if len(piece) <= 12 else " ".join([*piece[:6], "…", *piece[-5:]]))
