"""A run in several processes: what they say to one another, what is refused, and runs that a launcher starts."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from dressage import company as companies
from dressage.company import Company, CompanyError, Ended, started_alone
from dressage.records import Checkpoint
from dressage.standing import RunRefused
from dressage.store import manifest_of, rows_of
from run_parts import Plain, prompts_file, run, small, told, trained

ROOT = Path(__file__).parents[1]


# ---------------------------------------------------------------- what they say to one another


@pytest.fixture
def two() -> tuple[Company, Company]:
    """A leader and a follower that speak through a store of this process."""
    from torch.distributed import HashStore

    store = HashStore()
    return Company(0, 2, store), Company(1, 2, store)


@contextmanager
def beside(work: Callable[[], Any]) -> Iterator[list[Any]]:
    """Does the work in a thread meanwhile; afterwards its answer, or what it raised, is in the list."""
    found: list[Any] = []

    def do() -> None:
        try:
            found.append(work())
        except RuntimeError as error:
            found.append(error)

    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    yield found
    thread.join(10)
    assert not thread.is_alive()


def test_the_followers_hear_what_the_leader_says_in_its_order(two) -> None:
    leader, follower = two
    with beside(lambda: [follower.hear(), follower.agree(lambda: "mine"), follower.hear()]) as heard:
        leader.say({"place": "there"})
        assert leader.agree(lambda: (3, None)) == [3, None]  # as JSON gives it back, in every process
        time.sleep(0.1)  # it may take as long as it likes
        leader.say("last")
    assert heard == [[{"place": "there"}, [3, None], "last"]]


def test_a_follower_is_called_until_the_leader_ends(two) -> None:
    leader, follower = two
    with beside(lambda: list(follower.calls())) as calls:
        leader.say("first")
        leader.say("second")
        leader.leave(0, "")
    assert calls == [["first", "second"]]


def test_a_follower_ends_with_the_error_of_the_leader(two) -> None:
    leader, follower = two
    with beside(lambda: list(follower.calls())) as calls:
        leader.leave(3, "the judge is gone\nand more")
    (ended,) = calls
    assert isinstance(ended, Ended)
    assert ended.code == 3
    assert str(ended) == "the leading process ended: the judge is gone"


def test_the_leader_waits_for_no_follower_that_has_fallen(two) -> None:
    leader, follower = two
    with beside(leader.meet) as met:
        follower.leave(1, "no memory for the model")
    (error,) = met
    assert isinstance(error, CompanyError)
    assert "process 1 ended: no memory for the model" in str(error)
    assert "run the same command again" in str(error)


def test_all_meet(two) -> None:
    leader, follower = two
    for _ in range(2):
        with beside(follower.meet) as met:
            time.sleep(0.05)
            assert met == []  # it waits
            leader.meet()
        assert met == [None]


def test_who_does_not_come_is_not_waited_for_for_ever(two, monkeypatch) -> None:
    monkeypatch.setattr(companies, "MEETING", 0.1)
    with pytest.raises(CompanyError, match="process 1 of 2 did not come"):
        two[0].meet()


def test_a_collective_that_breaks_off_says_who_is_gone(two) -> None:
    leader, follower = two
    lost = RuntimeError("[third_party/gloo/transport/tcp/pair.cc] Read error: Connection reset by peer")
    with pytest.raises(CompanyError, match="is gone and said nothing"), leader.together():
        raise lost
    with pytest.raises(ZeroDivisionError), leader.together():
        raise ZeroDivisionError
    with pytest.raises(RuntimeError, match=r"^no adapter$"), leader.together():
        raise RuntimeError("no adapter")
    follower.leave(1, "the loss of step 3 is nan")
    with pytest.raises(CompanyError, match="process 1 ended: the loss of step 3 is nan"), leader.together():
        raise lost
    leader.leave(1, "stopped by an alarm")
    with pytest.raises(Ended, match="stopped by an alarm"), follower.together():
        raise lost


def test_one_process_is_a_company_of_its_own() -> None:
    alone = Company()
    alone.say("nothing")
    alone.meet()
    assert alone.agree(lambda: Path.cwd().name and [1]) == [1]
    alone.leave(1, "")


def test_a_launcher_that_does_not_say_who_is_who_is_told_so(monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    companies.company.cache_clear()  # it is asked once a process
    with pytest.raises(CompanyError, match=r"announced 2 processes.*RANK expected.*unset WORLD_SIZE"):
        companies.company()


# ---------------------------------------------------------------- what is refused


def test_what_one_process_does_alone_is_refused_before_anything_is_done(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    plain = small(prompts_file(tmp_path / "prompts.jsonl"))
    with pytest.raises(RunRefused, match=r"2 processes, and this job trains nothing.*without the launcher"):
        run(plain, tmp_path / "runs")
    for kind in ("dpo", "sft", "reward", "trl_dpo"):
        pairs = trained(plain, tmp_path / "no model", train={"trainer": {"kind": kind}})
        with pytest.raises(RunRefused, match=rf"trainer.kind {kind} trains in one; several share .* by grpo, ppo, rl"):
            run(pairs, tmp_path / "runs")
    for only in ("data", "judge", "evaluate"):
        with pytest.raises(RunRefused, match=f"dressage {only} ppo.yaml"):
            run(on_policy(tmp_path, tmp_path / "no model"), tmp_path / "runs", only=only, call="ppo.yaml")
    assert not list((tmp_path / "runs").glob("*/"))


def test_accelerate_that_starts_one_of_several_is_noticed(monkeypatch) -> None:
    for name in ("WORLD_SIZE", "MASTER_PORT", "ACCELERATE_MIXED_PRECISION"):
        monkeypatch.delenv(name, raising=False)
    assert not started_alone()
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    assert not started_alone()  # it was asked for one
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert started_alone()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not started_alone()


# ---------------------------------------------------------------- runs that a launcher starts


def on_policy(folder: Path, model: Path, **trainer: Any) -> Plain:
    """Two updates of ppo on the tiny model, with a short evaluation."""
    quick = {"updates": 2, "prompts_per_update": 2, "per_prompt": 2, "save_every": 1, "learning_rate": 1e-3}
    ppo = {"kind": "ppo", "critic": {"kind": "head", "warmup_updates": 0}, "lora": {"r": 2, "alpha": 4}}
    plain = small(prompts_file(folder / "prompts.jsonl"))
    return trained(plain, model, data__per_prompt=0, train={"trainer": {**ppo, **quick, **trainer}})


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "dressage.cli")
FORKS = """
import sys
for heavy in ("trainers.ppo.trainer", "models.local.model"):
    __import__(f"dressage.{heavy}")
