"""An embedding model places a reply: nearer to one set of examples than to another, or near to its prompt.

Write exemplars in pairs over your topics: each topic's reply once as you want it (`towards`) and once as you
do not (`away`). What both sides share, the topics, then cancels in the difference; the manner remains.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from operator import mul
from pathlib import Path
from typing import ClassVar, Literal, Self

import yaml
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from dressage.judges._fences import clean
from dressage.judges._numbers import logistic
from dressage.judges._verdicts import vector_of
from dressage.protocols import Answer, Embed, JudgeSettings, JudgeTools, Question, Rating, Unreadable
from dressage.records import Ballot, Frozen, content_hash


class Exemplars(Frozen):
    """Texts a reply should be near to, and texts it should be far from."""

    towards: tuple[str, ...] = Field(min_length=1)
    away: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if both := sorted(set(self.towards) & set(self.away)):
            raise ValueError(f"{both[0][:60]!r} is in `towards` and in `away`; it says nothing, leave it out")
        if not all(clean(text) for text in (*self.towards, *self.away)):
            raise ValueError("an exemplar is empty; leave it out")
        return self


class Settings(JudgeSettings):
    """Cosines between embeddings; fast and hard to talk round, but blind to truth."""

    asks_for: ClassVar[Literal["words", "embeddings", "scores"]] = "embeddings"

    kind: Literal["embedding"] = "embedding"
    model: str
    """The embedding model, a name in `models:`."""
    mode: Literal["exemplars", "relevance"] = "exemplars"
    """`exemplars`: nearer to `towards` than to `away`; `relevance`: the reply's cosine with its prompt."""
    towards: tuple[str, ...] = ()
    """Texts the reply should be near to."""
    away: tuple[str, ...] = ()
    """Texts it should be far from."""
    exemplars: str | None = None
    """A YAML file with the lists `towards` and `away`, instead of writing them here."""
    top_k: int | None = Field(None, ge=1)
    """Mean over so many nearest exemplars of each side (the reply's own topic); null: over all."""
    scale: float | None = Field(None, gt=0)
    """Score = logistic(raw / scale); null: (1 + raw) / 2 with raw clipped to [−1, 1]."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        inline = bool(self.towards or self.away)
        if self.mode == "relevance" and (inline or self.exemplars or self.top_k):
            raise ValueError("`mode: relevance` has no exemplars: leave out towards, away, exemplars and top_k")
        if self.mode == "exemplars":
            if inline == bool(self.exemplars):
                raise ValueError("give the exemplars either as `towards` and `away` or as a file in `exemplars`")
            if inline:
                Exemplars(towards=self.towards, away=self.away)
        return self

    def models_asked(self) -> tuple[str, ...]:
        return (self.model,)

    def sides(self) -> Exemplars:
        """The exemplars, wherever they are written.

        Raises:
            FileNotFoundError, ValueError: the file is not there, or is not two lists of texts.
        """
        if self.exemplars is None:
            return Exemplars(towards=self.towards, away=self.away)
        path = Path(self.exemplars).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"`exemplars: {self.exemplars}` names {path.absolute()}, which is not there")
        return _read(path.read_text(encoding="utf-8"), str(path))

    def substance(self) -> frozenset[str]:
        if self.mode == "relevance":
            return frozenset({f"embedding:{self.model}:relevance"})
        if self.exemplars is not None and not Path(self.exemplars).expanduser().is_file():
            return frozenset({f"embedding:exemplars:{self.exemplars}"})
        sides = self.sides()
        return frozenset({f"embedding:exemplars:{content_hash([sorted(sides.towards), sorted(sides.away)])}"})

    def content(self) -> object:
        sides = None if self.mode == "relevance" else content_hash(self.sides().model_dump())
        return {"settings": super().content(), "exemplars": sides}


@cache
def _read(text: str, path: str) -> Exemplars:
    try:
        return TypeAdapter(Exemplars).validate_python(yaml.safe_load(text))
    except (yaml.YAMLError, ValidationError) as error:
        raise ValueError(f"{path} must hold the lists `towards` and `away`: {error}") from error


@dataclass
class Embedding:
    """Asks for the reply's vector and those it is held against; `sides` is null for relevance."""

    settings: Settings
    sides: Exemplars | None
    compares: bool = False

    def ask(self, ballot: Ballot) -> tuple[Question, ...]:
        (reply,) = ballot.texts
        against = (*self.sides.towards, *self.sides.away) if self.sides else (_asked(ballot),)
        return tuple(Embed(model=self.settings.model, text=text) for text in (clean(reply), *against))

    def read(self, ballot: Ballot, answers: Sequence[Answer]) -> Rating:
        reply, *others = (vector_of(answer).values for answer in answers)
        cosines = [cosine(reply, other) for other in others]
        if self.sides is None:
            (raw,) = cosines
            return self._rating(raw, {})
        split = len(self.sides.towards)
        near, far = self._mean(cosines[:split]), self._mean(cosines[split:])
        return self._rating(near - far, {"towards": near, "away": far})

    def _mean(self, cosines: Sequence[float]) -> float:
        kept = sorted(cosines, reverse=True)[: self.settings.top_k]
        return math.fsum(kept) / len(kept) if kept else 0.0

    def _rating(self, raw: float, criteria: dict[str, float]) -> Rating:
        if (scale := self.settings.scale) is not None:
            score, how = logistic(raw / scale), f"logistic(raw / {scale:g})"
        else:
            score, how = (1 + min(max(raw, -1.0), 1.0)) / 2, "(1 + raw) / 2"
        return Rating(score=score, raw=raw, normalised=how, criteria=criteria)


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """a·b / (|a| |b|) within [−1, 1]; the lengths are divided out again, as float16 servers round them.

    Raises:
        Unreadable: where a vector is null or not finite, or the two differ in size.
    """
    if len(a) != len(b):
        raise Unreadable(f"two embeddings of one model have {len(a)} and {len(b)} dimensions")
    lengths = math.sqrt(sum(map(mul, a, a))) * math.sqrt(sum(map(mul, b, b)))
    if not math.isfinite(lengths) or lengths == 0:
        raise Unreadable("an embedding is null or not finite")
    return min(max(float(sum(map(mul, a, b))) / lengths, -1.0), 1.0)


def _asked(ballot: Ballot) -> str:
    return next((m.content for m in reversed(ballot.messages) if m.role == "user"), "")


def open(settings: Settings, *, tools: JudgeTools) -> Embedding:
    return Embedding(settings, None if settings.mode == "relevance" else settings.sides())
