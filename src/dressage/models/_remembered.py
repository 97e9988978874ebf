"""What this user's machine remembers between runs: where fetched models lie, and the hashes of files once read."""

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from dressage.store import file_hash


def cache_root() -> Path:
    """Where this user's models and remembered hashes lie: $DRESSAGE_CACHE, else the XDG cache."""
    own = os.environ.get("DRESSAGE_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dressage"


def hashes_of(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """File (relative to `folder`) → sha256; a file of unchanged path, size and time is not read again."""
    remembered = read_json("hashes.json")
    found: dict[str, str] = {}
    new: dict[str, object] = {}
    for file in sorted(files):
        state = file.stat()
        key = f"{file.resolve()}|{state.st_size}|{state.st_mtime_ns}"
        known = remembered.get(key)
        if not isinstance(known, str):
            new[key] = known = file_hash(file)
        found[str(file.relative_to(folder))] = known
    if new:
        write_json("hashes.json", {**read_json("hashes.json"), **new})
    return found


def read_json(name: str) -> dict[str, object]:
    """What an earlier run remembered under `name` in the cache; empty where it is absent or torn."""
    try:
        content = json.loads((cache_root() / name).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_json(name: str, content: dict[str, object]) -> None:
    """Remembers `content` for the next run."""
    # A home that cannot be written costs only the time to compute it again.
    with contextlib.suppress(OSError):
        cache_root().mkdir(parents=True, exist_ok=True)
        torn_free = cache_root() / f".{name}.{os.getpid()}"
        torn_free.write_text(json.dumps(content, indent=0, sort_keys=True))
        torn_free.replace(cache_root() / name)
