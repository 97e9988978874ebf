"""Chooses device and dtype by the machine: a short measurement on a CPU, a capability on a GPU."""

import platform
import time
from pathlib import Path
from typing import Any

import torch

from dressage.models._remembered import read_json, write_json

_CLEARLY = 1.3
"""bfloat16 loses digits, so it must win by this factor at both shapes."""


def choose_device(asked: str) -> torch.device:
    """The device of that name, or the best there is for `auto`.

    Raises:
        ValueError: where the one asked for is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if asked == "auto":
        return torch.device(next(name for name, found in there.items() if found))
    if not there[asked]:
        raise ValueError(f"device {asked!r} is not there for this torch; set device: auto or cpu")
    return torch.device(asked)


def choose_dtype(asked: str, device: torch.device, config: Any) -> torch.dtype:
    """The dtype asked for; for `auto` bfloat16 where the machine is clearly faster in it, else float32."""
    if asked != "auto":
        return torch.float32 if asked == "float32" else torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type != "cpu":
        return torch.float32
    text = config.get_text_config()
    inner = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    gain = _remembered_gain(text.hidden_size, inner)
    return torch.bfloat16 if gain >= _CLEARLY else torch.float32


def _remembered_gain(hidden: int, inner: int) -> float:
    """Measured once a machine and shape, so a rerun on a busy machine cannot choose otherwise."""
    key = f"{_cpu()}|torch {torch.__version__}|{torch.get_num_threads()} threads|{hidden}x{inner}"
    known = read_json("precision.json").get(key)
    if isinstance(known, int | float):
        return float(known)
    gain = min(_gain(rows, hidden, inner) for rows in (64, 512))
    write_json("precision.json", {**read_json("precision.json"), key: round(gain, 2)})
    return gain


def _gain(rows: int, hidden: int, inner: int) -> float:
    """Time of a float32 matrix product over that of a bfloat16 one."""
    seconds: list[float] = []
    for dtype in (torch.float32, torch.bfloat16):
        left, right = torch.ones(rows, hidden, dtype=dtype), torch.ones(inner, hidden, dtype=dtype)
        torch.nn.functional.linear(left, right)
        rounds = []
        for _ in range(5):
            begun = time.perf_counter()
            torch.nn.functional.linear(left, right)
            rounds.append(time.perf_counter() - begun)
        seconds.append(min(rounds))
    return seconds[0] / seconds[1]


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()} {torch.backends.cpu.get_cpu_capability()}"
    return f"{platform.machine()} {platform.processor()} {torch.backends.cpu.get_cpu_capability()}"
