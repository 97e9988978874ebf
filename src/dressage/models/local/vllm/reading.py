"""What a vLLM server's answers say: the tokens of a draw, the models it serves, why it refuses."""

import json
from collections.abc import Collection
from typing import Annotated, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from dressage.protocols import Trouble
from dressage.records import Finish

Logprob = Annotated[float, Field(le=0.001)]
"""Which also refuses NaN; rounding may lift a 0 a little."""


class _Logprobs(BaseModel):
    token_logprobs: list[Logprob]


class _Choice(BaseModel):
    token_ids: list[int] = Field(min_length=1)
    logprobs: _Logprobs
    finish_reason: str | None


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)


class Drawn(NamedTuple):
    """A reply as ids, the one that ended it included, and the log-probability (nats) of each as it was drawn."""

    token_ids: list[int]
    logprobs: list[float]
    finish: Finish


def drawn(text: str, *, ends: Collection[int]) -> Drawn | Trouble:
    """The reply in a completion; `ends` are the ids that may end one."""
    try:
        choice = _Completion.model_validate_json(text).choices[0]
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        return Trouble(
            reason="garbled",
            detail=f"not a completion of ids and log-probabilities: {place or 'body'}: {first['msg']}",
        )
    ids, logprobs = choice.token_ids, choice.logprobs.token_logprobs
    if len(ids) != len(logprobs):
        return Trouble(reason="garbled", detail=f"{len(ids)} tokens with {len(logprobs)} log-probabilities")
    match choice.finish_reason:
        case "length":
            return Drawn(ids, logprobs, "length")
        case "stop" if ids[-1] in ends:
            return Drawn(ids, logprobs, "stop")
        case "stop":
            return Trouble(reason="unknown finish", detail=f"it stopped after token {ids[-1]}, which ends no reply")
        case other:
            return Trouble(reason="unknown finish", detail=f"finish_reason {other!r} is neither stop nor length")


class _Model(BaseModel):
    id: str
    parent: str | None = None
    max_model_len: int | None = None


class _Models(BaseModel):
    data: list[_Model]


class _Version(BaseModel):
    version: str


def version(text: str) -> str:
    """What /version says.

    Raises:
        ValueError: it is no vLLM server's.
    """
    return _Version.model_validate_json(text).version


def bases(text: str) -> dict[str, int | None]:
    """Every served model that is no adapter, with its longest text in tokens.

    Raises:
        ValueError: it is no vLLM server's.
    """
    return {model.id: model.max_model_len for model in _Models.model_validate_json(text).data if model.parent is None}


def complaint(text: str) -> str:
    """The message in an error's body, else the body."""
    try:
        body = json.loads(text)
        return str(body["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text
