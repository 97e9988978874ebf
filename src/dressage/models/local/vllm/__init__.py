"""Settings of a vLLM server that draws for a local model; imports no torch."""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from dressage.records import Frozen


class Settings(Frozen):
    """A vLLM server with the same weights: it draws, the local model trains and scores.

    It is started with `--enable-lora --logprobs-mode processed_logprobs` and, in its environment,
    VLLM_ALLOW_RUNTIME_LORA_UPDATING=True: adapters are loaded as roles wear them. Such a server trusts whoever
    reaches it, so it belongs on loopback or in a network of one's own.
    """

    kind: Literal["vllm"] = "vllm"
    base_url: str
    """Where the server is, e.g. http://127.0.0.1:8000; http or https, no user, password, query or fragment."""
    model: str = Field(min_length=1)
    """The name that the server gives the plain base: its --served-model-name, else what it was started with."""
    version: str = Field(min_length=1)
    """The version of vLLM that draws, as the server's /version says it; another one is another sampler."""
    key_env: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """The name of the environment variable that holds the server's --api-key (never the key); null: it has none."""
    adapters: str | None = Field(None, min_length=1)
    """A folder that the server reads under the same path: what a role wears is copied there. null: adapters are read
    where they lie, that of a policy in training from a temporary folder of this machine."""
    agrees_within: float = Field(0.1, gt=0, le=10)
    """How far, in nats a token on average, the server's log-probabilities may be from the local model's on a reply
    that is drawn before all others; more is another model or adapter. Float32 on both sides differs by some 1e-5,
    bfloat16 on one by up to 0.05."""
    concurrency: int = Field(128, ge=1, le=1000)
    """Draws in flight at most; the server queues what its --max-num-seqs does not hold."""
    timeout_s: float = Field(600, gt=0, le=86400)
    """Deadline of one draw, the wait in the server's queue included."""
    attempts: int = Field(5, ge=1, le=20)
    """How often a draw is asked for at most, where the server is busy, away or broken."""
    backoff_s: float = Field(1.0, ge=0, le=60)
    """Wait before the second attempt; doubles each time and is jittered."""

    @field_validator("base_url")
    @classmethod
    def _plain_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"must be an http or https address such as http://127.0.0.1:8000, not {parts.scheme}:…")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise ValueError("must hold no user, password, query or fragment; a key belongs in key_env's variable")
        return value.rstrip("/").removesuffix("/v1")

    def content(self) -> object:
        """What can change a draw: not where the server stands, nor pace and patience."""
        return self.model_dump(mode="json", include={"kind", "model", "version"})
