"""A run's folder under damage: what is there is whole, what is not whole is set aside, nothing is half there."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dressage.records import Grade, Message, Prompt, Record, Usage
from dressage.store import (
    Journal,
    Manifest,
    StoreError,
    append_line,
    commit_file,
    commit_shard,
    commit_text,
    finish_stage,
    is_whole,
    keep_lines,
    lines_of,
    locked,
    manifest_of,
    read_table,
    rows_of,
    shard_done,
    write_table,
)

SOURCE = str(Path(__file__).parents[1] / "src")
RECORDS = sorted(Record.__subclasses__(), key=lambda r: r.table)
texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)


def rows_for(record: type[Record]) -> st.SearchStrategy[Record]:
    """Rows of any record: hypothesis knows the types; text is what UTF-8 can hold, numbers are finite."""
    st.register_type_strategy(str, texts)
    st.register_type_strategy(float, st.floats(0, 1, allow_nan=False))
    st.register_type_strategy(int, st.integers(0, 2**63 - 1))
    json_values = st.recursive(st.none() | st.booleans() | texts, lambda v: st.lists(v) | st.dictionaries(texts, v))
    named = {"extra": st.dictionaries(texts, json_values)} if record is Prompt else {}
    return st.builds(record, **named)


def grades(n: int, score: float = 0.5) -> list[Grade]:
    return [Grade(prompt_id=f"p{i}", candidate_id=f"c{i}", judge="j", score=score) for i in range(n)]


def stage(folder: Path, shards: int = 3) -> Manifest:
    """A finished stage of a few shards."""
    made = tuple(
        commit_shard(folder, f"{i:05d}", key=f"k{i}", tables={Grade: grades(4, score=i / 10)}) for i in range(shards)
    )
    manifest = Manifest(
        stage="judge", fingerprint="f", parts={}, shards=made, rows_hash="r", facts={}, times={"seconds": 1.0}
    )
    finish_stage(folder, manifest)
    return manifest


# ---------------------------------------------------------------- tables


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r.table)
def test_every_record_comes_back_from_parquet_as_it_was(record: type[Record], tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.lists(rows_for(record), min_size=1, max_size=3))
    def round_trip(rows: list[Record]) -> None:
        write_table(path, record, rows)
        back = read_table(path, record)
        assert back == rows
        assert [r.row_hash() for r in back] == [r.row_hash() for r in rows]

    round_trip()


def test_the_hash_is_over_rows_and_not_over_money(tmp_path: Path) -> None:
    one = commit_shard(tmp_path / "a", "0", key="k", tables={Grade: grades(2)})
    paid = [g.model_copy(update={"usage": Usage(read=9, cost=1.0)}) for g in grades(2)]
    other = commit_shard(tmp_path / "b", "0", key="k", tables={Grade: paid})
    assert one.rows_hash == other.rows_hash
    assert one.files != other.files
    turned = commit_shard(tmp_path / "c", "0", key="k", tables={Grade: grades(2)[::-1]})
    assert turned.rows_hash != one.rows_hash


# ---------------------------------------------------------------- shards


def test_a_committed_shard_is_found_and_one_of_another_key_is_not(tmp_path: Path) -> None:
    shard = commit_shard(tmp_path, "00000", key="k", tables={Grade: grades(2), Prompt: []})
    assert shard.rows == {"grades": 2}
    assert shard_done(tmp_path, "00000", key="k") == shard
    assert shard_done(tmp_path, "00001", key="k") is None
    assert shard_done(tmp_path, "00000", key="other") is None


def truncated(path: Path, at: float) -> None:
    path.write_bytes(path.read_bytes()[: int(len(path.read_bytes()) * at)])


def flipped(path: Path, at: float) -> None:
    data = bytearray(path.read_bytes())
    data[int((len(data) - 1) * at)] ^= 0x10
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("file", ["grades-00001.parquet", "shard-00001.json"])
@pytest.mark.parametrize("damage", [truncated, flipped], ids=["truncated", "bit flipped"])
@pytest.mark.parametrize("at", [0.0, 0.3, 0.5, 0.9])
def test_damage_is_seen_set_aside_and_done_again(
    tmp_path: Path, file: str, damage: Callable[[Path, float], None], at: float
) -> None:
    manifest = stage(tmp_path)
    damage(tmp_path / file, at)
    damaged = (tmp_path / file).read_bytes()
    if file.endswith(".parquet"):
        with pytest.raises(StoreError, match=r"grades-00001\.parquet is gone, was changed or is damaged"):
            list(rows_of(tmp_path, Grade))
    assert [is_whole(tmp_path, s) for s in manifest.shards] == [True, False, True]
    assert shard_done(tmp_path, "00001", key="k1") is None
    assert damaged in [p.read_bytes() for p in (tmp_path / "quarantine").iterdir()]
    assert shard_done(tmp_path, "00000", key="k0")
    again = commit_shard(tmp_path, "00001", key="k1", tables={Grade: grades(4, score=0.1)})
    assert again == manifest.shards[1]
    assert len(list(rows_of(tmp_path, Grade))) == 12


def test_a_file_that_is_gone_is_damage_too(tmp_path: Path) -> None:
    manifest = stage(tmp_path)
    (tmp_path / "grades-00002.parquet").unlink()
    assert not is_whole(tmp_path, manifest.shards[2])
    with pytest.raises(StoreError, match=r"grades-00002\.parquet is gone"):
        list(rows_of(tmp_path, Grade))
    assert shard_done(tmp_path, "00002", key="k2") is None


def test_the_commit_comes_after_its_files_and_the_manifest_last(tmp_path: Path) -> None:
    stage(tmp_path)
    times = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    for i in range(3):
        assert times[f"grades-0000{i}.parquet"] <= times[f"shard-0000{i}.json"]
    assert max(times, key=lambda name: (times[name], name == "manifest.json")) == "manifest.json"


def test_an_unfinished_stage_has_no_rows_and_a_damaged_manifest_says_the_way_out(tmp_path: Path) -> None:
    assert manifest_of(tmp_path) is None
    with pytest.raises(StoreError, match="is not finished; run the stage first"):
        list(rows_of(tmp_path, Grade))
    stage(tmp_path)
    truncated(tmp_path / "manifest.json", 0.5)
    with pytest.raises(StoreError, match=r"manifest\.json is damaged .*run `dressage .*` again"):
        manifest_of(tmp_path)


# ---------------------------------------------------------------- full disks


def in_a_child(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        env={**os.environ, "PYTHONPATH": SOURCE},
        capture_output=True,
        text=True,
        timeout=60,
    )


SMALL_DISK = """
import resource, signal, sys
from pathlib import Path
from dressage.store import *
from dressage.records import Grade
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
folder = Path(sys.argv[1])
"""


def test_a_full_disk_is_a_clear_error_and_leaves_nothing_half_committed(tmp_path: Path) -> None:
    before = commit_shard(tmp_path, "00000", key="k0", tables={Grade: grades(2)})
    done = in_a_child(
        SMALL_DISK
        + """
