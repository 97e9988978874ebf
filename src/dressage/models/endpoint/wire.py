"""One question to an OpenAI-compatible server: the request, its deadline, its bounded retries, its errors."""

import asyncio
import email.utils
import itertools
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import openai

from dressage.models.endpoint import Settings
from dressage.models.endpoint.budget import NOTHING, Ledger, priced, worst_case
from dressage.models.endpoint.reply import Reply, parse
from dressage.models.endpoint.stops import EndpointDown, EndpointRefused, EndpointStopped, WrongModel
from dressage.protocols import Trouble
from dressage.records import Usage

CONNECT_S = 10.0
"""Patience with a host that does not even accept a connection."""


@dataclass(frozen=True)
class Setback:
    """An attempt without a reply: whether to try again, after how long, whether it may have been billed."""

    trouble: Trouble
    again: bool = True
    wait_s: float = 0.0
    maybe_billed: bool = False
    unreachable: bool = False
    stop: EndpointStopped | None = None


class Wire:
    """A connection pool to one server, with what was learned of its health. Lives in one event loop."""

    def __init__(self, settings: Settings, *, key: str | None, ledger: Ledger) -> None:
        self._settings = settings
        self._key = key
        self._ledger = ledger
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._resume_at = 0.0
        self._was_there = False
        self._unreached = 0
        self._options: Any = {} if key else {"headers": {"Authorization": openai.Omit()}}
        self._client = openai.AsyncOpenAI(
            base_url=settings.base_url,
            api_key=key or "none",
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(
                base_url=settings.base_url,
                follow_redirects=False,
                timeout=openai.Timeout(settings.timeout_s, connect=min(CONNECT_S, settings.timeout_s)),
            ),
        )
        # The client would take these from its environment, and tell every server whose customer we are.
        self._client.organization = settings.organization
        self._client.project = settings.project

    async def close(self) -> None:
        await self._client.close()

    async def ask(self, body: Mapping[str, Any]) -> tuple[Reply, Usage] | Trouble:
        """A reply with what it used, or why there is none after all attempts.

        Raises:
            EndpointStopped: where asking on makes no sense.
        """
        async with self._slots:
            for attempt in itertools.count(1):
                await self._until_resumed()
                outcome, used = await self._budgeted(body)
                self._note_health(outcome)
                if isinstance(outcome, Reply):
                    self._check_name(outcome)
                    return outcome, used
                if outcome.stop:
                    raise outcome.stop
                if not outcome.again:
                    return outcome.trouble
                if attempt == self._settings.attempts:
                    return self._given_up(outcome)
                await asyncio.sleep(self._wait(attempt, outcome))
        raise AssertionError("unreachable: itertools.count never ends")

    async def _until_resumed(self) -> None:
        """Waits out a rate limit, and a longer one that is learned of meanwhile."""
        while (left_s := self._resume_at - time.monotonic()) > 0:
            await asyncio.sleep(left_s)

    async def _budgeted(self, body: Mapping[str, Any]) -> tuple[Reply | Setback, Usage]:
        """One attempt, with its worst case set aside before it and its use booked after it."""
        worst = worst_case(self._settings, body)
        await self._ledger.reserve(worst)
        booked: Usage | None = None  # what is cut off may have been billed
        try:
            outcome = await self._once(body)
            if isinstance(outcome, Setback):
                booked = None if outcome.maybe_billed else NOTHING
            elif outcome.usage:
                booked = priced(self._settings, outcome.usage.prompt_tokens, outcome.usage.completion_tokens)
        finally:
            await self._ledger.settle(worst, booked)
        return outcome, booked or NOTHING

    async def _once(self, body: Mapping[str, Any]) -> Reply | Setback:
        """One request under one deadline: a server that drips a byte a second is cut, too."""
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                text = await self._client.post("/chat/completions", cast_to=str, body=dict(body), options=self._options)
        except openai.APIStatusError as error:
            return self._status(error.status_code, error.response.headers, error.response.text)
        except openai.APIConnectionError as error:
            return self._broken(error)
        except TimeoutError:
            return self._timeout()
        reply = parse(text)
        return Setback(reply, maybe_billed=True) if isinstance(reply, Trouble) else reply

    # ------------------------------------------------------------ what went wrong

    def _timeout(self) -> Setback:
        detail = f"no whole reply within {self._settings.timeout_s:g} s"
        return Setback(Trouble(reason="timeout", detail=detail), maybe_billed=True)

    def _broken(self, error: openai.APIConnectionError) -> Setback:
        cause = error.__cause__
        if isinstance(error, openai.APITimeoutError) and type(cause).__name__ != "ConnectTimeout":
            return self._timeout()
        detail = self.clean(f"{type(cause).__name__}: {cause}")
        never_sent = type(cause).__name__ in ("ConnectError", "ConnectTimeout")
        reason = "unreachable" if never_sent else "connection lost"
        trouble = Trouble(reason=reason, detail=detail)
        return Setback(trouble, maybe_billed=not never_sent, unreachable=never_sent)

    def _status(self, status: int, headers: Mapping[str, str], text: str) -> Setback:
        where, said = self._settings.base_url, self.clean(text)
        if status == 429 or status == 408 or status >= 500:
            wait_s = _retry_after(headers)
            if status == 429:  # all requests share the limit, so all wait
                asked = time.monotonic() + min(wait_s, self._settings.timeout_s)
                self._resume_at = max(self._resume_at, asked)  # of several, the longest holds
            reason = "rate limited" if status == 429 else "server error"
            return Setback(Trouble(reason=reason, detail=f"HTTP {status}: {said}"), wait_s=wait_s)
        if 300 <= status < 400:
            target = self.clean(headers.get("location", "nowhere"))
            return _stopped(f"{where} redirects to {target}; redirects are not followed: give the final one")
        if status in (401, 403, 404):
            return _stopped(self._refusal(status, said))
        return Setback(Trouble(reason="refused request", detail=f"HTTP {status}: {said}"), again=False)

    def _refusal(self, status: int, said: str) -> str:
        env = self._settings.key_env
        key = f"the key in the environment variable {env}" if env else "key_env (null: no key was sent)"
        ways = {
            401: f"check {key}",
            403: f"check {key} and what it may use",
            404: f"check base_url (it usually ends in /v1) and the model name {self._settings.model!r}",
        }
        return f"{self._settings.base_url} answers HTTP {status} ({said}); {ways[status]}"

    def _check_name(self, reply: Reply) -> None:
        asked = self._settings.model
        wanted, found = self._settings.expects or asked, self.clean(reply.model or "")
        if wanted != "any" and wanted != reply.model:
            raise WrongModel(
                f"{self._settings.base_url} was asked for {asked!r} and {found or 'no name'!r} answered, not "
                f"{wanted!r}; if that is right, set expects: {found or 'any'!r} (`any` checks nothing)"
            )

    def _note_health(self, outcome: Reply | Setback) -> None:
        if isinstance(outcome, Reply) or not outcome.unreachable:
            self._was_there, self._unreached = True, 0

    def _given_up(self, last: Setback) -> Trouble:
        """The trouble of the last attempt; or a stop, where nobody has ever been there or all have left."""
        tries = f"{last.trouble.detail} (after {self._settings.attempts} attempts)"
        if last.unreachable:
            self._unreached += 1
            if not self._was_there or self._unreached >= 2 * self._settings.concurrency:
                raise EndpointDown(
                    f"nobody answers at {self._settings.base_url}: {tries}; start the server or correct "
                    "base_url, then run the same command again: what was answered is kept"
                )
        return Trouble(reason=last.trouble.reason, detail=tries)

    def _wait(self, attempt: int, last: Setback) -> float:
        """Seconds: exponential with jitter, at least what the server asked for, at most one deadline."""
        backoff = self._settings.backoff_s * 2.0 ** (attempt - 1) * random.uniform(0.5, 1.0)
        return min(max(backoff, last.wait_s), self._settings.timeout_s)

    def clean(self, text: str) -> str:
        """Foreign text for an error: no key (servers quote it back), no control characters, not long."""
        hidden = text.replace(self._key, "[key]") if self._key else text
        return re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", hidden).strip()[:300]


def _stopped(message: str) -> Setback:
    return Setback(Trouble(reason="refused"), again=False, stop=EndpointRefused(message))


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds the server asks to wait: a number or a date; 0 where it asks for nothing readable."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", value):
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0
