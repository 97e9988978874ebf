"""A reward model scores a reply: an adapter with a linear head, learnt from pairs by `trainer: {kind: reward}`.

The score is the logistic of its raw score over the deviation of the scores of its training replies; among
those the mean raw score is 0, so ½ is as good as they were on the whole.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from dressage.judges._fences import clean
from dressage.judges._numbers import logistic
from dressage.judges._verdicts import score_of
from dressage.protocols import SCORE_HEAD, SCORE_SCALE, Answer, JudgeSettings, JudgeTools, Question, Rating, Scalar
from dressage.records import Ballot, Message, content_hash

FILES = ("adapter_config.json", "adapter_model.safetensors", SCORE_HEAD, SCORE_SCALE)


class Settings(JudgeSettings):
    """An adapter on one of the run's models rates a reply in one forward pass; it can be gamed like any reward."""

    asks_for: ClassVar[Literal["words", "embeddings", "scores"]] = "scores"

    code_version = 2

    kind: Literal["reward_model"] = "reward_model"
    model: str
    """The model that the adapter was trained on, a name in `models:`; what that one wears itself is taken off."""
    adapter: str = Field(min_length=1)
    """The adapter folder that a run with `trainer: {kind: reward}` has left: runs/NAME/round-0/train/adapter."""

    def models_asked(self) -> tuple[str, ...]:
        return (self.model,)

    def hashes(self) -> dict[str, str]:
        """sha256 of each file that decides a score.

        Raises:
            FileNotFoundError: one is not there.
        """
        folder = Path(self.adapter).expanduser()
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(
                f"judge `adapter: {self.adapter}` names {folder.absolute()}, which has no {missing[0]}; give the "
                "adapter folder that a run with `trainer: {kind: reward}` has left"
            )
        return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}

    def substance(self) -> frozenset[str]:
        there = all((Path(self.adapter).expanduser() / name).is_file() for name in FILES)
        return frozenset({f"reward_model:{content_hash(self.hashes()) if there else self.adapter}"})

    def content(self) -> object:
        return {"settings": self.model_dump(mode="json", exclude={"adapter"}), "adapter": self.hashes()}


@dataclass
class RewardModel:
    """Asks for one score."""

    settings: Settings
    compares: bool = False

    def ask(self, ballot: Ballot) -> tuple[Question, ...]:
        (reply,) = ballot.texts
        messages = (*ballot.messages, Message(role="assistant", content=clean(reply)))
        return (Scalar(model=self.settings.model, messages=messages, adapter=self.settings.adapter),)

    def read(self, ballot: Ballot, answers: Sequence[Answer]) -> Rating:
        (answer,) = answers
        score = score_of(answer)
        how = f"logistic(raw / {score.deviation!r})"
        return Rating(score=logistic(score.raw / score.deviation), raw=score.raw, normalised=how)


def open(settings: Settings, *, tools: JudgeTools) -> RewardModel:
    settings.hashes()  # what is missing is said before anything is asked
    return RewardModel(settings)
