"""Measures of a text that need no model: variety, openers, style; guards against a hollow win.

A word is a run of letters, digits or underscores, with apostrophes inside it, lowercased ("Don't" is one
word). Scripts without blanks between words (Chinese, Thai) come out as long words: compare like with like.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’)\]*_]*+(?=\s|$)|[。！？]+")
_FENCED = re.compile(r"^ {0,3}(```|~~~).*?(?:^ {0,3}\1|\Z)", re.MULTILINE | re.DOTALL)
_LIST_ITEM = re.compile(r"^[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]++(?![-*_ \t]*$)\S", re.MULTILINE)
_HEADER = re.compile(r"^ {0,3}#{1,6}[ \t]+\S", re.MULTILINE)
_BOLD = re.compile(r"\*\*(?=[^\s*])[^*\n]+\*\*|(?<!\w)__(?=[^\s_])[^_\n]+__(?!\w)")
_PICTURE = (
    r"[\U0001f300-\U0001f5ff\U0001f600-\U0001f64f\U0001f680-\U0001f6ff\U0001f7e0-\U0001f7eb"
    r"\U0001f900-\U0001faff\u2600-\u27bf\u231a\u231b\u23e9-\u23f3\u2b50\u2b55]"
    r"[\ufe0f\U0001f3fb-\U0001f3ff]*"
)
_EMOJI = re.compile(rf"[\U0001f1e6-\U0001f1ff]{{2}}|{_PICTURE}(?:\u200d{_PICTURE})*")
"""A flag, or pictures joined into one by U+200D, each with its variation and skin tone."""


def words(text: str) -> list[str]:
    """The words of a text as the head of this file says, in order."""
    return _WORD.findall(text.lower())


def distinct_n(texts: Iterable[str], n: int) -> float:
    """Distinct n-grams over all n-grams, over all texts together (arXiv:1510.03055); 0 where there is none.

    An n-gram lies within one text. The share falls with the amount of text: compare sides with as many
    replies of about the same length.
    """
    if n < 1:
        raise ValueError(f"an n-gram has at least one word, not {n}")
    seen: set[tuple[str, ...]] = set()
    total = 0
    for text in texts:
        of = words(text)
        grams = list(zip(*(of[i:] for i in range(n)), strict=False))
        total += len(grams)
        seen.update(grams)
    return len(seen) / total if total else 0.0


def commonest_opener(texts: Sequence[str], words: int = 5) -> tuple[str, float]:
    """The commonest first words and the share of all texts that open with them.

    A shorter text is its own opener; one without words has none but counts in the share. Among equally common
    openers the first by alphabet is named, so the order of the texts does not matter.
    """
    openers = Counter(" ".join(_WORD.findall(text.lower())[:words]) for text in texts)
    del openers[""]
    if not openers:
        return "", 0.0
    opener, count = min(openers.items(), key=lambda item: (-item[1], item[0]))
    return opener, count / len(texts)


def style_features(text: str) -> dict[str, float]:
    """Counts of what judges tend to like for its own sake; Markdown in code fences does not count."""
    prose = _FENCED.sub("", text)
    return {
        "characters": float(len(text)),
        "words": float(len(words(text))),
        "sentences": float(_sentences(prose)),
        "list_items": float(len(_LIST_ITEM.findall(prose))),
        "headers": float(len(_HEADER.findall(prose))),
        "bold": float(len(_BOLD.findall(prose))),
        "exclamation_marks": float(prose.count("!") + prose.count("！")),
        "emoji": float(len(_EMOJI.findall(prose))),
    }


def _sentences(text: str) -> int:
    """Ends of sentences, and one more where words follow the last of them."""
    ends = list(_SENTENCE_END.finditer(text))
    rest = text[ends[-1].end() :] if ends else text
    return len(ends) + bool(_WORD.search(rest))
