"""One request to a vLLM server: its deadline, its bounded retries, what its answers mean before they are read."""

import asyncio
import os
import random
import re
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

import openai

from dressage.models.local.vllm import Settings
from dressage.models.local.vllm.stops import ServerAway, ServerRefused

CONNECT_S = 10.0
"""Patience with a host that does not even accept a connection."""
BUSY = frozenset({429, 500, 502, 503, 504})
"""Statuses after which the same request may be answered."""
GAVE_UP = 408
"""Our own status for a deadline that passed. It is not asked again: that would only add to the server's work."""


class Answer(NamedTuple):
    """What the server said in the end; 200 is good."""

    status: int
    text: str


class Wire:
    """A connection pool to the server, for the length of an `async with`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._key = _key(settings)
        self._options: Any = {} if self._key else {"headers": {"Authorization": openai.Omit()}}

    async def __aenter__(self) -> Self:
        settings = self._settings
        self._client = openai.AsyncOpenAI(
            base_url=settings.base_url,
            api_key=self._key or "none",
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(
                base_url=settings.base_url,
                follow_redirects=False,
                timeout=openai.Timeout(settings.timeout_s, connect=min(CONNECT_S, settings.timeout_s)),
            ),
        )
        # The client would take these from its environment, and tell every server whose customer we are.
        self._client.organization = self._client.project = None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def ask(self, path: str, body: Mapping[str, Any] | None = None, *, attempts: int | None = None) -> Answer:
        """The answer to a GET, or to a POST of `body`; a busy server is asked again, `attempts` times at most.

        Raises:
            ServerAway: nobody answers.
            ServerRefused: it wants another key.
        """
        tries = attempts or self._settings.attempts
        for attempt in range(1, tries + 1):
            try:
                answer = await self._once(path, body)
            except openai.APIConnectionError as error:
                if attempt == tries:
                    raise self._away(error, tries) from error
            else:
                if answer.status not in BUSY or attempt == tries:
                    return self._let_in(answer)
            await asyncio.sleep(self._settings.backoff_s * 2.0 ** (attempt - 1) * random.uniform(0.5, 1.0))
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _once(self, path: str, body: Mapping[str, Any] | None) -> Answer:
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                if body is None:
                    return Answer(200, await self._client.get(path, cast_to=str, options=self._options))
                return Answer(200, await self._client.post(path, cast_to=str, body=dict(body), options=self._options))
        except openai.APIStatusError as error:
            return Answer(error.status_code, error.response.text)
        except (TimeoutError, openai.APITimeoutError) as error:
            if type(error.__cause__).__name__ == "ConnectTimeout":
                raise
            return Answer(GAVE_UP, f"no whole reply within {self._settings.timeout_s:g} s")

    def _away(self, error: openai.APIConnectionError, attempts: int) -> ServerAway:
        why = self.clean(f"{type(error.__cause__).__name__}: {error.__cause__}")
        return ServerAway(
            f"nobody answers at {self._settings.base_url}: {why} (after {attempts} attempts). Start the server or "
            "correct sampler.base_url, then run the same command again: what was committed is kept"
        )

    def _let_in(self, answer: Answer) -> Answer:
        if answer.status in (401, 403):
            env = self._settings.key_env
            key = f"check the key in the environment variable {env}" if env else "name its variable in sampler.key_env"
            raise ServerRefused(
                f"{self._settings.base_url} answers HTTP {answer.status} ({self.clean(answer.text)}); {key}"
            )
        return answer

    def clean(self, text: str) -> str:
        """Foreign text for an error: no key, no control characters, not long."""
        hidden = text.replace(self._key, "[key]") if self._key else text
        return re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", hidden).strip()[:400]


def _key(settings: Settings) -> str | None:
    if settings.key_env is None:
        return None
    key = os.environ.get(settings.key_env, "")
    place = f"the environment variable {settings.key_env}, which should hold the key for {settings.base_url},"
    if not key:
        raise ServerRefused(f"{place} is not set; export it, or set sampler.key_env: null where no key is needed")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ServerRefused(f"{place} holds blanks or characters that no HTTP header may carry; export it again")
    return key
