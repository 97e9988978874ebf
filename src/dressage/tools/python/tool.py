"""Runs a program for a judge. What contains it, and what does not.

* Reading files of this machine: it has a root of its own in memory (pivot_root), where the interpreter, its standard
  library, the system's shared libraries and time zones are all there is, read-only.
* Writing: one folder in memory, `disk_mib` large, 1,024 files, gone after the call; RLIMIT_FSIZE.
* A network, or the host of a virtual machine: an empty network namespace, and no socket but between its own
  processes (seccomp).
* Other processes: a PID namespace of its own and no /proc, so it sees none and signals none.
* Keys in the environment: two variables of ours are all it has.
* Running for ever, or sleeping: the deadline (`seconds`, wall time) kills the namespace; RLIMIT_CPU each process.
* Forking without end, leaving children: RLIMIT_NPROC, counted in a user namespace of its own; when the program ends,
  or is killed, the kernel kills all that it started, and the call comes back after that.
* Memory: RLIMIT_AS each process; memory that this does not count (memfd, System V segments) is refused. All its
  processes together may still take `processes` times `memory_mib`.
* Printing without end: the beginning is kept, the rest dropped, and after 8 MB it is ended.
* Gaining powers: an unprivileged user, no capabilities, no_new_privs; no new namespaces, mounts, tracing, keys, BPF,
  io_uring (seccomp).

Not contained: bugs of the kernel and of the processor; how much CPU all its processes take until the deadline; the
clock, the kernel's version and the number of processors, which it can read. A program that asks for the time or for
unseeded randomness has another output each time; all else is the same each time. Where a step is not possible
(another system, namespaces forbidden) nothing is run: the result says which step, and that it was refused.
"""

import signal
import sys

from pydantic import Field

from dressage.tools._calling import Arguments, Calling, Deadline, Outcome, ToolError, quoted, shortened
from dressage.tools.python import Settings
from dressage.tools.python.box import Ended, interpreter, run, specification

DESCRIPTION = (
    "Runs a Python 3 program (standard library only; no network, no files) and gives what it prints. Print every "
    "number that matters. A text to be examined goes into `input` and is read with sys.stdin.read(), not into the code."
)


class Program(Arguments):
    """What is to be run."""

    code: str = Field(min_length=1, max_length=40_000)
    """The program's text."""
    input: str = Field("", max_length=200_000)
    """What it finds on standard input: the text to examine, never a part of the code."""


def open(settings: Settings, *, name: str) -> Calling[Program]:
    """Opens it; whether this machine can contain a program shows at the first call.

    Raises:
        ToolError: `interpreter` cannot be run.
    """
    version = interpreter(settings.interpreter or sys.executable).version

    def work(arguments: Program, deadline: Deadline) -> Outcome:
        box = specification(settings, arguments.code, arguments.input)
        return _read(settings, run(box, keep=8 * settings.characters))

    return Calling(settings, name, DESCRIPTION, Program, work, depends=version)


def _read(settings: Settings, ended: Ended) -> Outcome:
    """What a judge is told of a run.

    Raises:
        ToolError: it gave nothing that could be relied on: it raised, was killed, or was ended.
    """
    out, err = (piece.decode("utf-8", "replace") for piece in (ended.out, ended.err))
    printed, cut = shortened(out.rstrip("\n"), settings.characters // 2)
    said = err.rstrip("\n")[-settings.characters // 4 :]
    data = {"printed": printed, "errors": said, **ended.how}
    parts = [f"printed:\n{quoted(printed)}" if printed else "printed nothing"]
    parts += [f"standard error ends:\n{quoted(said)}"] if said else []
    if ended.how.get("exit") == 0:
        return Outcome("\n".join(parts), data, ended.cut or cut)
    if "deadline" in ended.how:
        raise ToolError(f"killed after {settings.seconds:g} s; before that it {parts[0]}", why="deadline", data=data)
    if "flood" in ended.how:
        raise ToolError(f"killed because it would not stop printing; it {parts[0]}", why="flood", data=data)
    raise ToolError(f"the program {_ending(ended)}; it " + "\n".join(parts), why="program", data=data)


def _ending(ended: Ended) -> str:
    if "exit" in ended.how:
        return f"ended with exit code {ended.how['exit']}"
    number = int(ended.how["signal"])
    known = {s.value: s.name for s in signal.Signals}
    return f"was killed by {known.get(number, f'signal {number}')}"
