"""Checkpoints: whole or not there, the newest whole one wins, damage is set aside and told."""

from pathlib import Path

import pytest

from dressage.checkpoints import Checkpoints


def kept(tmp_path: Path, key: str = "k") -> tuple[Checkpoints, list[str]]:
    said: list[str] = []
    return Checkpoints(tmp_path / "c", key=key, say=said.append), said


def writes(text: str):
    def write(folder: Path) -> None:
        (folder / "weights").write_text(text)
        (folder / "more").mkdir()
        (folder / "more" / "state").write_text(text[::-1])

    return write


def test_the_newest_is_found_and_two_are_kept(tmp_path) -> None:
    checkpoints, said = kept(tmp_path)
    assert checkpoints.newest() is None
    for step in (5, 10, 15):
        checkpoints.commit(step, writes(f"{step}"))
    step, folder = checkpoints.newest()
    assert step == 15
    assert (folder / "weights").read_text() == "15"
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["step-00000010", "step-00000015"]
    assert said == []


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: flip(f / "weights"),
        lambda f: (f / "more" / "state").unlink(),
        lambda f: (f / "COMMIT.json").unlink(),
        lambda f: (f / "COMMIT.json").write_text("{"),
        lambda f: (f / "weights").write_text(""),
        lambda f: (f / "added").write_text("x"),
    ],
)
def test_a_damaged_one_is_set_aside_and_the_older_used(tmp_path, damage) -> None:
    checkpoints, said = kept(tmp_path)
    for step in (1, 2):
        checkpoints.commit(step, writes(f"{step}"))
    damage(tmp_path / "c" / "step-00000002")
    step, folder = checkpoints.newest()
    assert (step, folder.name) == (1, "step-00000001")
    assert len(said) == 1
    assert "step-00000002" in said[0]
    assert [p.name for p in (tmp_path / "c" / "quarantine").iterdir()] == ["000-step-00000002"]


def test_one_of_another_training_is_not_used(tmp_path) -> None:
    kept(tmp_path)[0].commit(1, writes("a"))
    checkpoints, said = kept(tmp_path, key="other")
    assert checkpoints.newest() is None
    assert "another training" in said[0]


def test_an_attempt_that_dies_leaves_nothing(tmp_path) -> None:
    checkpoints, _ = kept(tmp_path)
    checkpoints.commit(1, writes("a"))

    def dies(folder: Path) -> None:
        (folder / "weights").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checkpoints.commit(2, dies)
    assert checkpoints.newest()[0] == 1
