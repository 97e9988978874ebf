"""What a text mentions: its numbers in one spelling, and what look like names."""

import re
from collections.abc import Iterable

from dressage.maths.counting import FUNCTION_WORDS, sentence_texts

_UNITS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
nineteen
"""
UNITS = {word: n for n, word in enumerate(_UNITS.split())}
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
TENS = {word: 10 * n for n, word in enumerate(_TENS, 2)}
DIGITS = re.compile(
    r"(?P<date>(?<![\d.])\d{4}-\d{2}-\d{2}(?![\d-]))|(?P<time>(?<![\d:.])\d{1,2}:\d{2}(?![\d:]))"
    r"|(?P<number>(?<![\w.])(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+))(?P<percent>\s?%|\s?per ?cent\b)?"
)
SPELT = re.compile(
    rf"\b(?:(?P<tens>{'|'.join(TENS)})(?:-(?P<unit>{'|'.join(list(UNITS)[1:10])}))?"
    rf"|(?P<alone>{'|'.join(word for word in UNITS if word != 'one')}))\b",
    re.IGNORECASE,
)
CAPITAL = r"[^\W\d_a-zß-öø-ÿ][\w'’\-]*"
NAME = re.compile(rf"\b{CAPITAL}(?:[ \t]+(?:(?:of|the|de|van|von)[ \t]+)*{CAPITAL})*")


def numbers(text: str) -> list[str]:
    """The numbers of a text in order, as `1200`, `0.5`, `15%`, `2024-02-29`, `14:30`.

    English words count from two to ninety-nine; `one` does not: it is more often no number.
    """
    found = [(m.start(), _digits(m)) for m in DIGITS.finditer(text)]
    found += [(m.start(), _spelt(m)) for m in SPELT.finditer(text)]
    return [value for _, value in sorted(found)]


def _digits(match: re.Match[str]) -> str:
    if match["number"] is None:
        return match[0]
    whole, _, part = match["number"].replace(",", "").partition(".")
    plain = (whole.lstrip("0") or "0") + (f".{part.rstrip('0')}" if part.rstrip("0") else "")
    return plain + ("%" if match["percent"] else "")


def _spelt(match: re.Match[str]) -> str:
    if match["alone"]:
        return str(UNITS[match["alone"].lower()])
    return str(TENS[match["tens"].lower()] + UNITS[(match["unit"] or "zero").lower()])


def names(text: str, *, beside: str = "") -> list[str]:
    """Runs of capitalised words, once each, in order of their first mention.

    The first word of a sentence is capital for another reason: alone it counts only where it is capital inside a
    sentence of this text, or of the text `beside` it, too.
    """
    inside = {word for name, initial in _runs(f"{text}\n\n{beside}") for word in name.split()[initial:]}
    found: dict[str, None] = {}
    for name, initial in _runs(text):
        words = name.split()
        if initial and words[0] not in inside and (len(words) == 1 or words[0].lower() in FUNCTION_WORDS):
            words = words[1:]
        if words and not (len(words) == 1 and words[0] == "I"):
            found[" ".join(words)] = None
    return list(found)


def _runs(text: str) -> Iterable[tuple[str, bool]]:
    """Capitalised runs, and whether each begins a sentence."""
    for line in text.splitlines():
        for sentence in sentence_texts(line):
            start = re.search(r"\w", sentence)
            for match in NAME.finditer(sentence):
                name = re.sub(r"['’]s\b", "", match[0])
                yield name, start is not None and match.start() == start.start()
