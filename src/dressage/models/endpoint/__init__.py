"""Settings of a model behind any OpenAI-compatible server (vLLM, llama.cpp, a vendor); they hold no key."""

from typing import ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, JsonValue, field_validator, model_validator

from dressage.protocols import ModelSettings
from dressage.records import Frozen

OURS = frozenset({"model", "messages", "stream", "n", "logprobs", "top_logprobs", "seed"})
CAPS = frozenset({"max_tokens", "max_completion_tokens"})
"""Fields that decide how a reply is read and what it can cost, so `extra_body` may not touch them."""


class Price(Frozen):
    """What tokens cost, in any currency, as long as it is the same throughout a run."""

    read: float = Field(ge=0)
    """Per million tokens read."""
    written: float = Field(ge=0)
    """Per million tokens written, thinking included."""

    def of(self, read: int, written: int) -> float:
        return (self.read * read + self.written * written) / 1e6


class Settings(ModelSettings):
    """A model behind an OpenAI-compatible server."""

    chats: ClassVar[bool] = True
    spends: ClassVar[bool] = True
    """Whoever opens it hands over the run's account at `identity()`."""
    code_version: ClassVar[int] = 2

    kind: Literal["endpoint"] = "endpoint"
    base_url: str
    """Where the server is, usually ending in /v1; http or https, no user, password, query or fragment."""
    model: str = Field(min_length=1)
    """The name the server knows the model by."""
    key_env: str | None = Field("OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """The name of the environment variable that holds the key (never the key); null: no key is needed."""
    organization: str | None = Field(None, min_length=1)
    """Sent as OpenAI-Organization; null: not sent, whatever the environment says."""
    project: str | None = Field(None, min_length=1)
    """Sent as OpenAI-Project; null: not sent, whatever the environment says."""
    concurrency: int = Field(8, ge=1, le=1024)
    """Requests in flight at most."""
    timeout_s: float = Field(120, gt=0, le=3600)
    """Deadline of one request from connecting to the last byte, and the longest wait before the next try."""
    attempts: int = Field(4, ge=1, le=20)
    """How often a question is asked at most, where the server is busy, silent or broken."""
    backoff_s: float = Field(0.5, ge=0, le=60)
    """Wait before the second attempt; doubles each time, is jittered; a longer `Retry-After` is obeyed."""
    price: Price | None = None
    """What a million tokens cost; null: costs are not counted."""
    max_cost: float | None = Field(None, gt=0)
    """The run stops before it spends more than this here, in the currency of `price`: all its stages and attempts
    together, as runs/<name>/spending.jsonl has it. Runs of several seeds are several runs."""
    max_tokens_total: int | None = Field(None, ge=1)
    """The run stops before more tokens than this are read and written; counted in the same way."""
    expects: str | None = Field(None, min_length=1)
    """The model name every reply must carry; null: the same as `model`; `any`: not checked."""
    labels: bool = False
    """Whether the server gives `top_logprobs`, so that it can judge in one forward pass."""
    label_cue: Literal["asked", "continued"] = "asked"
    """Where a judge's begun answer (`Score:`) goes with `labels`: `asked`, at the end of the question, as any server
    understands; `continued`, as the open beginning of the reply (vLLM, SGLang: continue_final_message)."""
    send_seed: bool = True
    """Sends each draw's seed, cut to 31 bits; false for servers that refuse the field."""
    token_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The name of the field that caps a reply; reasoning models of some vendors want the second."""
    extra_body: dict[str, JsonValue] = Field(default_factory=dict)
    """Further fields of each request, over ours; a null leaves one of ours out, e.g. {top_p: null}."""

    @field_validator("base_url")
    @classmethod
    def _plain_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"must be an http or https address such as http://localhost:8000/v1, not {parts.scheme}:…")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise ValueError("must hold no user, password, query or fragment; a key belongs in key_env's variable")
        return value.rstrip("/")

    @field_validator("extra_body")
    @classmethod
    def _leaves_ours(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if taken := sorted((OURS | CAPS) & value.keys()):
            raise ValueError(f"may not set {', '.join(taken)}: how a reply is read or capped depends on it")
        return value

    @model_validator(mode="after")
    def _cost_has_a_price(self) -> Self:
        if self.max_cost is not None and self.price is None:
            raise ValueError("max_cost needs price: {read: …, written: …}; or limit max_tokens_total")
        return self

    def gives_labels(self) -> bool:
        """Whether this one gives next-token probabilities of labels."""
        return self.labels

    def identity(self) -> str:
        return f"{self.base_url}#{self.model}"

    def content(self) -> object:
        """What can change an answer: not the key's variable, nor pace, patience, prices and limits."""
        kept = {"kind", "base_url", "model", "expects", "labels", "label_cue", "send_seed", "token_limit", "extra_body"}
        return self.model_dump(mode="json", include=kept)
