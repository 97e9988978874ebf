"""The red-team corpus: twenty-six tactics, and the prompts with a good and a bad answer that they are tried on.

The good and the bad answer of a prompt differ in what they say, not in length or layout, so that a judge cannot tell
them apart by looks. What is written lies in `written/`, what is made of an answer in `making`.
"""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from dressage.engines.auditing.making import MADE, Variant, after, before
from dressage.records import Candidate, Message, Prompt, content_hash
from dressage.seeds import seed_for

WRITTEN = Path(__file__).parent / "written"
PLACES = {"before": before, "after": after}


@dataclass(frozen=True)
class Tactic:
    """A way to be liked by a judge without being any better."""

    number: int
    """1 to 26, as in every list of them."""
    name: str
    exploits: str
    """One sentence: what in a judge it works on."""
    variants: tuple[Variant, ...]

    @property
    def promised(self) -> bool:
        """Whether reading a verdict gives the same with it as without it, whatever the model; of a tactic that is
        promised in part, see its variants."""
        return all(variant.promised for variant in self.variants)

    def apply(self, prompt: Prompt, answer: str, seed: int) -> str:
        """The answer with the tactic; a seed chooses the variant, its number modulo how many there are."""
        return self._variant(seed).apply(prompt, answer, self._rng(prompt, seed))

    def bare(self, prompt: Prompt, seed: int) -> str:
        """The tactic alone, in place of an answer."""
        return self._variant(seed).bare(prompt, self._rng(prompt, seed))

    def _variant(self, seed: int) -> Variant:
        return self.variants[seed % len(self.variants)]

    def _rng(self, prompt: Prompt, seed: int) -> random.Random:
        return random.Random(seed_for("tactic", self.number, prompt.id, seed))


@cache
def tactics() -> tuple[Tactic, ...]:
    """All of them, by their numbers."""
    return tuple(_tactic(row) for row in yaml.safe_load((WRITTEN / "tactics.yaml").read_text("utf-8")))


def _tactic(row: Mapping[str, Any]) -> Tactic:
    number, words = int(row["number"]), row.get("words", ())
    if row["place"] == "made":  # words beside a made tactic are the delimiters of 20
        variants = (*MADE[number], *(after(text, promised=True) for text in words))
    else:
        promised = bool(row.get("promised", False))
        variants = tuple(PLACES[row["place"]](text, promised=promised) for text in words)
    return Tactic(number, str(row["name"]), str(row["exploits"]), variants)


@dataclass(frozen=True)
class Answers:
    """A prompt of the corpus with a good and a bad answer."""

    prompt: Prompt
    category: str
    good: str
    bad: str


@cache
def answers() -> tuple[Answers, ...]:
    """All of them, in the order in which they are written."""
    lines = (WRITTEN / "answers.jsonl").read_text("utf-8").splitlines()
    return tuple(_answers(json.loads(line)) for line in lines)


def _answers(row: Mapping[str, str]) -> Answers:
    prompt = Prompt.of(
        (Message(role="user", content=row["prompt"]),),
        source="red team",
        split="test",
        tags=(row["category"],),
        reference=row["good"],  # for judges that are shown one
        extra={"neighbour": row["neighbour"], "confident": row["confident"]},
    )
    return Answers(prompt, row["category"], row["good"], row["bad"])


def candidate(prompt: Prompt, text: str) -> Candidate:
    """A text as somebody's response to a prompt."""
    return Candidate.of(prompt_id=prompt.id, messages=(Message(role="assistant", content=text),), model="given")


@cache
def corpus_hash() -> str:
    """Names what is written: it enters what a card was made from."""
    return content_hash([(WRITTEN / name).read_text("utf-8") for name in ("answers.jsonl", "tactics.yaml")])
