"""Which passages speak of a query: BM25 (Robertson and Zaragoza, 2009), built once, the same each time.

score(d) = sum over t of idf(t) tf (k1 + 1) / (tf + k1 (1 - b + b |d| / mean |d|))
idf(t)   = ln(1 + (N - n + 1/2) / (n + 1/2))

t    a word of the query        tf   how often d has it     n    passages that have it
d    a passage                  |d|  its words              N    passages
"""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from dressage.maths.counting import FUNCTION_WORDS
from dressage.maths.text import words
from dressage.tools.retrieve.passages import Passage

THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def terms(text: str) -> list[str]:
    """The words of a text as they are looked up: without accents, possessives and the s of a plural; 1,200 is 1200."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return [_stem(word) for word in words(THOUSANDS.sub("", bare))]


def _stem(word: str) -> str:
    word = re.sub(r"['’](?:s|$)", "", word)
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    plural = len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return word[:-1] if plural else word


def asked(query: str) -> list[str]:
    """What of a query is looked up, once each: its words that carry a topic, or all where none does."""
    found = list(dict.fromkeys(terms(query)))
    telling = [term for term in found if term not in STOPPED]
    return telling or found


STOPPED = frozenset(term for word in FUNCTION_WORDS for term in terms(word))


@dataclass
class Index:
    """Passages, and for each word those that have it."""

    passages: Sequence[Passage]
    k1: float
    b: float
    places: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    """Word → (number of the passage, how often), in order."""
    lengths: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number, passage in enumerate(self.passages):
            found = Counter(terms(f"{passage.heading}\n{passage.text}"))
            self.lengths.append(found.total())
            for term, times in found.items():
                self.places[term].append((number, times))
        self.places = dict(self.places)
        self.mean = sum(self.lengths) / max(1, len(self.lengths))

    def search(self, query: str, most: int) -> list[tuple[float, Passage]]:
        """The passages that have a word of the query, best first; of equals the one that comes first in the files."""
        scores: dict[int, float] = defaultdict(float)
        for term in asked(query):
            there = self.places.get(term, [])
            idf = math.log(1 + (len(self.passages) - len(there) + 0.5) / (len(there) + 0.5))
            for number, times in there:
                norm = self.k1 * (1 - self.b + self.b * self.lengths[number] / self.mean)
                scores[number] += idf * times * (self.k1 + 1) / (times + norm)
        best = sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:most]
        return [(score, self.passages[number]) for number, score in best]

    def missing(self, query: str) -> list[str]:
        """Words of the query that no passage has."""
        return [term for term in asked(query) if term not in self.places]
