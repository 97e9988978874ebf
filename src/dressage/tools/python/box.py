"""The box a program runs in, from outside: what it shows, how it is started, read and ended."""

import json
import math
import os
import selectors
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from time import monotonic
from typing import IO, Any, NamedTuple

from dressage.tools._calling import ToolError
from dressage.tools.python import Settings
from dressage.tools.python.syscalls import filter_for, machine

JAIL = Path(__file__).with_name("jail.py")
FLOOD = 8_000_000
"""Bytes after which a program that goes on printing is ended."""
GRACE = 5.0
"""Seconds the watcher has, after its own deadline, before it is killed with its group."""
NOBODY = 65534
SYSTEM = ("/usr/lib", "/usr/lib64", "/lib", "/lib64")
ALSO = ("/etc/ld.so.cache", "/usr/share/zoneinfo")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONCOERCECLOCALE": "0"}
"""All that a program finds in its environment: sets then have one order, so a program has one output."""

ABOUT = """
import importlib, json, os, re, sys, sysconfig
for name in ("ctypes", "ssl", "sqlite3", "decimal", "lzma", "bz2", "zlib", "hashlib"):
    try:
        importlib.import_module(name)
    except ImportError:
        pass
try:
    with open("/proc/self/maps") as maps:
        mapped = sorted(set(re.findall(r"(/\\S+\\.so[.\\d]*)$", maps.read(), re.M)))
except OSError:  # no Linux: nothing will be run, and the call says so
    mapped = []
print(json.dumps({
    "program": os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable),
    "library": sorted({os.path.realpath(sysconfig.get_path(p)) for p in ("stdlib", "platstdlib")}),
    "mapped": mapped,
    "version": sys.version,
}))
"""


class Interpreter(NamedTuple):
    """What the program runs in."""

    program: str
    library: tuple[str, ...]
    mapped: tuple[str, ...]
    """Shared libraries it loads."""
    version: str


class Ended(NamedTuple):
    """How a program ended, and what it said."""

    how: dict[str, Any]
    """`exit`, `signal`, `deadline`, `flood`, or `refused` with the reason."""
    out: bytes
    err: bytes
    cut: bool
    """True where it said more than was kept."""


