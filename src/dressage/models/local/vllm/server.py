"""A vLLM server that draws for a local model: greeted, checked against the model under what it wears, then drawn from.

Nothing is asked of it before the first draw: who only trains or scores needs no server.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from dressage.models.local.backbone import Backbone, Worn
from dressage.models.local.sampler import Draw
from dressage.models.local.vllm import Settings, reading
from dressage.models.local.vllm.agreement import DRAWN_FIRST, first_draw, gap
from dressage.models.local.vllm.stops import OtherSampler, SamplerStopped, ServerRefused
from dressage.models.local.vllm.wardrobe import LOAD, Wardrobe
from dressage.models.local.vllm.wire import GAVE_UP, Answer, Wire
from dressage.protocols import Sampling, Trouble

COMPLETIONS = "/v1/completions"
REASONS = {GAVE_UP: "timeout", 429: "rate limited"}

Told = Callable[[Draw, Trouble | None], None]
"""Called with each draw as it is done, and what went wrong with it, if anything."""


class Server:
    """One server for all roles of a local model; it remembers what was found to agree there."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._context: int | None = None
        self._known = False
        self._wardrobe = Wardrobe(settings)
        self._agreed: dict[tuple[str, float], float] = {}

    def context(self) -> int | None:
        """The longest text in tokens that it holds.

        Raises:
            SamplerStopped: it is away, or is not what the YAML says.
        """
        if not self._known:
            asyncio.run(self._introduced())
        return self._context

    def said(self) -> str:
        """Who draws, and how well it agreed so far."""
        gap = f", within {max(self._agreed.values()):.1g} nats a token of this model" if self._agreed else ""
        return f"vllm {self._settings.version}{gap}"

    def draw(
        self,
        backbone: Backbone,
        worn: Worn,
        *,
        draws: Sequence[Draw],
        sampling: Sampling,
        ends: Collection[int],
        told: Told,
    ) -> None:
        """Writes every draw to its end under what the role wears; `told` is called for each, in this thread.

        Raises:
            SamplerStopped: nothing more can be drawn; some may have been told.
        """
        if draws:
            asyncio.run(self._draw(backbone, worn, draws, _Asked(sampling, ends, told)))

    def close(self) -> None:
        """Takes off the server what was loaded there."""
        if self._known:
            asyncio.run(self._undressed())

    # ------------------------------------------------------------ drawing

    async def _draw(self, backbone: Backbone, worn: Worn, draws: Sequence[Draw], asked: "_Asked") -> None:
        async with Wire(self._settings) as wire:
            for _ in range(2):  # a server that was started anew meanwhile knows its adapters no more: once again
                name = await self._ready(wire, backbone, worn, heat=asked.sampling.temperature or 1.0)
                draws = await self._all(wire, name, draws, asked)
                if not draws:
                    return
                self._forget()
            raise ServerRefused(f"{self._settings.base_url} says again and again that it has no model {name!r}")

    async def _all(self, wire: Wire, name: str, draws: Sequence[Draw], asked: "_Asked") -> list[Draw]:
        """Draws from the model of that name; those it would not draw because it does not know the name come back."""
        pile, unknown = iter(draws), list[Draw]()

        async def worker() -> None:
            for draw in pile:
                answer = await self._one(wire, name, draw, asked)
                if isinstance(answer, Answer):
                    unknown.append(draw)
                else:
                    asked.told(draw, answer)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._settings.concurrency, len(draws))):
                    group.create_task(worker())
        except ExceptionGroup as several:
            raise several.exceptions[0] from several
        return unknown

    async def _one(self, wire: Wire, name: str, draw: Draw, asked: "_Asked") -> Answer | Trouble | None:
        """Fills in a draw; or its trouble; or the answer that there is no such model."""
        wanted = len(draw.prompt) + asked.sampling.max_new_tokens
        if self._context is not None and wanted > self._context:
            return Trouble(
                reason="prompt too long",
                detail=f"{len(draw.prompt)} tokens of prompt and {asked.sampling.max_new_tokens} of reply, in the "
                f"server's context of {self._context} (--max-model-len)",
            )
        answer = await wire.ask(COMPLETIONS, _body(name, draw, asked.sampling, asked.ends))
        if answer.status == 404:
            return answer
        if answer.status != 200:
            reason = REASONS.get(answer.status, "refused request" if answer.status < 500 else "server error")
            said = wire.clean(reading.complaint(answer.text))
            return Trouble(reason=reason, detail=f"HTTP {answer.status}: {said}")
        found = reading.drawn(answer.text, ends=asked.ends)
        if isinstance(found, Trouble):
            return found
        greedy = asked.sampling.temperature == 0  # as drawn, the likeliest token is certain
        draw.token_ids, draw.finish = found.token_ids, found.finish
        draw.logprobs = [0.0] * len(found.token_ids) if greedy else found.logprobs
        return None

    # ------------------------------------------------------------ who it is

    async def _introduced(self) -> None:
        async with Wire(self._settings) as wire:
            await self._greet(wire)

    async def _greet(self, wire: Wire) -> None:
        """The version at every draw; the model, its context and whether adapters may be loaded when it is new."""
        settings, where = self._settings, self._settings.base_url
        found = self._readable(reading.version, "/version", await wire.ask("/version"))
        if found != settings.version:
            raise OtherSampler(
                f"{where} runs vLLM {found}, and sampler.version says {settings.version}: another version is another "
                f"sampler. Start vLLM {settings.version}, or set sampler.version: {found!r} (what was drawn before is "
                "then drawn again)"
            )
        if self._known:
            return
        served = self._readable(reading.bases, "/v1/models", await wire.ask("/v1/models"))
        if settings.model not in served:
            raise ServerRefused(
                f"{where} serves no model {settings.model!r}; it has {', '.join(served) or 'none'}: correct "
                "sampler.model, or start it with --served-model-name"
            )
        # Without names nothing is loaded: where adapters may be, the answer is that names are missing.
        if (await wire.ask(LOAD, {"lora_name": "", "lora_path": ""}, attempts=1)).status == 404:
            raise ServerRefused(
                f"{where} takes no adapters while it runs: start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its "
                "environment and with --enable-lora"
            )
        self._context, self._known = served[settings.model], True

    def _readable(self, read: Callable[[str], Any], path: str, answer: Answer) -> Any:
        try:
            if answer.status == 200:
                return read(answer.text)
        except ValueError:
            pass  # what it answered is no vLLM server's, and is told below
        raise ServerRefused(
            f"{self._settings.base_url} answers {path} (HTTP {answer.status}) as no vLLM server does; correct "
            "sampler.base_url (without /v1), or use kind: endpoint for another server"
        )

    def _forget(self) -> None:
        self._known = False
        self._wardrobe.forget()
        self._agreed.clear()

    async def _ready(self, wire: Wire, backbone: Backbone, worn: Worn, *, heat: float) -> str:
        """The name to draw under, once its base and what the role wears were found to be the local model's."""
        await self._greet(wire)
        await self._agree(wire, backbone, None, self._settings.model, heat=heat)
        name = await self._wardrobe.dressed(wire, backbone, worn)
        await self._agree(wire, backbone, worn, name, heat=heat)
        return name

    async def _agree(self, wire: Wire, backbone: Backbone, worn: Worn, name: str, *, heat: float) -> None:
        """Draws a reply that nobody sees and compares what both sides make of it.

        Raises:
            OtherSampler: they are further apart than `agrees_within`.
        """
        if (name, heat) in self._agreed:
            return
        draw = first_draw(backbone)
        body = _body(name, draw, Sampling(temperature=heat, max_new_tokens=DRAWN_FIRST), ())
        answer = await wire.ask(COMPLETIONS, {**body, "ignore_eos": True})
        found = reading.drawn(answer.text, ends=()) if answer.status == 200 else None
        if not isinstance(found, reading.Drawn):
            said = found.detail if found else wire.clean(reading.complaint(answer.text))
            raise ServerRefused(f"{self._settings.base_url} draws nothing as {name!r} (HTTP {answer.status}): {said}")
        self._agreed[name, heat] = gap(self._settings, backbone, worn, prompt=draw.prompt, found=found, heat=heat)

    async def _undressed(self) -> None:
        try:
            async with Wire(self._settings) as wire:
                await self._wardrobe.emptied(wire)
        except SamplerStopped:
            self._wardrobe.forget()  # a server that is gone has nothing loaded


class _Asked(NamedTuple):
    """How all draws of a call are drawn, and who is told of them."""

    sampling: Sampling
    ends: Collection[int]
    told: Told


def _body(name: str, draw: Draw, sampling: Sampling, ends: Collection[int]) -> dict[str, Any]:
    """Every field that changes a distribution is said: a server's own defaults come from the model's files."""
    return {
        "model": name,
        "prompt": list(draw.prompt),
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "seed": draw.seed,
        "stop_token_ids": sorted(ends),
        "logprobs": 0,
        "return_token_ids": True,
    }
