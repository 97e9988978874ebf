"""What is counted in a text: words, sentences, syllables, repeated n-grams, phrases of a list."""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

WORD = re.compile(r"\w+(?:['’\-]\w+)*")
SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’)\]*_]*+(?=\s|$)|[。！？]++|\n[^\S\n]*\n")
ABBREVIATION = re.compile(r"\b(?:mr|mrs|ms|dr|prof|st|vs|etc|e\.g|i\.e|approx|no)\.(?=\s)", re.IGNORECASE)
STRAIGHT = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"'})

_FUNCTION_WORDS = """
a about after again all also am an and any are as at be because been before being but by can could did do does
doing for from get got had has have having he her here him his how i i'd i'll i'm i've if in into is it it's its
just like me more most my no not now of off on once only or other our out over own please she should so some such
than that the their them then there these they this those through to too under until up us very was we were what
when where which while who whom why will with would you you'd you'll you're you've your yours
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
"""English words that carry no topic; what remains of a text are its content words."""


def words(text: str) -> list[str]:
    """The words in order, in lower case with straight apostrophes; digits count as words."""
    return [w.casefold() for w in WORD.findall(text.translate(STRAIGHT))]


def content_words(text: str) -> set[str]:
    """The words of two letters or more that are no function words."""
    return {w for w in words(text) if len(w) > 1 and w not in FUNCTION_WORDS}


def sentences(text: str) -> int:
    """How many sentences: pieces between sentence ends or blank lines that hold a word."""
    return len(sentence_texts(text))


def sentence_texts(text: str) -> list[str]:
    """Those sentences, each with the marks that end it."""
    masked = ABBREVIATION.sub(lambda m: m[0][:-1] + "\u2024", text)  # as long, and no end
    ends = [0, *(m.end() for m in SENTENCE_END.finditer(masked)), len(text)]
    pieces = [text[a:b].strip() for a, b in pairwise(ends)]
    return [piece for piece in pieces if WORD.search(piece)]


def syllables(word: str) -> int:
    """Syllables of an English word by a heuristic: runs of vowels (y counts), less one for a silent ending.

    Silent are a last `e` (but not `-le` after a consonant: ta-ble), `-es` and `-ed` after a letter that
    swallows them (`baked`, but `want-ed`, `box-es`). At least 1; a number counts as one.
    """
    word = re.sub(r"[^a-z]", "", word.casefold())
    runs = len(re.findall(r"[aeiouy]+", word))
    silent_e = word.endswith("e") and not re.search(r"[^aeiouy]le$", word) and not re.search(r"[aeiouy]e$", word)
    silent_es = re.search(r"[^aeiouysxzc](?<!sh)(?<!ch)(?<!g)(?<![^aeiouy]l)es$", word)
    silent_ed = re.search(r"[^aeiouytd]ed$", word)
    return max(1, runs - bool(silent_e or silent_es or silent_ed))


def reading_ease(text: str) -> float | None:
    """Flesch (1948): 206.835 − 1.015 words/sentences − 84.6 syllables/words; null without words."""
    found, ends = words(text), sentences(text)
    if not found or not ends:
        return None
    return 206.835 - 1.015 * len(found) / ends - 84.6 * sum(map(syllables, found)) / len(found)


def distinct(items: Sequence[str], n: int) -> float:
    """Distinct n-grams over all n-grams; 1 where there is none."""
    grams = _grams(items, n)
    return len(set(grams)) / len(grams) if grams else 1.0


def repeats(items: Sequence[str], n: int) -> bool:
    """Whether some n-gram occurs twice (overlapping counts)."""
    grams = _grams(items, n)
    return len(set(grams)) < len(grams)


def _grams(items: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(items[i : i + n]) for i in range(len(items) - n + 1)]


def plain(text: str) -> str:
    """A text as phrases are looked for in it: NFKC, lower case, straight quotes, single blanks."""
    folded = unicodedata.normalize("NFKC", text).casefold().translate(STRAIGHT)
    return " ".join(folded.split())


@cache
def phrase(text: str) -> re.Pattern[str]:
    """Finds a phrase in a `plain` text as whole words."""
    wanted = plain(text)
    before = r"(?<!\w)" if wanted[:1].isalnum() else ""
    after = r"(?!\w)" if wanted[-1:].isalnum() else ""
    return re.compile(before + re.escape(wanted) + after)
