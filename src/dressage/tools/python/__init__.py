"""Settings of the tool that runs a Python program where it can do no harm."""

from typing import Literal

from pydantic import Field

from dressage.toolbox import ToolSettings


class Settings(ToolSettings):
    """Runs a short Python program (standard library only) without network, files or environment of this machine."""

    kind: Literal["python"] = "python"
    memory_mib: int = Field(256, ge=64, le=65536)
    """Address space of each process in MiB; all together may take `processes` times as much."""
    processes: int = Field(8, ge=1, le=512)
    """Processes and threads that the program may have at once, itself among them."""
    disk_mib: int = Field(16, ge=1, le=65536)
    """What it may write to its folder in MiB, which lies in memory and is gone after the call."""
    interpreter: str | None = None
    """The Python that runs the programs, such as /usr/bin/python3; null: the one that runs dressage."""
