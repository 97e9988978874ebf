"""A model that says what its YAML says: the fake of tests and smoke runs, behind the same door as others."""

import hashlib
import json
import math
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from dressage.protocols import (
    Completion,
    Conversation,
    Distribution,
    Done,
    ModelSettings,
    Sampling,
    Trouble,
    Vector,
)
from dressage.records import Frozen, Usage, content_hash

DIMENSIONS = 64
MARK = re.compile(r"(?:VERDICT|SCORE)-([0-9a-f]{8})")
PLACEHOLDER = re.compile(r"\{(nonce|user|seed)\}")

Words = str | tuple[str, ...]


class Rule(Frozen):
    """What it says where the question looks like `when`."""

    when: str
    """A regular expression, searched for in the last user message."""
    says: Words
    """As `says` of the model."""

    @field_validator("when")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error}") from None
        return value


class Settings(ModelSettings):
    """A model without weights, for tests and smoke runs."""

    chats: ClassVar[bool] = True
    reads_labels: ClassVar[bool] = True
    embeds: ClassVar[bool] = True

    kind: Literal["scripted"] = "scripted"
    says: Words = "Yes."
    """Its reply; of several, the one at seed mod their number. Filled in: {nonce}, the last that a verdict or
    score line is asked for with; {user}, the last user message; {seed}."""
    rules: tuple[Rule, ...] = ()
    """Other replies for some questions; the first rule that matches wins over `says`."""
    labels: dict[str, float] = Field(default_factory=dict)
    """Probabilities of labels, 0 for those not named; empty: those offered are equally likely."""
    fails: float = Field(0.0, ge=0, le=1)
    """Share of questions that get no answer; which ones is decided by their content."""
    paid: bool = False
    """Whether its answers count as paid for, so that they are journalled."""
    delay_s: float = Field(0.0, ge=0, le=60)
    """How long each answer takes."""
    log: Path | None = None
    """A file that gets one JSON line for each question asked; null: none."""

    @field_validator("labels")
    @classmethod
    def _are_probabilities(cls, value: dict[str, float]) -> dict[str, float]:
        if any(not 0 <= p <= 1 for p in value.values()) or sum(value.values()) > 1 + 1e-9:
            raise ValueError(f"must be probabilities that sum to at most 1, not {value}")
        return value

    def identity(self) -> str:
        return f"scripted:{content_hash(self.content())}"

    def content(self) -> object:
        """What can change an answer: not how long it takes, what it costs or where it is logged."""
        return self.model_dump(mode="json", exclude={"paid", "delay_s", "log"})


def open(settings: Settings) -> "Scripted":
    return Scripted(settings)


class Scripted:
    """See protocols.Model. Answers depend on the question and its seed only, never on the order of asking."""

    def __init__(self, settings: Settings) -> None:
        code = settings.code_version
        self.fingerprint = content_hash({"code_version": code, "content": settings.content()})
        self.paid = settings.paid
        self._settings = settings

    def complete(
        self, conversations: Sequence[Conversation], *, sampling: Sampling, seeds: Sequence[int], done: Done
    ) -> list[Completion | Trouble]:
        """The scripted words, cut to `max_new_tokens` words."""
        answers: list[Completion | Trouble] = []
        for index, (conversation, seed) in enumerate(zip(conversations, seeds, strict=True)):
            failure = self._asked("complete", [m.content for m in conversation], seed=seed)
            answers.append(failure or self._reply(conversation, seed=seed, words=sampling.max_new_tokens))
            done(index, answers[-1])
        return answers

    def label_probabilities(
        self, conversations: Sequence[Conversation], labels: Sequence[tuple[str, ...]], *, done: Done
    ) -> list[Distribution | Trouble]:
        answers: list[Distribution | Trouble] = []
        for index, (conversation, offered) in enumerate(zip(conversations, labels, strict=True)):
            failure = self._asked("label_probabilities", [m.content for m in conversation])
            answers.append(failure or self._distribution(conversation, offered))
            done(index, answers[-1])
        return answers

    def embed(self, texts: Sequence[str], *, done: Done) -> list[Vector | Trouble]:
        answers: list[Vector | Trouble] = []
        for index, text in enumerate(texts):
            answers.append(self._asked("embed", [text]) or bag_of_words(text))
            done(index, answers[-1])
        return answers

    def prompt_tokens(self, conversation: Conversation) -> int | None:
        return None

    def context(self) -> int | None:
        return None

    def close(self) -> None:
        """Nothing is held open."""

    # ------------------------------------------------------------ what it says

    def _asked(self, what: str, texts: list[str], **facts: int) -> Trouble | None:
        """Takes its time, notes the question, and says whether this one fails."""
        time.sleep(self._settings.delay_s)
        question = content_hash(texts)
        if self._settings.log:
            with self._settings.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"asked": what, "question": question, **facts}) + "\n")
        if int(question, 16) / 2**64 < self._settings.fails:
            return Trouble(reason="scripted failure", detail=f"question {question}")
        return None

    def _reply(self, conversation: Conversation, *, seed: int, words: int) -> Completion:
        user = next((m.content for m in reversed(conversation) if m.role == "user"), "")
        rule = next((r for r in self._settings.rules if re.search(r.when, user)), None)
        says = rule.says if rule else self._settings.says
        template = says if isinstance(says, str) else says[seed % len(says)]
        marks = MARK.findall("\n".join(m.content for m in conversation))
        filled = {"nonce": marks[-1] if marks else "{nonce}", "user": user, "seed": str(seed)}
        text = PLACEHOLDER.sub(lambda match: filled[match[1]], template)
        ends = [match.end() for match in re.finditer(r"\S+", text)]
        cut = len(ends) > words
        usage = Usage(read=_words(conversation), written=min(len(ends), words))
        return Completion(
            text=text[: ends[words - 1]] if cut else text,
            finish="length" if cut else "stop",
            usage=usage,
            seconds=self._settings.delay_s,
        )

    def _distribution(self, conversation: Conversation, offered: tuple[str, ...]) -> Distribution:
        scripted = self._settings.labels or dict.fromkeys(offered, 1 / len(offered))
        probabilities = dict.fromkeys(offered, 0.0) | {k: p for k, p in scripted.items() if k in offered}
        return Distribution(probabilities=probabilities, usage=Usage(read=_words(conversation), written=1))


def _words(conversation: Conversation) -> int:
    return sum(len(m.content.split()) for m in conversation)


def bag_of_words(text: str) -> Vector:
    """A unit vector of 64 counts: each lower-cased word adds one to the dimension its hash names."""
    counts = [0.0] * DIMENSIONS
    for word in re.findall(r"\w+", text.lower()) or [""]:
        digest = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
        counts[int.from_bytes(digest[:8], "big") % DIMENSIONS] += 1.0
    norm = math.sqrt(sum(count * count for count in counts))
    return Vector(values=tuple(count / norm for count in counts))
