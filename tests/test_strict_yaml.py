"""A YAML file read strictly: what is a number, what a word, what is refused, and in which line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dressage.strict_yaml import MAX_ALIASES, MAX_BYTES, ConfigError, Read, override, read_yaml


def read(tmp_path: Path, text: str | bytes) -> Read:
    path = tmp_path / "run.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_yaml(path)


def refusal(tmp_path: Path, text: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    said = str(caught.value).removeprefix(f"{tmp_path}/run.yaml")
    assert "\n" not in said
    return said


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-5", 1e-5),
        ("1E5", 1e5),
        ("-2.5e+3", -2500.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("3", 3),
        ("-7", -7),
        ("0", 0),
        ("010", "010"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("true", True),
        ("FALSE", False),
        ("2024-01-02", "2024-01-02"),
        ("null", None),
        ("~", None),
        ("'1e-5'", "1e-5"),
        (".inf", float("inf")),
    ],
)
def test_what_a_plain_word_means(tmp_path: Path, written: str, value: object) -> None:
    found = read(tmp_path, f"key: {written}\n").value["key"]
    assert found == value
    assert type(found) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_python_writes_is_read_back(value: float) -> None:
    r = Read({}, {})
    override(r, f"key={value!r}")
    assert r.value["key"] == value


def test_every_key_knows_its_line(tmp_path: Path) -> None:
    lines = read(tmp_path, "a: 1\nb:\n  - x\n  - c: 2\n").lines
    assert lines["a",] == 1
    assert lines["b",] == 2
    assert lines["b", 1, "c"] == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\na: 2\n", ":2: a stands here twice (first in line 1)"),
        ("a:\n  b: {c: 1, c: 2}\n", ":2: a.b.c stands here twice (first in line 2)"),
        ("a: {<<: {b: 1}}\n", ":1: a: keys are plain words, not '<<'"),
        ("1: a\n", ":1: (top): keys are plain words, not '1'"),
        ("? [a]\n: b\n", ":1: (top): keys are plain words"),
        ("a: !!python/object:os.system {}\n", ":1: a: the tag 'tag:yaml.org,2002:python/object:os.system'"),
        ("a: !!python/name:os.system x\n", ":1: could not determine a constructor"),
        ("a: [1\n", ":2: expected ',' or ']'"),
        ("a: 1\n---\nb: 2\n", ":2: but found another document"),
        ("", ":1: a run is a mapping (name:, models:, data: …), this is empty"),
        ("# only a word\n", ":1: a run is a mapping (name:, models:, data: …), this is empty"),
        ("- a\n", ":1: a run is a mapping (name:, models:, data: …), this is a list"),
        ("a: 1\nb: \x07\n", ":2: the control character '\\x07' may not stand here"),
        (b"a: 1\nb: \xff\n", ":2: not UTF-8 (byte 8); save the file as UTF-8"),
        ("a: &x {b: *x}\n", ":1: nested too deep"),
        ("a: " + "[" * 10_000, ":1: nested deeper than 40 levels"),
        ("a: *nobody\n", ":1: found undefined alias 'nobody'"),
    ],
)
def test_what_is_refused_says_where(tmp_path: Path, text: str | bytes, said: str) -> None:
    assert refusal(tmp_path, text).startswith(said)


def test_an_alias_bomb_does_not_go_off(tmp_path: Path) -> None:
    """Nine levels of nine would be 9^9 words."""
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    assert f"more than {MAX_ALIASES} aliases" in refusal(tmp_path, "\n".join(levels))
    few = ["a0: &a0 [" + "x, " * 30 + "x]"]
    few += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 6)]
    assert "too large once aliases are followed" in refusal(tmp_path, "\n".join(few))


def test_stars_in_words_are_no_aliases(tmp_path: Path) -> None:
    text = "a: |\n  " + "a *strong* word and *another\n  " * 60
    assert read(tmp_path, text).value["a"].count("*strong*") == 60


def test_a_file_over_a_megabyte_is_refused(tmp_path: Path) -> None:
    assert f"are more than a config may have ({MAX_BYTES})" in refusal(tmp_path, b"# " + b"x" * MAX_BYTES)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml: no such file"):
        read_yaml(tmp_path / "nothing.yaml")
