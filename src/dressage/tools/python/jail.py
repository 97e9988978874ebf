"""Runs one Python program in a box of its own; started as a script by box.py and imports nothing but the library.

Three processes. The watcher (this script) stays outside, holds the clock and kills the box at the deadline. The
box's init is process 1 of a new PID namespace: it builds a root of its own, and when it ends the kernel kills all
that is left inside. The program is its child, without any power, and everything it starts is inside with it.

    python jail.py STATUS_FD < specification.json

The specification is written by box.py; each answer is one line of JSON to STATUS_FD: `refused` with the step that
the system did not allow, `exit`, `signal` or `deadline`.
"""

import ctypes
import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

Box = dict[str, Any]

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (
    0x00020000,
    0x04000000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
BIND, REC, PRIVATE, NOSUID, NODEV = 4096, 16384, 1 << 18, 2, 4
SET_PDEATHSIG, SET_DUMPABLE, SET_SECCOMP, SET_NO_NEW_PRIVS = 1, 4, 22, 38
MOUNT_SETATTR, RECURSIVE = 442, 0x8000
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV = 1, 2, 4
BASE = "/tmp"
"""Where the new root is mounted until it is the root: a folder that every system has; its content is not touched."""
INSIDE = 1000
"""The user and group that the program sees itself as."""

libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """A step that the system did not allow."""


def called(step: str, function: Callable[..., int], *arguments: object) -> None:
    """Calls into the C library; names the step where it fails."""
    if function(*arguments) == -1:
        number = ctypes.get_errno()
        raise Refused(f"{step}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    called("own namespaces (unshare)", libc.unshare, ctypes.c_int(flags))


def mount(source: str | None, target: str, kind: str | None = None, flags: int = 0, options: str | None = None) -> None:
    from_b, to_b, kind_b, options_b = (None if s is None else s.encode() for s in (source, target, kind, options))
    called(f"mounting {target}", libc.mount, from_b, to_b, kind_b, ctypes.c_ulong(flags), options_b)


def read_only(target: str, *, device: bool = False, deep: bool = True) -> None:
    """A mount, and those in it, can no longer be written, nor bring powers or devices along."""
    attributes = ATTR_RDONLY | ATTR_NOSUID | (0 if device else ATTR_NODEV)
    packed = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    how = ctypes.c_uint(RECURSIVE if deep else 0)
    arguments = (ctypes.c_int(-100), target.encode(), how, ctypes.byref(packed), ctypes.c_size_t(32))
    called(f"making {target} read-only", libc.syscall, ctypes.c_long(MOUNT_SETATTR), *arguments)


def map_users(proc: int, uid: int, gid: int) -> None:
    """In a new user namespace: one user and one group inside, which are `uid` and `gid` outside."""
    for name, line in (("setgroups", "deny"), ("uid_map", f"{INSIDE} {uid} 1"), ("gid_map", f"{INSIDE} {gid} 1")):
        file = os.open(f"self/{name}", os.O_WRONLY, dir_fd=proc)
        os.write(file, line.encode())
        os.close(file)


def build(box: Box) -> None:
    """A root in memory that holds what the interpreter needs, read-only, and one folder that can be written."""
    mount(None, "/", None, REC | PRIVATE)
    mount("box", BASE, "tmpfs", NOSUID | NODEV, f"mode=0755,size={box['code_bytes']},nr_inodes=4096")
    os.mkdir(f"{BASE}/old")
    os.chdir(BASE)
    called("own root (pivot_root)", libc.syscall, ctypes.c_long(box["pivot_root"]), b".", b"old")
    os.chdir("/")
    for link, target in box["links"].items():
        os.symlink(target, link)
    for path in box["shows"] + box["devices"]:
        show(path, device=path in box["devices"])
    for path in box["hides"]:
        mount("nothing", path, "tmpfs", NOSUID | NODEV, "mode=0555,size=4k,nr_inodes=1")
        read_only(path)
    os.mkdir("/run")
    for name in ("program.py", "input"):
        with open(f"/run/{name}", "w", encoding="utf-8") as file:
            file.write(box[name])
    os.mkdir("/box")
    mount("disk", "/box", "tmpfs", NOSUID | NODEV, f"mode=0777,size={box['disk_bytes']},nr_inodes=1024")
    os.symlink("box", "/tmp")
    called("letting go of the old root", libc.umount2, b"/old", ctypes.c_int(2))
    os.rmdir("/old")
    read_only("/", deep=False)


def show(path: str, *, device: bool) -> None:
    """Binds a path of the machine at the same place inside."""
    if os.path.isdir("/old" + path):
        os.makedirs(path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
    mount("/old" + path, path, None, BIND | REC)
    read_only(path, device=device)


def give_up_power(box: Box, proc: int) -> None:
    """The last steps before the program: another user, limits, no new privileges, fewer system calls."""
    if os.geteuid() == 0 and box["root"]:
        os.setgroups([])
        os.setresgid(box["nobody"], box["nobody"], box["nobody"])
        os.setresuid(box["nobody"], box["nobody"], box["nobody"])
        libc.prctl(SET_DUMPABLE, 1, 0, 0, 0)
        if libc.unshare(ctypes.c_int(NEWUSER)) == 0:  # counts its processes apart; it is powerless without it too
            map_users(proc, box["nobody"], box["nobody"])
    for name, limits in box["limits"].items():
        kind = getattr(resource, name)
        most = resource.getrlimit(kind)[1]  # who runs us may have less to give
        soft, hard = (x if most == resource.RLIM_INFINITY else min(x, most) for x in limits)
        resource.setrlimit(kind, (soft, hard))
    called("no new privileges", libc.prctl, SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    code = bytes.fromhex(box["filter"])
    held = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]

    program = Program(len(code) // 8, ctypes.cast(held, ctypes.c_void_p))
    called("fewer system calls (seccomp)", libc.prctl, SET_SECCOMP, 2, ctypes.byref(program), 0, 0)


def run_program(box: Box, proc: int) -> None:
    """Becomes the program."""
    give_up_power(box, proc)
    os.dup2(os.open("/run/input", os.O_RDONLY), 0)
    os.chdir("/box")
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.execve(box["command"][0], box["command"], box["environment"])


def init(box: Box, status: int, proc: int) -> None:
    """Process 1: builds, starts the program, waits for it; what it left behind dies with this process."""
    called("a tie to the watcher", libc.prctl, SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # so that nobody inside can interrupt it
    build(box)
    socket.sethostname("box")
    program = os.fork()
    if program == 0:
        guarded(status, run_program, box, proc)
    while True:
        found, how = os.wait()
        if found == program:
            break
    if os.WIFSIGNALED(how):
        tell(status, signal=os.WTERMSIG(how))
    else:
        tell(status, exit=os.WEXITSTATUS(how))
    os._exit(0)


def tell(status: int, **what: object) -> None:
    os.write(status, (json.dumps(what) + "\n").encode())


def guarded(status: int, work: Callable[..., None], *arguments: object) -> NoReturn:
    """Runs a step of ours in a forked process, which never comes back; what fails is told."""
    try:
        work(*arguments)
    except (Refused, OSError, ValueError) as error:
        tell(status, refused=f"{error}")
    finally:
        os._exit(100)


def watch(child: int, seconds: float, status: int) -> None:
    """Waits for the box, at most until the deadline, or until it is told to stop; then nothing of it is left."""
    end = time.monotonic() + seconds
    while True:
        came = signal.sigtimedwait({signal.SIGCHLD, signal.SIGTERM}, max(0.0, end - time.monotonic()))
        if came is not None and came.si_signo == signal.SIGCHLD:
            if os.waitpid(child, os.WNOHANG)[0] == child:
                return
            continue
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)  # comes back only when every process in the namespace is gone
        tell(status, **{"deadline" if came is None else "stopped": True})
        return


def main() -> None:
    status = int(sys.argv[1])
    os.set_inheritable(status, False)
    box = json.load(sys.stdin)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
    libc.prctl(SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != box["parent"]:
        os._exit(101)  # whoever asked is gone already
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    apart = NEWNS | NEWPID | NEWNET | NEWIPC | NEWUTS
    try:
        if box["root"]:
            unshare(apart)
        else:
            uid, gid = os.geteuid(), os.getegid()
            unshare(apart | NEWUSER)
            map_users(proc, uid, gid)
        child = os.fork()
    except (Refused, OSError) as error:
        tell(status, refused=f"{error}")
        return
    if child == 0:
        guarded(status, init, box, status, proc)
    watch(child, box["seconds"], status)


if __name__ == "__main__":
    main()
