"""Finds a model's files on disk or on the hub, checks them without torch, and hashes them once."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from dressage.models._remembered import cache_root, hashes_of
from dressage.records import content_hash

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_FETCHED_BEFORE = {"HuggingFaceTB/SmolLM2-135M-Instruct": "SmolLM2-135M-Instruct"}
"""Where scripts/fetch_demo_model.py put a hub name before owners were part of the folder."""


@dataclass(frozen=True)
class Source:
    """Where a model comes from: a folder, or a hub name at a commit."""

    name: str
    """The folder's real path, or the hub name."""
    folder: Path | None
    commit: str | None
    adapter: Path | None

    @property
    def load_from(self) -> str:
        return str(self.folder) if self.folder else self.name


def fetched(name: str) -> Path:
    """Where this user's own copy of a hub name lies, or would: a name is its owner's, whoever else has one like it."""
    models = cache_root() / "models"
    folder = models / name.replace("/", "--")
    before = _FETCHED_BEFORE.get(name)
    return models / before if before and not folder.is_dir() and (models / before).is_dir() else folder


def resolve(path: str, revision: str | None, *, adapter: str | None = None) -> Source:
    """The source that `path` names: a folder, a fetched copy of a hub name, or the hub's cache.

    Raises:
        ValueError: where it is missing or unusable; one line that says what, where and the way out.
    """
    worn = checked_adapter(Path(adapter)) if adapter else None
    folder = Path(path).expanduser()
    if not folder.is_dir() and _HUB_NAME.fullmatch(path) and revision is None:
        folder = fetched(path)
    if folder.is_dir():
        if revision is not None:
            raise ValueError(f"revision {revision!r} is for hub names, but {folder} is a folder; leave it out")
        return Source(name=str(_checked_model(folder).resolve()), folder=folder, commit=None, adapter=worn)
    if not _HUB_NAME.fullmatch(path):
        raise ValueError(f"no model folder {path}; give a folder with config.json and safetensors, or a hub name")
    return Source(name=path, folder=None, commit=_commit(path, revision), adapter=worn)


def at_hand(path: str, revision: str | None) -> Path | None:
    """The folder that `path` names, where it lies on this machine already; asks no hub and imports nothing of it."""
    folder = Path(path).expanduser()
    if folder.is_dir() or not _HUB_NAME.fullmatch(path):
        return folder if folder.is_dir() else None
    if revision is None and fetched(path).is_dir():
        return fetched(path)
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cached = Path(os.environ.get("HF_HUB_CACHE") or home / "hub") / f"models--{path.replace('/', '--')}"
    named = cached / "refs" / (revision or "main")
    commit = named.read_text("utf-8").strip() if named.is_file() else revision
    snapshot = cached / "snapshots" / (commit or "main")
    return snapshot if snapshot.is_dir() else None


def checked_adapter(folder: Path) -> Path:
    """The real path of a peft adapter folder.

    Raises:
        ValueError: where it is missing or holds no safetensors.
    """
    folder = folder.expanduser()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            raise ValueError(
                f"adapter folder {folder} has no {name}; give the folder that peft's save_pretrained wrote"
            )
    return folder.resolve()


def hashes(folder: Path) -> dict[str, str]:
    """File (relative to `folder`) → sha256; a file of unchanged path, size and time is not read again.

    What a model card says is no part of the model.
    """
    files = (f for f in folder.rglob("*") if f.is_file() and f.suffix != ".md")
    return hashes_of(folder, [f for f in files if not _hidden(f.relative_to(folder))])


def identity(source: Source) -> str:
    """The same for the same weights wherever they lie: by the hashes of their safetensors, or the hub's commit."""
    base = _weights_hash(source.folder) if source.folder else f"{source.name}@{source.commit}"
    return f"{base}+{_weights_hash(source.adapter)}" if source.adapter else base


def _weights_hash(folder: Path) -> str:
    found = {name: digest for name, digest in hashes(folder).items() if name.endswith(".safetensors")}
    return f"weights {content_hash(found)}"


def _hidden(file: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in file.parts)


def _checked_model(folder: Path) -> Path:
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is an adapter, not a model; name its base as path and this as adapter")
    if not (folder / "config.json").is_file():
        raise ValueError(f"model folder {folder} has no config.json; give the folder save_pretrained wrote")
    if any(folder.glob("*.safetensors")):
        return folder
    if any(folder.glob("*.bin")):
        raise ValueError(
            f"model folder {folder} holds only .bin weights, which can run code when loaded; load it once and"
            " save it again with save_pretrained, which writes safetensors"
        )
    raise ValueError(f"model folder {folder} has no .safetensors weights; give the folder save_pretrained wrote")


def _commit(name: str, revision: str | None) -> str:
    """The commit a hub name stands for: from the hub's cache, else from the hub itself."""
    from httpx2 import HTTPError  # what huggingface_hub speaks to the hub with, and lets through
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True)).name
    except LocalEntryNotFoundError:
        pass  # not downloaded yet: the hub itself is asked next
    if constants.HF_HUB_OFFLINE:
        raise ValueError(
            f"model {name} is neither a folder (paths start where you run), nor in {cache_root() / 'models'}, nor in"
            f" the hub's cache, and HF_HUB_OFFLINE is set; unset it, or run `hf download {name}`. The demo model comes"
            " from scripts/fetch_demo_model.py, the tiny one of the smoke runs from `make smoke`"
        )
    try:
        return str(HfApi().model_info(name, revision=revision).sha)
    except (OSError, HTTPError) as error:  # huggingface_hub's own are OSErrors; no connection is not
        raise ValueError(
            f"the hub does not give model {name} (revision {revision or 'main'}): {error}; check the name and the"
            " network, log in with `hf auth login`, or give a folder (the demo model comes from"
            " scripts/fetch_demo_model.py)"
        ) from error