words = __import__("random").Random(0).randbytes(60_000).hex()
rows = [Grade(prompt_id="p", candidate_id="c", judge="j", score=0.5, words=(words,))]
try:
    commit_shard(folder, "00001", key="k1", tables={Grade: rows})
except StoreError as error:
    print(error)
""",
        str(tmp_path),
    )
    assert "grades-00001.parquet cannot be written: File too large; make room" in done.stdout, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["grades-00000.parquet", "shard-00000.json"]
    assert shard_done(tmp_path, "00000", key="k0") == before
    after = commit_shard(tmp_path, "00001", key="k1", tables={Grade: grades(2)})
    assert shard_done(tmp_path, "00001", key="k1") == after


def test_a_full_disk_keeps_the_answers_paid_before_it(tmp_path: Path) -> None:
    done = in_a_child(
        SMALL_DISK
        + """
journal = Journal(folder / "journal.jsonl")
try:
    for i in range(100):
        journal.put(f"k{i}", "x" * 1000)
except StoreError as error:
    print(len(journal), error)
""",
        str(tmp_path),
    )
    kept, said = done.stdout.split(" ", 1)
    assert "journal.jsonl cannot be written" in said
    journal = Journal(tmp_path / "journal.jsonl")
    assert len(journal) == int(kept) == 19
    assert not (tmp_path / "quarantine").exists()


def test_a_commit_that_fails_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    commit_text(path, "old")

    def broken(file: Any) -> None:
        file.write(b"new")
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match=r"a\.txt cannot be written: No space left on device"):
        commit_file(path, broken)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


# ---------------------------------------------------------------- journal and lines


def test_a_journal_gives_back_what_was_put(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.put("a", {"text": "zwölf\nlines\u2028"})
    journal.put("b", [1, None])
    back = Journal(tmp_path / "j.jsonl")
    assert (back.get("a"), back.get("b"), back.get("c")) == ({"text": "zwölf\nlines\u2028"}, [1, None], None)


@pytest.mark.parametrize("cut", range(1, 30, 4))
def test_a_torn_last_line_is_dropped_and_the_file_goes_on(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    journal.put("a", 1)
    journal.put("b", {"text": "torn off"})
    path.write_bytes(path.read_bytes()[:-cut])
    back = Journal(path)
    assert (back.get("a"), back.get("b")) == (1, None)
    back.put("c", 3)
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["a", "c"]
    assert not (tmp_path / "quarantine").exists()


@pytest.mark.parametrize("bad", ['{"key": "x", "ans', "[]", '{"key": "x"}', "\xff\xfe", ""])
def test_another_bad_line_sets_the_file_aside_and_keeps_the_good_ones(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "j.jsonl"
    good = ['{"key": "a", "answer": 1}', '{"key": "b", "answer": 2}']
    damaged = f"{good[0]}\n{bad}\n{good[1]}\n".encode("latin-1")
    path.write_bytes(damaged)
    journal = Journal(path)
    assert (journal.get("a"), journal.get("b"), len(journal)) == (1, 2, 2)
    assert [p.read_bytes() for p in (tmp_path / "quarantine").iterdir()] == [damaged]
    assert path.read_text() == "".join(f"{line}\n" for line in good)


def test_lines_are_kept_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert lines_of(path) == []
    for i in range(4):
        append_line(path, {"stage": "train" if i % 2 else "data", "step": i})
    path.write_text(path.read_text() + '{"stage": "tra')
    assert [row["step"] for row in lines_of(path)] == [0, 1, 2, 3]
    keep_lines(path, lambda row: row["stage"] != "train")
    append_line(path, {"stage": "judge", "step": 9})
    assert [row["step"] for row in lines_of(path)] == [0, 2, 9]


# ---------------------------------------------------------------- one writer

HOLDER = """
import sys, time
from pathlib import Path
from dressage.store import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_by_name_until_the_first_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "run")],
        env={**os.environ, "PYTHONPATH": SOURCE},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(StoreError, match=f"is in use by process {holder.pid}; wait for it"),
            locked(tmp_path / "run"),
        ):
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with locked(tmp_path / "run"):
        assert (tmp_path / "run" / ".lock").read_text() == str(os.getpid())


def test_who_holds_the_lock_removes_what_killed_writers_left(tmp_path: Path) -> None:
    shard = tmp_path / "round-0" / "data"
    shard.mkdir(parents=True)
    (shard / ".shard-00000.json.123.part").write_text("{")
    (tmp_path / "round-0" / ".judge.123.part").mkdir()
    (tmp_path / "round-0" / ".judge.123.part" / ".x.part").write_text("x")
    (shard / "shard-00000.json").write_text("{}")
    with locked(tmp_path):
        pass
    assert [p.name for p in sorted((tmp_path / "round-0").rglob("*"))] == ["data", "shard-00000.json"]


def test_messages_survive_as_nested_rows(tmp_path: Path) -> None:
    prompt = Prompt.of((Message(role="user", content="a\x00b"),), source="s", split="dev", extra={"k": {"n": None}})
    write_table(tmp_path / "p.parquet", Prompt, [prompt])
    assert read_table(tmp_path / "p.parquet", Prompt) == [prompt]
