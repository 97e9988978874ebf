"""A source that is a function of the user's own."""

import pytest
from pydantic import ValidationError

from dressage.plugins import open_kind
from dressage.protocols import Row
from dressage.sources._rows import RowError, SourceError
from dressage.sources.python import Settings

CODE = """
from dataclasses import dataclass

@dataclass
class Item:
    prompt: str

def rows():
    for name in ("one", "two", "three"):
        yield vars(Item(name))

def numbers():
    return [1]

def nothing():
    return None
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my.py"
    path.write_text(CODE)
    return path


def rows(path, function, **settings):
    return list(open_kind(Settings(path=f"{path}:{function}", **settings)).rows())


def test_the_function_is_asked_each_time_and_its_rows_are_numbered(file):
    source = open_kind(Settings(path=f"{file}:rows", limit=2))
    expected = [Row("my.py:rows:row 1", {"prompt": "one"}), Row("my.py:rows:row 2", {"prompt": "two"})]
    assert list(source.rows()) == list(source.rows()) == expected


def test_what_is_no_row_or_no_function_is_named(file):
    with pytest.raises(SourceError, match=r"has no function 'row'; did you mean 'rows'\?"):
        rows(file, "row")
    with pytest.raises(RowError, match=r"^my\.py:numbers:row 1: a row must be an object"):
        rows(file, "numbers")
    with pytest.raises(SourceError, match="it returned a NoneType"):
        rows(file, "nothing")
    with pytest.raises(SourceError, match="no file"):
        rows(file.with_name("your.py"), "rows")


@pytest.mark.parametrize("path", ["my.py", "my:rows", "my.py:", "my.py:a b"])
def test_a_path_without_file_or_function_is_refused(path):
    with pytest.raises(ValidationError):
        Settings(path=path)


def test_content_follows_the_file_and_the_function(file):
    before = Settings(path=f"{file}:rows").content()
    assert before != Settings(path=f"{file}:numbers").content()
    file.write_text(CODE + "# changed\n")
    assert before != Settings(path=f"{file}:rows").content()
