"""The filter of system calls that a boxed program runs under: a classic BPF program for seccomp, in bytes.

It allows by default and refuses (EPERM) what no calculation needs and what the namespaces do not stop: sockets other
than between processes (AF_VSOCK reaches the host of a virtual machine from any network namespace), memory that
counts against no limit (memfd, System V segments), new namespaces, mounts, tracing, keys, BPF, io_uring.
"""

import platform
import struct
from collections.abc import Iterator
from typing import NamedTuple

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, ERROR, KILL = 0x7FFF0000, 0x00050000, 0x80000000
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16
"""Offsets in the kernel's record of a call; of the 64-bit argument its low half."""
EPERM, ENOSYS = 1, 38
AF_UNIX = 1
NEW_NAMESPACE = 0x7E020000
"""CLONE_NEWNS, -CGROUP, -UTS, -IPC, -USER, -PID and -NET; -TIME cannot be asked of clone."""
X32 = 0x40000000
"""From here on x86-64 counts its second table of the same calls."""


class Machine(NamedTuple):
    """What an architecture calls itself, and the numbers of its calls."""

    audit: int
    socket: int
    clone: int
    pivot_root: int
    refused: tuple[int, ...]


SAME_EVERYWHERE = (425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 440, 442, 447)
"""io_uring_*, open_tree, move_mount, fs*, pidfd_getfd, process_madvise, mount_setattr, memfd_secret."""
CLONE3 = 435

# ptrace process_vm_readv process_vm_writev kcmp | mount umount2 pivot_root chroot | unshare setns | bpf perf_event_open
# | keyctl add_key request_key | userfaultfd memfd_create | shmget shmat msgget semget mq_open | open_by_handle_at
# name_to_handle_at fanotify_init | personality kexec_load init_module finit_module delete_module | vmsplice
# | syslog swapon quotactl acct reboot
MACHINES = {
    "x86_64": Machine(
        audit=0xC000003E,
        socket=41,
        clone=56,
        pivot_root=155,
        refused=(
            *(101, 310, 311, 312, 165, 166, 155, 161, 272, 308, 321, 298, 250, 248, 249, 323, 319, 29, 30, 68, 64, 240),
            *(304, 303, 300, 135, 246, 175, 313, 176, 278, 103, 167, 179, 163, 169),
        ),
    ),
    "aarch64": Machine(
        audit=0xC00000B7,
        socket=198,
        clone=220,
        pivot_root=41,
        refused=(
            *(117, 270, 271, 272, 40, 39, 41, 51, 97, 268, 280, 241, 219, 217, 218, 282, 279, 194, 196, 186, 190, 180),
            *(265, 264, 262, 92, 104, 105, 273, 106, 75, 116, 224, 60, 89, 142),
        ),
    ),
}


def machine() -> Machine | None:
    """This machine's, or null where the calls of its architecture are not written down here."""
    return MACHINES.get(platform.machine())


def filter_for(machine: Machine) -> bytes:
    """The program, eight bytes an instruction."""
    return b"".join(struct.pack("<HBBI", *line) for line in _lines(machine))


def _lines(machine: Machine) -> Iterator[tuple[int, int, int, int]]:
    """(code, jump if true, jump if false, operand); jumps count from the next line."""
    yield LOAD, 0, 0, ARCHITECTURE
    yield EQUAL, 1, 0, machine.audit
    yield RETURN, 0, 0, KILL  # calls of the 32-bit table have other numbers
    yield LOAD, 0, 0, NUMBER
    yield AT_LEAST, 0, 1, X32
    yield RETURN, 0, 0, ERROR | EPERM
    for number in (*machine.refused, *SAME_EVERYWHERE):
        yield EQUAL, 0, 1, number
        yield RETURN, 0, 0, ERROR | EPERM
    yield EQUAL, 0, 1, CLONE3  # its flags lie in memory that a filter cannot read; the C library then takes clone
    yield RETURN, 0, 0, ERROR | ENOSYS
    yield EQUAL, 0, 4, machine.socket
    yield LOAD, 0, 0, FIRST_ARGUMENT
    yield EQUAL, 1, 0, AF_UNIX
    yield RETURN, 0, 0, ERROR | EPERM
    yield RETURN, 0, 0, ALLOW
    yield EQUAL, 0, 3, machine.clone
    yield LOAD, 0, 0, FIRST_ARGUMENT
    yield ANY_BIT, 0, 1, NEW_NAMESPACE
    yield RETURN, 0, 0, ERROR | EPERM
    yield RETURN, 0, 0, ALLOW
