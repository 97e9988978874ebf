"""An OpenAI-compatible server on loopback that misbehaves as told, and remembers what it was asked."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

MODEL = "a-model"
Act = Callable[[web.Request], Awaitable[web.StreamResponse]]
Script = Callable[[int, dict[str, Any]], Act]
"""From the number of the request (from 0) and its body to what the server does."""


class FaultServer:
    """Its address, and what it saw: bodies, headers, and how many requests were in flight at most."""

    def __init__(self, script: Script) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most_in_flight = 0
        self.base_url = ""
        self._script = script
        self._in_flight = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        nth = len(self.bodies)
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            return await self._script(nth, body)(request)
        finally:
            self._in_flight -= 1


@contextmanager
def serving(script: Script) -> Iterator[FaultServer]:
    """A server in a thread of its own, until the block ends."""
    server, loop, ready = FaultServer(script), asyncio.new_event_loop(), threading.Event()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        ready.set()

    def run() -> None:
        loop.create_task(start())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def reply(text: str | None, **over: Any) -> dict[str, Any]:
    """A chat completion of 10 tokens read and 2 written; fields of the choice or the whole may be replaced."""
    choice: dict[str, Any] = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": text},
    }
    whole: dict[str, Any] = {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
    }
    for name, value in over.items():
        if name in ("finish_reason", "message", "logprobs"):
            choice[name] = value
        else:
            whole[name] = value
    return {"choices": [choice], **whole}


def says(text: str | None, *, after_s: float = 0.0, **over: Any) -> Act:
    async def act(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(after_s)
        return web.json_response(reply(text, **over))

    return act


def status(code: int, message: str = "no", **headers: str) -> Act:
    async def act(request: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response({"error": {"message": message}}, status=code, headers=named)

    return act


def garbage(text: str) -> Act:
    async def act(request: web.Request) -> web.StreamResponse:
        return web.Response(text=text, content_type="application/json")

    return act


def drips(text: str) -> Act:
    """One byte a second: never silent for long, and never done."""

    async def act(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for byte in json.dumps(reply(text)).encode():
            await response.write(bytes([byte]))
            await asyncio.sleep(1.0)
        return response

    return act


def hangs_up(request: web.Request) -> Awaitable[web.StreamResponse]:
    """Promises a long body and closes the connection in the middle of it."""

    async def act() -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100000"})
        await response.prepare(request)
        await response.write(b'{"choices": [')
        assert request.transport is not None
        request.transport.abort()
        return response

    return act()
