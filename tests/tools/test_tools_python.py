"""The python tool under attack: what a program cannot do, and that nothing of it is left afterwards.

The attacks run as whoever runs the tests. Where the `unshare` command cannot make namespaces either, there is nothing
to attack and they are skipped; everywhere else a refusal is a failure.
"""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dressage.toolbox import Result, Tool
from dressage.tools._calling import ToolError
from dressage.tools.python import Settings, box
from dressage.tools.python.syscalls import MACHINES, filter_for

SPACES = ["unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--mount", "true"]


def possible() -> bool:
    try:
        return subprocess.run(SPACES, capture_output=True, timeout=30, check=False).returncode == 0
    except FileNotFoundError:
        return False


contained = pytest.mark.skipif(not possible(), reason="this machine makes no namespaces: nothing is run here")


@pytest.fixture(scope="module")
def run(opened: Callable[..., Tool]) -> Callable[..., Result]:
    tool = opened("python", seconds=20, memory_mib=128, processes=6, disk_mib=2, characters=2000)
    return lambda code, given="": tool.call({"code": textwrap.dedent(code), "input": given})


@pytest.fixture(scope="module")
def hurried(opened: Callable[..., Tool]) -> Tool:
    return opened("python", seconds=1, processes=6)


def descendants(of: int) -> set[int]:
    """The processes below one, by the kernel's own list."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found, before = {of}, 0
    while len(found) > before:
        before = len(found)
        found |= {child for child, parent in parents.items() if parent in found}
    return found - {of}


# ---------------------------------------------------------------- what it is for


@contained
def test_a_program_prints_and_is_told(run: Callable[..., Result]) -> None:
    found = run("print(sum(range(101)))")
    assert (found.failed, found.text, found.truncated) == (None, "printed:\n| 5050", False)
    assert found.data == {"printed": "5050", "errors": "", "exit": 0}


@contained
def test_the_text_to_examine_comes_by_standard_input_and_is_no_code(run: Callable[..., Result]) -> None:
    text = "'''\nraise SystemExit(7)\n\\ 😀 \ud800"
    found = run("import sys; print(ascii(sys.stdin.read()))", text)
    assert found.data["printed"] == ascii(text.replace("\ud800", "\ufffd"))


@contained
def test_the_library_is_there_and_installed_packages_are_not(run: Callable[..., Result]) -> None:
    code = """
    import collections, datetime, decimal, fractions, json, math, re, sqlite3, statistics, unicodedata, zoneinfo
    print(datetime.datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Vienna")).utcoffset())
    import pydantic
    """
    found = run(code)
    assert found.failed == "program"
    assert found.data["printed"] == "2:00:00"
    assert str(found.data["errors"]).endswith("No module named 'pydantic'")


@contained
def test_sets_have_one_order_so_an_output_is_the_same_each_time(run: Callable[..., Result]) -> None:
    code = "print(list({'ash', 'birch', 'cedar', 'elm', 'fir', 'oak'}))"
    assert len({run(code).text for _ in range(3)}) == 1


@contained
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ValueError('no such day')", "ValueError: no such day"),
        ("import sys; sys.exit(3)", "exit code 3"),
        ("not python at all", "SyntaxError"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
        ("import os; os.abort()", "killed by SIGABRT"),
    ],
)
def test_a_program_that_fails_is_no_evidence(run: Callable[..., Result], code: str, said: str) -> None:
    found = run(code)
    assert found.failed == "program"
    assert said in found.text


@contained
def test_programs_run_side_by_side(run: Callable[..., Result]) -> None:
    code = (
        "import os, sys, time; open('mine', 'w').write(sys.stdin.read()); time.sleep(0.3); print(open('mine').read())"
    )
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: run(code, f"text {n}"), range(4)))
    assert [f.data.get("printed") for f in found] == [f"text {n}" for n in range(4)]


# ---------------------------------------------------------------- attacks


@contained
def test_no_file_of_this_machine_is_there(run: Callable[..., Result], tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the key is 4711")
    mine = [str(secret), str(Path.home()), str(Path(__file__)), "/etc/passwd", "/etc/shadow", "/proc/self/environ"]
    mine += ["/proc/1/root", "/sys", "/dev/mem", "/old", "/var", "/boot"]
    found = run(f"import os\nfor path in {mine!r}:\n    print(os.path.exists(path) and os.listdir(path))")
    hidden = str(found.data["printed"]).splitlines()
    home = Path.home() in Path(box.interpreter(sys.executable).program).parents
    assert hidden[0] == "False"
    # The way to an interpreter that lies under the home is there, and nothing beside it.
    assert hidden[1] == (f"['{Path(sys.base_prefix).relative_to(Path.home()).parts[0]}']" if home else "False")
    assert hidden[2:] == ["False"] * (len(mine) - 2)


@contained
def test_the_environment_has_no_key_in_it() -> None:
    code = (
        "from dressage.tools.python import Settings, box\n"
        "found = box.run(box.specification(Settings(), 'import os; print(dict(os.environ))', ''), keep=9999)\n"
        "print(found.out.decode())"
    )
    environment = {**os.environ, "TEACHER_KEY": "sk-4711", "PYTHONHASHSEED": "5"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "{'PYTHONHASHSEED': '0', 'PYTHONCOERCECLOCALE': '0'}"


@contained
def test_nothing_can_be_written_but_its_own_folder(run: Callable[..., Result], tmp_path: Path) -> None:
    code = f"""
    import os, tempfile
    for path in ("/x", "/run/program.py", "/usr/lib/x", "/dev/x", os.__file__, {str(tmp_path / "x")!r}):
        try:
            open(path, "w")
            print("wrote", path)
        except OSError as error:
            print(type(error).__name__, error.errno)
    open("mine", "w").write("x")
    tempfile.TemporaryFile().write(b"x")
    """
    found = run(code)
    assert "wrote" not in found.text
    assert found.data["exit"] == 0
    assert not list(tmp_path.iterdir())
    assert run("import os; print(os.listdir('.'))").data["printed"] == "[]"


@contained
def test_no_network_not_even_this_machine_itself(run: Callable[..., Result]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"""
        import socket
        tries = [(socket.AF_INET, ("127.0.0.1", {server.getsockname()[1]})), (socket.AF_INET, ("192.0.2.1", 80)),
                 (socket.AF_INET6, ("::1", 80)), (socket.AF_VSOCK, (2, 1024)), (socket.AF_NETLINK, (0, 0))]
        for family, address in tries:
            try:
                socket.socket(family, socket.SOCK_STREAM).connect(address)
                print("connected")
            except OSError as error:
                print(error.errno)
        a, b = socket.socketpair()
        a.send(b"between us")
        print(b.recv(99))
        """
        assert run(code).data["printed"] == "1\n1\n1\n1\n1\nb'between us'"
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.accept()


@contained
def test_a_fork_bomb_comes_to_a_few_processes(run: Callable[..., Result]) -> None:
    code = """
    import os, time
    children = 0
    try:
        while True:
            if os.fork() == 0:
                time.sleep(600)
            children += 1
    except BlockingIOError:
        print(children)
    """
    found = run(code)
    assert found.data["printed"] == "5"
    assert found.seconds < 15


@contained
def test_a_fork_bomb_that_does_not_stop_is_killed_whole(hurried: Tool) -> None:
    before = descendants(os.getpid())
    code = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
    found = hurried.call({"code": code})
    assert found.failed == "deadline"
    assert descendants(os.getpid()) == before


@contained
def test_threads_are_counted_too(run: Callable[..., Result]) -> None:
    code = """
    import threading, time
    try:
        for number in range(100):
            threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    except RuntimeError:
        print(number)
    """
    assert run(code).data["printed"] == "5"


@contained
def test_a_memory_bomb_meets_its_limit(run: Callable[..., Result]) -> None:
    found = run("held = []\nwhile True:\n    held.append(bytearray(1 << 20))")
    assert found.failed == "program"
    assert str(found.data["errors"]).endswith("MemoryError")


@contained
def test_memory_that_no_limit_counts_cannot_be_had(run: Callable[..., Result]) -> None:
    code = """
    import ctypes, mmap, os
    libc = ctypes.CDLL(None, use_errno=True)
    print(libc.shmget(0, 1 << 20, 0o1600), ctypes.get_errno())
    try:
        os.memfd_create("held")
    except PermissionError:
        print("no memfd")
    """
    assert run(code).data["printed"] == "-1 1\nno memfd"


@contained
def test_the_disk_is_small(run: Callable[..., Result]) -> None:
    code = """
    for make in (lambda: open("big", "wb").write(bytes(9 << 20)),
                 lambda: [open(f"piece{i}", "wb").write(bytes(1 << 20)) for i in range(9)],
                 lambda: [open(f"small{i}", "w").close() for i in range(9999)]):
        try:
            make()
            print("fits")
        except OSError as error:
            print(error.errno)
    """
    assert run(code).data["printed"] == "27\n28\n28"  # file too large, no space, no space


@contained
@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time; time.sleep(600)",
        "import signal, time\nfor s in range(1, 9): signal.signal(s, signal.SIG_IGN)\ntime.sleep(600)",
        "import os, time\nos.close(0); os.close(1); os.close(2)\ntime.sleep(600)",
        "import os, time\nif os.fork(): os.wait()\nos.setsid(); os.fork(); os.fork(); time.sleep(600)",
        "import re; re.match('(a+)+$', 'a' * 60 + 'b')",
        "import sys; sys.set_int_max_str_digits(0); print(len(str(7 ** 10 ** 9)))",
    ],
)
def test_what_hangs_is_killed_at_the_deadline(hurried: Tool, code: str) -> None:
    before = descendants(os.getpid())
    start = time.monotonic()
    found = hurried.call({"code": code, "input": "x\n"})
    assert found.failed == "deadline"
    assert time.monotonic() - start < 1 + box.GRACE
    assert descendants(os.getpid()) == before


@contained
def test_children_that_were_left_behind_die_with_the_program(run: Callable[..., Result]) -> None:
    before = descendants(os.getpid())
    code = """
    import os, signal, time
    for _ in range(4):
        if os.fork() == 0:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
    print("going")
    """
    found = run(code)
    assert found.data["printed"] == "going"
    assert found.seconds < 15
    assert descendants(os.getpid()) == before


@contained
def test_a_flood_is_cut_and_one_that_does_not_end_is_stopped(run: Callable[..., Result]) -> None:
    some = run("print('ab' * 50_000)")
    assert some.failed is None
    assert some.truncated
    assert len(some.text) < 1200
    endless = run("import sys\nwhile True: print('x' * 9999); sys.stderr.write('y' * 9999)")
    assert endless.failed == "flood"
    assert endless.seconds < 15
    assert len(endless.text) < 2400


@contained
def test_it_can_signal_nobody_outside(run: Callable[..., Result], request: pytest.FixtureRequest) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    request.addfinalizer(bystander.kill)
    code = f"""
    import os, signal
    for target in ({os.getpid()}, {bystander.pid}, 1, -1):
        try:
            os.kill(target, signal.SIGKILL)
            print("sent", target)
        except OSError as error:
            print(error.errno)
    print(os.getpid() < 20, os.getppid())
    """
    found = run(code)
    printed = str(found.data["printed"]).splitlines()
    # The box's init may be the same user (the caller's): the kernel then takes the signal, and lets it do nothing.
    assert printed[:2] == ["3", "3"]
    assert printed[2] in ("1", "sent 1")
    assert printed[4] == "True 1"
    assert bystander.poll() is None


@contained
def test_no_power_can_be_gained(run: Callable[..., Result]) -> None:
    code = """
    import ctypes, os
    libc = ctypes.CDLL(None, use_errno=True)
    def tried(name, *arguments):
        ctypes.set_errno(0)
        print(name, getattr(libc, name)(*arguments), ctypes.get_errno())
    tried("unshare", 0x10000000)
    tried("mount", b"x", b"/box", b"tmpfs", 0, None)
    tried("umount2", b"/box", 2)
    tried("chroot", b"/box")
    tried("ptrace", 16, 1, 0, 0)
    tried("setuid", 0)
    tried("setns", 0, 0)
    print(libc.prctl(39, 0, 0, 0, 0), os.getuid(), os.getgid())
    import resource
    try:
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
        print("raised")
    except (ValueError, OSError):
        print("limits stay")
    """
    printed = str(run(code).data["printed"]).splitlines()
    assert [line.split()[1] for line in printed[:7]] == ["-1"] * 7
    assert [line.split()[2] for line in printed[:5]] == ["1"] * 5
    assert printed[7:] == ["1 1000 1000", "limits stay"]


@contained
def test_a_judge_that_is_killed_leaves_no_box_behind() -> None:
    code = (
        "from dressage.tools.python import Settings, box\n"
        "given = box.specification(Settings(seconds=60), 'import time; time.sleep(600)', '')\n"
        "print('going', flush=True)\n"
        "box.run(given, keep=10)"
    )
    judge = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert judge.stdout
        assert judge.stdout.readline() == b"going\n"
        end = time.monotonic() + 20
        while len(below := descendants(judge.pid)) < 3 and time.monotonic() < end:
            time.sleep(0.05)
        assert len(below) == 3  # watcher, init, program
    finally:
        judge.send_signal(signal.SIGKILL)
        judge.wait()
    end = time.monotonic() + 20
    while (left := {pid for pid in below if _runs(pid)}) and time.monotonic() < end:
        time.sleep(0.05)
    assert not left


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


@contained
def test_the_way_of_an_unprivileged_caller_contains_as_well() -> None:
    """The same attacks through a user namespace that is made first, which is how it goes for who is not root."""
    code = """
    import os, socket
    print(os.getuid(), os.path.exists("/etc/passwd"), os.path.exists("/proc/self"))
    for attack in (lambda: socket.socket(), lambda: open("/usr/lib/x", "w"), lambda: os.kill(%d, 9)):
        try:
            attack()
            print("did it")
        except OSError as error:
            print(type(error).__name__)
    """
    given = box.specification(Settings(), textwrap.dedent(code % os.getpid()), "") | {"root": False}
    found = box.run(given, keep=2000)
    assert found.out.decode().splitlines()[0] == "1000 False False"
    assert found.out.decode().splitlines()[1:] == ["PermissionError", "OSError", "ProcessLookupError"]


# ---------------------------------------------------------------- where it cannot be contained


@contained
def test_where_namespaces_are_forbidden_nothing_is_run_and_the_step_is_named() -> None:
    forbidding = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" -c "$1"'
    code = (
        "from dressage.plugins import open_kind, settings_of\n"
        "tool = open_kind(settings_of('tools', 'python')(), name='python')\n"
        "found = tool.call({'code': 'print(1)'})\n"
        "print(found.failed, found.text, found.data)"
    )
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", forbidding, sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("refused python: this machine does not let a program be contained (own namespaces")
    assert "sysctl" in done.stdout
    assert done.stdout.endswith("{}\n")


def test_an_interpreter_that_is_not_there_is_said_when_the_tool_is_opened(opened: Callable[..., Tool]) -> None:
    with pytest.raises(ToolError, match="no-such-python cannot be run"):
        opened("python", interpreter="/usr/bin/no-such-python")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({}, "code: Field required"),
        ({"code": ""}, "code: "),
        ({"code": "1", "inputs": "x"}, "inputs: Extra"),
        ({"code": "x" * 40_001}, "code: "),
        ("{'code': 1}", "no JSON"),
        (None, "not an object"),
    ],
)
def test_bad_arguments_are_named(opened: Callable[..., Tool], arguments: object, named: str) -> None:
    found = opened("python").call(arguments)
    assert found.failed == "arguments"
    assert named in found.text


# ---------------------------------------------------------------- the filter


def numbers_of(header: Path) -> dict[str, int]:
    """The calls that a kernel header numbers."""
    found = {}
    for line in header.read_text().splitlines():
        words = line.split()
        if len(words) >= 3 and words[0] == "#define" and words[1].startswith("__NR") and words[2].isdigit():
            found[words[1].removeprefix("__NR3264_").removeprefix("__NR_")] = int(words[2])
    return found


_NAMES = """
ptrace process_vm_readv process_vm_writev kcmp mount umount2 pivot_root chroot unshare setns bpf perf_event_open keyctl
add_key request_key userfaultfd memfd_create shmget shmat msgget semget mq_open open_by_handle_at name_to_handle_at
fanotify_init personality kexec_load init_module finit_module delete_module vmsplice syslog swapon quotactl acct reboot
"""


@pytest.mark.parametrize(
    ("name", "headers"),
    [
        ("x86_64", ["/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"]),
        ("aarch64", ["/usr/include/asm-generic/unistd.h"]),
    ],
)
def test_the_numbers_of_the_calls_are_those_of_the_kernels_headers(name: str, headers: list[str]) -> None:
    there = [Path(header) for header in headers if Path(header).exists()]
    if not there:
        pytest.skip("no kernel headers here")
    numbers, known = numbers_of(there[0]), MACHINES[name]
    assert known.refused == tuple(numbers[call] for call in _NAMES.split())
    assert (known.socket, known.clone, known.pivot_root) == tuple(numbers[c] for c in ("socket", "clone", "pivot_root"))


def decide(program: bytes, number: int, *, audit: int, first: int = 0) -> int:
    """What a filter answers to a call: a few lines of the kernel's interpreter, written from its documentation."""
    lines = [
        (int.from_bytes(program[i : i + 2], "little"), program[i + 2], program[i + 3], program[i + 4 : i + 8])
        for i in range(0, len(program), 8)
    ]
    record, held, at = {0: number, 4: audit, 16: first}, 0, 0
    while True:
        code, yes, no, raw = lines[at]
        operand = int.from_bytes(raw, "little")
        at += 1
        match code:
            case 0x20:
                held = record[operand]
            case 0x15:
                at += yes if held == operand else no
            case 0x35:
                at += yes if held >= operand else no
            case 0x45:
                at += yes if held & operand else no
            case 0x06:
                return operand


@pytest.mark.parametrize("name", MACHINES)
def test_the_filter_lets_pass_what_a_program_needs_and_nothing_of_the_list(name: str) -> None:
    known = MACHINES[name]
    program = filter_for(known)
    allow, refuse = 0x7FFF0000, 0x00050001
    assert all(decide(program, n, audit=known.audit) == refuse for n in known.refused)
    assert decide(program, 435, audit=known.audit) == 0x00050000 | 38
    assert decide(program, 0, audit=known.audit) == allow
    assert decide(program, 0, audit=known.audit ^ 1) == 0x80000000
    assert decide(program, 0x40000000 | 1, audit=known.audit) == refuse
    families = {family: decide(program, known.socket, audit=known.audit, first=family) for family in range(50)}
    assert [family for family, answer in families.items() if answer == allow] == [1]
    assert decide(program, known.clone, audit=known.audit, first=0x01200011) == allow  # fork
    assert decide(program, known.clone, audit=known.audit, first=0x10000011) == refuse
