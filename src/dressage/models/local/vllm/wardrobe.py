"""The adapters that a server has on for us: loaded under a name made of their content, taken off when they are past."""

import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from dressage.models.local import weights
from dressage.models.local.active import write_active
from dressage.models.local.backbone import Backbone, Worn
from dressage.models.local.vllm import Settings, reading
from dressage.models.local.vllm.stops import ServerRefused
from dressage.models.local.vllm.wire import Answer, Wire
from dressage.records import content_hash

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"


class _Live(NamedTuple):
    """The adapter of a policy in training, and the folder that it lies in until the next one is loaded."""

    name: str
    folder: "tempfile.TemporaryDirectory[str]"


class Wardrobe:
    """What we loaded on one server."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._shared = Path(settings.adapters).expanduser().resolve() if settings.adapters else None
        self._loaded: set[str] = set()
        self._live: _Live | None = None

    async def dressed(self, wire: Wire, backbone: Backbone, worn: Worn) -> str:
        """The name to draw under for a role that wears this: the base's, or that of its adapter, loaded if need be.

        Raises:
            ServerRefused: the server does not load it; says why and the way out.
        """
        if worn is None:
            return self._settings.model
        if worn == "as is":
            return await self._as_it_is(wire, backbone)
        name = _name(worn)
        if name not in self._loaded:
            await self._load(wire, name, self._where_it_reads(worn, name))
        return name

    async def emptied(self, wire: Wire) -> None:
        """Takes off all that is on."""
        for name in sorted(self._loaded):
            await self._unload(wire, name)
        self.forget()

    def forget(self) -> None:
        """After the server was started anew, or is gone: nothing of ours is on there."""
        self._loaded.clear()
        if self._live:
            self._live.folder.cleanup()
            self._live = None

    async def _as_it_is(self, wire: Wire, backbone: Backbone) -> str:
        """What is active in the module now takes the place of what was active at the last draw."""
        folder = self._new_folder()
        adapter = Path(folder.name) / "adapter"
        with backbone.lock:
            active = write_active(backbone.module, adapter)
        name = _name(adapter) if active else self._settings.model
        if not active or name in self._loaded:
            folder.cleanup()
            return name
        await self._load(wire, name, adapter)
        before, self._live = self._live, _Live(name, folder)
        if before:
            await self._unload(wire, before.name)
            before.folder.cleanup()
        return name

    def _new_folder(self) -> "tempfile.TemporaryDirectory[str]":
        if self._shared is None:
            return tempfile.TemporaryDirectory(prefix="dressage-")
        self._shared.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix="dressage-", dir=self._shared)
        Path(folder.name).chmod(0o755)  # the server may be another user's
        return folder

    def _where_it_reads(self, adapter: Path, name: str) -> Path:
        if self._shared is None:
            return adapter
        shutil.copytree(adapter, self._shared / name, dirs_exist_ok=True)
        return self._shared / name

    async def _load(self, wire: Wire, name: str, folder: Path) -> None:
        body = {"lora_name": name, "lora_path": str(folder)}
        answer = await wire.ask(LOAD, body, attempts=1)
        if answer.status == 400 and "already been loaded" in answer.text:
            # Left by a run that was killed, and its folder may be gone. The name is the content's: it is the same.
            await wire.ask(UNLOAD, {"lora_name": name}, attempts=1)
            answer = await wire.ask(LOAD, body, attempts=1)
        if answer.status != 200:
            raise ServerRefused(
                f"{self._settings.base_url} does not load the adapter {folder} (HTTP {answer.status}: "
                f"{wire.clean(reading.complaint(answer.text))}); {_way_out(answer)}"
            )
        self._loaded.add(name)

    async def _unload(self, wire: Wire, name: str) -> None:
        """A name that the server does not know any more is as good as gone."""
        await wire.ask(UNLOAD, {"lora_name": name}, attempts=1)
        self._loaded.discard(name)


def _name(adapter: Path) -> str:
    """What an adapter is called on the server: by its content, so equal ones are one."""
    return f"dressage-{content_hash(weights.hashes(adapter))}"


def _way_out(answer: Answer) -> str:
    if "No adapter found" in answer.text:
        return "it cannot read that folder: name one in sampler.adapters that it reads under the same path"
    if "max_lora_rank" in answer.text:
        return "start it with a --max-lora-rank that is at least the adapter's rank (lora.r)"
    return "start it with --enable-lora; its log says more"
