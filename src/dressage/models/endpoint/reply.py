"""Reads an endpoint's reply: JSON text → words, label probabilities, or the reason why there are none."""

import math
from collections.abc import Sequence

from pydantic import BaseModel, Field, ValidationError

from dressage.protocols import Completion, Distribution, Trouble
from dressage.records import Usage
from dressage.tokens import spoken

UNKNOWN_SHARE = 0.01
"""Probability that may hide in labels the server did not list, as a share of the labels' mass."""
SPACES = ("", " ", "▁", "Ġ")
"""How servers write the blank before a label."""


class _Listed(BaseModel):
    token: str
    logprob: float = Field(le=0.001)  # which also refuses NaN; rounding may lift a 0 a little


class _Position(BaseModel):
    top_logprobs: list[_Listed] = Field(default_factory=list)


class _Logprobs(BaseModel):
    content: list[_Position] | None = None


class _Said(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Said
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Used(BaseModel):
    prompt_tokens: int = Field(0, ge=0)
    completion_tokens: int = Field(0, ge=0)


class Reply(BaseModel):
    """The part of a chat completion that is read here; servers add fields of their own."""

    model: str | None = None
    choices: list[_Choice]
    usage: _Used | None = None


def parse(text: str) -> Reply | Trouble:
    """A reply, or `garbled` where the body is not one."""
    try:
        return Reply.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        return Trouble(reason="garbled", detail=f"not a chat completion: {place or 'body'}: {first['msg']}")


def completion(reply: Reply, usage: Usage) -> Completion | Trouble:
    """The words of the first choice, without any thinking."""
    if not reply.choices:
        return Trouble(reason="no choices", detail="the reply holds an empty list of choices")
    choice = reply.choices[0]
    finish, said = choice.finish_reason, choice.message
    if finish == "content_filter":
        return Trouble(reason="content filter", detail="the server withheld the reply")
    if said.refusal and not said.content:
        return Trouble(reason="refusal", detail=said.refusal[:200])
    if finish != "stop" and finish != "length":
        return Trouble(reason="unknown finish", detail=f"finish_reason {finish!r} is neither stop nor length")
    text = spoken(said.content or "")
    if not text and finish == "length":
        return Trouble(
            reason="cut before an answer",
            detail=f"{usage.written} tokens written, none of them an answer",
        )
    return Completion(text=text, finish=finish, usage=usage)


def distribution(reply: Reply, labels: Sequence[str], usage: Usage) -> Distribution | Trouble:
    """p(label) = sum over its spellings, of the first token's listed log-probabilities.

    A server lists its likeliest 20 or so tokens. A label that is not among them is unknown, not impossible:
    each of its two spellings may hold as much as the smallest listed one, and together no more than the rest.
    """
    positions = reply.choices[0].logprobs.content if reply.choices and reply.choices[0].logprobs else None
    if not positions or not positions[0].top_logprobs:
        return Trouble(
            reason="no log-probabilities",
            detail="the reply has no top_logprobs; set `labels: false` for this model",
        )
    listed = [(entry.token, math.exp(min(entry.logprob, 0.0))) for entry in positions[0].top_logprobs]
    found = {label: [p for token, p in listed if token in _spellings(label)] for label in labels}
    probabilities = {label: sum(ps) for label, ps in found.items()}
    rest = max(0.0, 1.0 - sum(p for _, p in listed))
    missing = [label for label, ps in found.items() if not ps]
    bound = min(rest, 2 * len(missing) * min(p for _, p in listed))
    mass = sum(probabilities.values())
    if bound > UNKNOWN_SHARE * mass:
        return Trouble(
            reason="labels not listed",
            detail=f"{', '.join(missing)} may hold up to {bound:.3g} beside a mass of {mass:.3g}",
        )
    return Distribution(probabilities=probabilities, usage=usage)


def _spellings(label: str) -> frozenset[str]:
    return frozenset(space + label for space in SPACES)
