"""A user's own file: it imports what lies beside it, and leaves nothing behind."""

import sys

import pytest

from dressage.own_code import run_file


def test_it_imports_what_lies_beside_it_and_two_folders_do_not_mix(tmp_path):
    before, modules = list(sys.path), set(sys.modules)
    for name, number in (("one", 1), ("two", 2)):
        (tmp_path / name / "pack").mkdir(parents=True)
        (tmp_path / name / "own_helper.py").write_text(f"NUMBER = {number}\n")
        (tmp_path / name / "pack" / "__init__.py").write_text("")
        (tmp_path / name / "pack" / "deep.py").write_text(f"NUMBER = {10 * number}\n")
        source = (
            "import own_helper\nfrom pack.deep import NUMBER\ndef total():\n    return own_helper.NUMBER + NUMBER\n"
        )
        (tmp_path / name / "my.py").write_text(source)
    totals = [run_file(tmp_path / name / "my.py", name="mine")["total"]() for name in ("one", "two")]
    assert totals == [11, 22]
    assert sys.path == before
    assert set(sys.modules) == modules


def test_a_file_that_fails_leaves_the_path_as_it_was(tmp_path):
    before = list(sys.path)
    (tmp_path / "my.py").write_text("1 / 0\n")
    with pytest.raises(ValueError, match=r"my\.py:1: ZeroDivisionError"):
        run_file(tmp_path / "my.py", name="mine")
    assert sys.path == before
