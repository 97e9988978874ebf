"""What of a text is seen: invisible characters dropped, look-alikes folded for matching, marks changed in place."""

import re
import unicodedata
from collections.abc import Callable
from functools import cache

CONTROL_TOKEN = re.compile(r"<\|[^|<>\n]{1,40}\|>|</?s>|<(?:start|end)_of_turn>|\[/?INST\]")

INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\u2800")
"""Blank to the eye though they count as letters, marks or symbols."""


def visible(text: str) -> str:
    """`text` without invisible, bidi, tag or control characters, with plain line ends and no outer blanks."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii() and text.isprintable():
        return text.strip()
    return "".join(_visible(c) for c in text).strip()


@cache
def _visible(character: str) -> str:
    if character in "\n\t":
        return character
    if character in "\u2028\u2029\x0b\x0c\x85":
        return "\n"
    variation = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn")
    return "" if hidden or variation or character in INVISIBLE else character


def folded(text: str) -> str:
    """`text` with look-alikes made plain (NFKC) where that keeps its length; only for matching."""
    return text if text.isascii() else "".join(_plain(c) for c in text)


@cache
def _plain(character: str) -> str:
    plain = unicodedata.normalize("NFKC", character)
    return plain if len(plain) == 1 else character


def changed(pattern: re.Pattern[str], change: Callable[[str], str], text: str) -> str:
    """`pattern.sub`, matching the folded text and changing the original at the same place."""
    pieces, end = [], 0
    for match in pattern.finditer(folded(text)):
        pieces += [text[end : match.start()], change(text[match.start() : match.end()])]
        end = match.end()
    return "".join([*pieces, text[end:]])