@cache
def interpreter(path: str) -> Interpreter:
    """Asks a Python about itself.

    Raises:
        ToolError: it does not run.
    """
    try:
        done = subprocess.run([path, "-I", "-S", "-c", ABOUT], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolError(f"the interpreter {path} cannot be run: {error}", why="refused") from None
    said = json.loads(done.stdout)
    return Interpreter(said["program"], tuple(said["library"]), tuple(said["mapped"]), said["version"])


def specification(settings: Settings, program: str, given: str) -> dict[str, Any]:
    """What jail.py is told.

    Raises:
        ToolError: this is no Linux, or no architecture whose system calls are known here.
    """
    here = machine()
    if sys.platform != "linux" or here is None:
        raise ToolError("programs run only on Linux (x86-64 or arm64), where they can be contained", why="refused")
    python = interpreter(settings.interpreter or sys.executable)
    root = os.geteuid() == 0 and _knows(NOBODY)
    links = {path: os.readlink(path) for path in SYSTEM if os.path.islink(path)}
    return {
        "parent": os.getpid(),
        "root": root,
        "nobody": NOBODY,
        "seconds": settings.seconds,
        "pivot_root": here.pivot_root,
        "filter": filter_for(here).hex(),
        "links": {path: target.lstrip("/") for path, target in links.items()},
        "shows": _shown(python, tuple(links)),
        "hides": [path for path in _packages(python) if os.path.isdir(path)],
        "devices": list(DEVICES),
        "disk_bytes": settings.disk_mib << 20,
        "code_bytes": (1 << 20) + 8 * (len(program) + len(given)),
        "limits": _limits(settings, root=root),
        "command": [python.program, "-s", "-B", "-X", "utf8", "/run/program.py"],
        "environment": ENVIRONMENT,
        "program.py": program,
        "input": given,
    }


def _packages(python: Interpreter) -> list[str]:
    """Where packages are installed: left empty, so that a program means the same on every machine."""
    return [*(f"{folder}/site-packages" for folder in python.library), "/usr/lib/python3/dist-packages"]


def _knows(user: int) -> bool:
    """Whether a user of this number can be become: inside some containers root is the only one there is."""
    ranges = [tuple(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return any(first <= user < first + count for first, _, count in ranges)


def _shown(python: Interpreter, links: tuple[str, ...]) -> list[str]:
    """Paths that the box shows: the system's libraries, and of the interpreter what does not lie in them."""
    folders = [path for path in SYSTEM if os.path.isdir(path) and path not in links]
    folders += [path for path in python.library if not _inside(path, folders)]
    files = [path for path in (python.program, *python.mapped, *ALSO) if not _inside(os.path.realpath(path), folders)]
    return folders + [path for path in dict.fromkeys(files) if os.path.exists(path)]


def _inside(path: str, folders: list[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _limits(settings: Settings, *, root: bool) -> dict[str, tuple[int, int]]:
    """Name of the limit → (soft, hard). Of an unprivileged caller the watcher and the box's init count too."""
    cpu = math.ceil(settings.seconds) + 1
    memory, processes = settings.memory_mib << 20, settings.processes + (0 if root else 2)
    return {
        "RLIMIT_CPU": (cpu, cpu + 1),
        "RLIMIT_AS": (memory, memory),
        "RLIMIT_FSIZE": (settings.disk_mib << 20, settings.disk_mib << 20),
        "RLIMIT_NPROC": (processes, processes),
        "RLIMIT_NOFILE": (64, 64),
        **dict.fromkeys(("RLIMIT_CORE", "RLIMIT_MEMLOCK", "RLIMIT_MSGQUEUE"), (0, 0)),
    }


def run(box: dict[str, Any], *, keep: int) -> Ended:
    """Runs the program of a specification until it ends or is ended; then nothing of it is left.

    Args:
        keep: Bytes of standard output, and of standard error, that are kept.

    Raises:
        ToolError: the box could not be built here (`refused`).
    """
    told, telling = os.pipe()
    with TemporaryFile("w+", encoding="utf-8") as said, open(told, "rb", buffering=0) as status:
        json.dump(box, said)
        said.seek(0)
        try:
            watcher = subprocess.Popen(
                [sys.executable, "-I", "-S", str(JAIL), str(telling)],
                stdin=said,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={},
                cwd="/",
                pass_fds=(telling,),
                start_new_session=True,
            )
        finally:
            os.close(telling)
        with watcher:
            heard = _Heard(watcher, status, keep)
            try:
                heard.listen(monotonic() + box["seconds"] + GRACE)
            finally:
                _end(watcher)
    return heard.ended()


def _end(watcher: "subprocess.Popen[bytes]") -> None:
    """Nothing can be left after this: the watcher has gone, or its whole group is killed and the box with it."""
    watcher.terminate()  # does nothing to one that has ended
    try:
        watcher.wait(GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(watcher.pid, signal.SIGKILL)


@dataclass
class _Heard:
    """What comes out of the box: kept up to a limit, the rest read and dropped."""

    watcher: "subprocess.Popen[bytes]"
    status: IO[bytes]
    keep: int
    kept: dict[str, bytearray] = field(default_factory=lambda: {"out": bytearray(), "err": bytearray()})
    seen: dict[str, int] = field(default_factory=lambda: {"out": 0, "err": 0})
    told: bytearray = field(default_factory=bytearray)
    flooded: bool = False

    def listen(self, end: float) -> None:
        """Until all pipes are closed, which they are when the last process of the box is gone; or until `end`."""
        with selectors.DefaultSelector() as pipes:
            for name, pipe in (("out", self.watcher.stdout), ("err", self.watcher.stderr), ("status", self.status)):
                assert pipe is not None
                pipes.register(pipe, selectors.EVENT_READ, name)
            while pipes.get_map() and (left := end - monotonic()) > 0:
                for key, _ in pipes.select(left):
                    if not self._heard(key.data, os.read(key.fd, 65536)):
                        pipes.unregister(key.fileobj)

    def _heard(self, name: str, piece: bytes) -> bool:
        if name == "status":
            self.told += piece
            return bool(piece)
        self.seen[name] += len(piece)
        self.kept[name] += piece[: max(0, self.keep - len(self.kept[name]))]
        if sum(self.seen.values()) > FLOOD and not self.flooded:
            self.flooded = True
            self.watcher.terminate()
        return bool(piece)

    def ended(self) -> Ended:
        lines = [json.loads(line) for line in self.told.splitlines()]
        refused = next((line for line in lines if "refused" in line), None)
        if refused:
            raise ToolError(_way_out(refused["refused"]), why="refused")
        if not lines:
            said = bytes(self.kept["err"]).decode(errors="replace")[-400:]
            raise ToolError(f"the box ended without a word: {said or 'it was killed from outside'}", why="refused")
        how = {"flood": True} if self.flooded else lines[0]
        cut = any(self.seen[name] > len(self.kept[name]) for name in self.kept)
        return Ended(how, bytes(self.kept["out"]), bytes(self.kept["err"]), cut)


def _way_out(step: str) -> str:
    return (
        f"this machine does not let a program be contained ({step}). It needs Linux 5.14 or later with user namespaces "
        "for everybody (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, "
        "kernel.apparmor_restrict_unprivileged_userns; a container needs a seccomp profile that allows unshare), or "
        "root; or leave the tool out"
    )
