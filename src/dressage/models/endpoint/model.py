"""Asks an OpenAI-compatible server many questions at once: an event loop of its own behind plain calls."""

import asyncio
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from dressage.accounts import Account
from dressage.models.endpoint import Settings
from dressage.models.endpoint.budget import Ledger
from dressage.models.endpoint.reply import Reply, completion, distribution
from dressage.models.endpoint.stops import EndpointStopped, MissingKey, OverBudget
from dressage.models.endpoint.wire import Wire
from dressage.protocols import Completion, Conversation, Distribution, Done, Sampling, Trouble, Vector
from dressage.records import Message, Usage, content_hash
from dressage.store import StoreError

T = TypeVar("T")
Body = Mapping[str, Any]
Read = Callable[[int, Reply, Usage], T | Trouble]

TOP_LOGPROBS = 20
"""As many as servers give."""


def open(settings: Settings, *, account: Account | None = None) -> "Endpoint":
    """A model ready to be asked; nothing is sent yet. `account` says what the run used up of its limits before.

    Raises:
        MissingKey: where the environment lacks the key.
    """
    return Endpoint(settings, key=_key(settings), account=account or Account())


def _key(settings: Settings) -> str | None:
    if settings.key_env is None:
        return None
    key = os.environ.get(settings.key_env, "")
    place = f"the environment variable {settings.key_env}, which should hold the key for {settings.base_url},"
    if not key:
        raise MissingKey(f"{place} is not set; export it, or set key_env: null where no key is needed")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise MissingKey(f"{place} holds blanks or characters that no HTTP header may carry; export it again")
    return key


class Endpoint:
    """See protocols.Model. One thread runs the event loop; answers are handed to `done` in the caller's."""

    paid = True

    def __init__(self, settings: Settings, *, key: str | None, account: Account) -> None:
        self.fingerprint = content_hash({"code_version": settings.code_version, "content": settings.content()})
        self._settings = settings
        self._account = account
        self._wire = Wire(settings, key=key, ledger=Ledger(settings, account=account))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="dressage-endpoint", daemon=True)
        self._thread.start()

    @property
    def spent(self) -> Usage:
        """The run's tokens and cost here so far, those of unreadable replies included."""
        return self._account.spent

    def complete(
        self, conversations: Sequence[Conversation], *, sampling: Sampling, seeds: Sequence[int], done: Done
    ) -> list[Completion | Trouble]:
        """Replies in the order asked.

        Raises:
            EndpointStopped: where asking on makes no sense; answers had by then were handed to `done`.
        """
        bodies = [
            self._body(
                conversation,
                tokens=sampling.max_new_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                **({"seed": seed % 2**31} if self._settings.send_seed else {}),
            )
            for conversation, seed in zip(conversations, seeds, strict=True)
        ]
        return self._ask_all(bodies, lambda _, reply, usage: completion(reply, usage), done)

    def label_probabilities(
        self, conversations: Sequence[Conversation], labels: Sequence[tuple[str, ...]], *, done: Done
    ) -> list[Distribution | Trouble]:
        """Probabilities of the first token of each reply, at temperature 1; a begun answer goes where `label_cue` says.

        Raises:
            ValueError: where the settings say that the server gives none.
        """
        if not self._settings.labels:
            raise ValueError(
                f"{self._settings.identity()} gives no label probabilities; set `labels: true` if its server "
                "answers top_logprobs, or let its words be parsed"
            )
        offered = list(labels)
        bodies = [self._label_body(c) for c, _ in zip(conversations, offered, strict=True)]
        return self._ask_all(bodies, lambda i, reply, usage: distribution(reply, offered[i], usage), done)

    def embed(self, texts: Sequence[str], *, done: Done) -> list[Vector | Trouble]:
        raise ValueError(f"{self._settings.identity()} gives words only; embeddings need `kind: embedder`")

    def prompt_tokens(self, conversation: Conversation) -> int | None:
        return None

    def context(self) -> int | None:
        return None

    def close(self) -> None:
        """Closes the connections and ends the thread; a second call does nothing."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._wire.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # ------------------------------------------------------------ asking

    def _body(self, conversation: Conversation, *, tokens: int, **fields: object) -> Body:
        ours = {
            "model": self._settings.model,
            "messages": [m.model_dump() for m in conversation],
            self._settings.token_limit: tokens,
            **fields,
        }
        return {k: v for k, v in {**ours, **self._settings.extra_body}.items() if v is not None}

    def _label_body(self, conversation: Conversation) -> Body:
        ask = partial(self._body, tokens=1, temperature=1.0, logprobs=True, top_logprobs=TOP_LOGPROBS)
        if conversation[-1].role != "assistant":
            return ask(conversation)
        if self._settings.label_cue == "asked":
            return ask(_with_the_cue_asked(conversation))
        return ask(conversation, add_generation_prompt=False, continue_final_message=True)

    def _ask_all(self, bodies: Sequence[Body], read: Read[T], done: Done) -> list[T | Trouble]:
        """Asks in the loop's thread, and hands each answer to `done` here, as it comes."""
        arrived: queue.SimpleQueue[tuple[int, T | Trouble] | None] = queue.SimpleQueue()
        work = asyncio.run_coroutine_threadsafe(self._work(bodies, read, arrived.put), self._loop)
        work.add_done_callback(lambda _: arrived.put(None))
        answers: dict[int, T | Trouble] = {}
        try:
            while (item := arrived.get()) is not None:
                answers[item[0]] = item[1]
                done(*item)
        finally:
            work.cancel()  # does nothing to what is finished; ends it where `done` failed or Ctrl-C came
        work.result()
        return [answers[index] for index in range(len(bodies))]

    async def _work(
        self, bodies: Sequence[Body], read: Read[T], put: Callable[[tuple[int, T | Trouble]], None]
    ) -> None:
        """As many workers as may ask at once, all taking from one pile."""
        pile = iter(list(enumerate(bodies)))
        stops: list[EndpointStopped | StoreError] = []

        async def worker() -> None:
            for index, body in pile:
                try:
                    put((index, await self._answer(index, body, read)))
                except OverBudget as stop:
                    stops.append(stop)
                if stops:  # nothing new begins, but what is in flight is paid for and comes home
                    return

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._settings.concurrency, len(bodies))):
                    group.create_task(worker())
        except* (EndpointStopped, StoreError) as several:
            stops.extend(s for s in several.exceptions if isinstance(s, EndpointStopped | StoreError))
        if stops:
            raise stops[-1]

    async def _answer(self, index: int, body: Body, read: Read[T]) -> T | Trouble:
        if any(_unsendable(message["content"]) for message in body["messages"]):
            return Trouble(reason="not text", detail="the question holds half a surrogate pair")
        began = time.monotonic()
        outcome = await self._wire.ask(body)
        if isinstance(outcome, Trouble):
            return outcome
        answer = read(index, *outcome)
        if isinstance(answer, Trouble):
            return Trouble(reason=answer.reason, detail=self._wire.clean(answer.detail))
        if isinstance(answer, Completion):
            return answer.model_copy(update={"seconds": round(time.monotonic() - began, 3)})
        return answer


def _with_the_cue_asked(conversation: Conversation) -> list[Message]:
    """The conversation with its begun answer as the last line of what the user says.

    A chat server would close an assistant's turn and begin a new one, so that the label no longer comes next.
    """
    *before, cue = conversation
    if not before or before[-1].role != "user":
        return [*before, Message(role="user", content=cue.content)]
    *above, asked = before
    return [*above, Message(role="user", content=f"{asked.content}\n\n{cue.content}")]


def _unsendable(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