from dressage.cli import main
from forking import launch
sys.exit(launch(main, 2))
"""
"""The same without torchrun: libraries are imported once, and the leader keeps the store."""


def launched(plain: Plain, root: Path, how: Sequence[str] = TORCHRUN) -> subprocess.Popen[str]:
    """The run as a launcher starts it in two processes."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "run.yaml").write_text(yaml.safe_dump(plain))
    path = os.pathsep.join(map(str, (ROOT / "src", ROOT / "tests" / "trainers")))
    return subprocess.Popen(
        [sys.executable, *how, "run", str(root / "run.yaml"), "--runs", str(root)],
        env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    said, remarks = process.communicate(timeout=280)
    return process.returncode, said, remarks


def lines(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "small" / "metrics.jsonl").read_text().splitlines()]


def timeless(root: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if not k.startswith(("time/", "rate/"))} for line in lines(root)]


@pytest.mark.parametrize(
    "how", [TORCHRUN, pytest.param(("-c", FORKS), marks=pytest.mark.slow)], ids=["torchrun", "forks"]
)
def test_two_processes_share_the_training_of_a_run_and_nothing_else(tmp_path, tiny_model, how: Sequence[str]) -> None:
    plain = on_policy(tmp_path, tiny_model)
    code, said, remarks = ended(launched(plain, tmp_path / "two", how))
    assert code == 0, remarks
    stages = [line.partition(":")[0] for line in remarks.splitlines() if line.endswith(": starting")]
    assert stages == ["data", "judge", "train", "evaluate"]  # each once: the follower says nothing
    assert "process 1" not in remarks
    assert said.count("stage     rows") == said.count("guard  ") == 1
    manifest = manifest_of(tmp_path / "two" / "small" / "round-0" / "train")
    assert manifest
    assert manifest.facts["processes"] == 2


