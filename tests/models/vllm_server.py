"""A server on loopback that speaks as vLLM 0.32 does and draws with a local model; faults on request.

Statuses, fields and messages are those that vLLM 0.32 (the CPU build) gave: adapters by name and path, ids in and
out, log-probabilities after the temperature unless told otherwise.
"""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from dressage.models.local import scoring
from dressage.models.local.model import LocalModel
from dressage.models.local.sampler import Draw, sample
from dressage.protocols import Sampling

VERSION, BASE = "0.32.0", "tiny"


@dataclass
class Likeness:
    """What the server is like, and what it was asked. `model` is what it draws with."""

    model: LocalModel
    version: str = VERSION
    max_model_len: int | None = 1024
    max_lora_rank: int = 16
    updates_adapters: bool = True
    applies_adapters: bool = True
    processed: bool = True
    """Whether log-probabilities are those after the temperature (--logprobs-mode processed_logprobs)."""
    key: str | None = None
    busy: int = 0
    """Completions that are answered with 503 before one is answered."""
    draws: bool = True
    """Whether it draws what is to be kept; the reply that nobody sees it draws anyway."""
    restarts_at: int | None = None
    """Before the completion of this number, from 0, it forgets every adapter, as a server started anew."""
    adapters: dict[str, Path] = field(default_factory=dict)
    loaded: list[str] = field(default_factory=list)
    unloaded: list[str] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of the completions it answered or refused, in order."""
    address: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    # ------------------------------------------------------------ routes

    async def show_version(self, request: web.Request) -> web.Response:
        return self._guarded(request) or web.json_response({"version": self.version})

    async def show_models(self, request: web.Request) -> web.Response:
        base = {"id": BASE, "object": "model", "root": "/m", "parent": None, "max_model_len": self.max_model_len}
        worn = [
            {"id": n, "object": "model", "root": str(p), "parent": BASE, "max_model_len": None}
            for n, p in self.adapters.items()
        ]
        return self._guarded(request) or web.json_response({"object": "list", "data": [base, *worn]})

    async def load(self, request: web.Request) -> web.Response:
        if not self.updates_adapters:
            return web.json_response({"detail": "Not Found"}, status=404)
        body = await request.json()
        name, path = body["lora_name"], Path(body["lora_path"])
        if not name:
            return _error(400, "Both 'lora_name' and 'lora_path' must be provided.")
        if name in self.adapters:
            return _error(400, f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in")
        if not (path / "adapter_config.json").is_file():
            return _error(404, f"Loading lora {name} failed: No adapter found for <path>")
        rank = json.loads((path / "adapter_config.json").read_text())["r"]
        if rank > self.max_lora_rank:
            why = f"LoRA rank {rank} is greater than max_lora_rank {self.max_lora_rank}."
            return _error(500, f"Call to add_lora method failed: Worker failed with error '{why}', please check")
        self.adapters[name] = path
        self.loaded.append(name)
        return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")

    async def unload(self, request: web.Request) -> web.Response:
        name = (await request.json())["lora_name"]
        if self.adapters.pop(name, None) is None:
            return _error(404, f"The lora adapter '{name}' cannot be found.")
        self.unloaded.append(name)
        return web.Response(text=f"Success: LoRA adapter '{name}' removed successfully.")

    async def complete(self, request: web.Request) -> web.Response:
        body = await request.json()
        if refused := self._guarded(request):
            return refused
        if self.busy > 0:
            self.busy -= 1
            return _error(503, "try again")
        if self.restarts_at is not None and len(self.asked) >= self.restarts_at:
            self.restarts_at = None
            self.adapters.clear()
        self.asked.append(body)
        if body["model"] != BASE and body["model"] not in self.adapters:
            return _error(404, f"The model `{body['model']}` does not exist. Valid aliases: {BASE}.")
        if not self.draws and "ignore_eos" not in body:
            return _error(500, "EngineCore encountered an issue. See stack trace (above) for the root cause.")
        return web.json_response(await asyncio.to_thread(self._drawn, body))

    def _guarded(self, request: web.Request) -> web.Response | None:
        if self.key is None or request.headers.get("Authorization") == f"Bearer {self.key}":
            return None
        return web.json_response({"error": "Unauthorized"}, status=401)

    # ------------------------------------------------------------ drawing

    def _drawn(self, body: dict[str, Any]) -> dict[str, Any]:
        worn = self.adapters.get(body["model"]) if self.applies_adapters else None
        backbone = self.model._backbone
        draw = Draw(0, tuple(body["prompt"]), body["seed"])
        heat = Sampling(temperature=body["temperature"], top_p=body["top_p"], max_new_tokens=body["max_tokens"])
        ends = frozenset() if body.get("ignore_eos") else frozenset(body["stop_token_ids"])
        with self.lock, backbone.role(worn) as module:
            limits = backbone.limits()
            sample(module, [draw], sampling=heat, ends=ends, within=(1, limits), finished=lambda one: None)
            if not self.processed:
                (draw.logprobs,) = scoring.reply_logprobs(
                    module, [draw.prompt], [draw.token_ids], temperature=1.0, limits=limits
                )
        logprobs = draw.logprobs if heat.temperature else draw.logprobs_at_1
        return {
            "id": "cmpl-0",
            "object": "text_completion",
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "text": "",
                    "finish_reason": draw.finish,
                    "stop_reason": None,
                    "token_ids": draw.token_ids if body["return_token_ids"] else None,
                    "logprobs": {"token_logprobs": logprobs, "tokens": [], "text_offset": [], "top_logprobs": []},
                }
            ],
            "system_fingerprint": f"vllm-{self.version}-00000000",
            "usage": {"prompt_tokens": len(draw.prompt), "completion_tokens": len(draw.token_ids)},
        }


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "x", "code": status}}, status=status)


@contextmanager
def serving(likeness: Likeness) -> Iterator[Likeness]:
    """The server in a thread of its own, until the block ends."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    app = web.Application()
    app.router.add_get("/version", likeness.show_version)
    app.router.add_get("/v1/models", likeness.show_models)
    app.router.add_post("/v1/load_lora_adapter", likeness.load)
    app.router.add_post("/v1/unload_lora_adapter", likeness.unload)
    app.router.add_post("/v1/completions", likeness.complete)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        likeness.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ready.set()

    def run() -> None:
        loop.create_task(start())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield likeness
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