# ---------------------------------------------------------------- and one that somebody kills


def killed(plain: Plain, root: Path, *, victims: tuple[int, ...], at: str, after: float) -> tuple[int, str]:
    """Starts the run, kills processes of it (by rank) a moment after a file of its train stage is there."""
    process = launched(plain, root)
    while not (root / "small" / "round-0" / "train" / at).exists():
        assert process.poll() is None, ended(process)
        time.sleep(0.005)
    time.sleep(after)
    ranks = ranks_of(process.pid)
    for rank in victims:
        os.kill(ranks[rank], signal.SIGKILL)
    code, _, remarks = ended(process)
    for pid in ranks.values():
        assert not Path(f"/proc/{pid}").exists()  # nobody hangs
    return code, remarks


def ranks_of(launcher: int) -> dict[int, int]:
    """Rank → process id of what a launcher started."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    found = {}
    for pid in children:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        found |= {int(word[5:]): int(pid) for word in words if word.startswith(b"RANK=")}
    return found


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("kind", ["ppo", "grpo", "rloo"])
def test_killed_processes_end_one_another_and_the_run_ends_in_the_same_bytes(tmp_path, tiny_model, kind: str) -> None:
    more: dict[str, Any] = {} if kind == "ppo" else {"kind": kind, "critic": None}
    plain = on_policy(tmp_path, tiny_model, updates=4, save_every=2, **more)
    plain["train"]["trainer"] = {k: v for k, v in plain["train"]["trainer"].items() if v is not None}
    assert ended(launched(plain, tmp_path / "whole"))[0] == 0
    told(plain, tmp_path / "one")
    for one, two in zip(timeless(tmp_path / "one"), timeless(tmp_path / "whole"), strict=True):
        assert two == pytest.approx(one, abs=1e-5)
    for victims, at in (((0,), "update-00001"), ((1,), "update-00003"), ((0, 1), "update-00004")):
        root = tmp_path / at
        code, remarks = killed(plain, root, victims=victims, at=f"shard-{at}.json", after=0.02)
        assert code != 0
        assert ("stopped by the launcher" in remarks or "is gone" in remarks) == (victims == (1,))
        code, _, remarks = ended(launched(plain, root))
        assert code == 0, remarks
        assert timeless(root) == timeless(tmp_path / "whole")
        assert [trained_in(root), hashes(root)] == [trained_in(tmp_path / "whole"), hashes(tmp_path / "whole")]


def trained_in(root: Path) -> dict[str, str]:
    (checkpoint,) = rows_of(root / "small" / "round-0" / "train", Checkpoint)
    return checkpoint.files


def hashes(root: Path) -> dict[str, str]:
    return {
        stage: json.loads((root / "small" / "round-0" / stage / "manifest.json").read_text())["rows_hash"]
        for stage in ("data", "judge", "train", "evaluate")
    }


@pytest.mark.slow
def test_an_error_of_the_leader_ends_its_followers(tmp_path, tiny_model) -> None:
    alarms = {"reward_saturates_at": 0.001, "patience": 1}
    code, said, remarks = ended(launched(on_policy(tmp_path, tiny_model, alarms=alarms), tmp_path))
    assert code != 0
    assert said == ""
    assert "error: stopped after update 1: the mean grade is" in remarks
    assert "process 1: the leading process ended: stopped after update 1: the mean grade is" in remarks
