"""JSON files: whatever is written comes back, and whatever is broken is named by its line."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dressage.plugins import open_kind
from dressage.protocols import Row
from dressage.sources._columns import prompt_of
from dressage.sources._files import json_rows
from dressage.sources._rows import RowError, SourceError, read
from dressage.sources.jsonl import Settings

LINES = b'{"prompt": "one"}\n\n{"prompt": "two", "n": 2}\r\n'


def rows(path, **settings):
    return list(open_kind(Settings(path=str(path), **settings)).rows())


def written(folder, name, content):
    file = folder / name
    file.write_bytes(content)
    return file


def test_each_line_is_a_row_under_its_own_number(tmp_path):
    file = written(tmp_path, "p.jsonl", b"\xef\xbb\xbf" + LINES)
    assert rows(file) == [Row("p.jsonl:1", {"prompt": "one"}), Row("p.jsonl:3", {"prompt": "two", "n": 2})]


@pytest.mark.parametrize(
    ("name", "content", "first"),
    [
        ("p.jsonl.gz", gzip.compress(LINES), "p.jsonl.gz:1"),
        ("p.json", b'\xef\xbb\xbf\n [{"prompt": "one"},\n {"prompt": "two", "n": 2}]', "p.json:row 1"),
        ("p.json", LINES, "p.json:1"),
        ("p.json.gz", gzip.compress(LINES), "p.json.gz:1"),
    ],
)
def test_gzip_and_lists_hold_the_same_rows(tmp_path, name, content, first):
    got = rows(written(tmp_path, name, content))
    assert [row.fields for row in got] == [{"prompt": "one"}, {"prompt": "two", "n": 2}]
    assert got[0].place == first


def test_a_pattern_reads_files_by_name_and_the_limit_counts_over_all(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("b/2.jsonl", "a.jsonl", "c.jsonl"):
        written(tmp_path, name, LINES)
    places = [row.place for row in rows(f"{tmp_path}/**/*.jsonl", limit=5)]
    assert places == ["a.jsonl:1", "a.jsonl:3", "b/2.jsonl:1", "b/2.jsonl:3", "c.jsonl:1"]


def test_reading_twice_gives_the_same_rows(tmp_path):
    source = open_kind(Settings(path=str(written(tmp_path, "p.jsonl", LINES))))
    assert list(source.rows()) == list(source.rows())


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])).map(lambda text: "Q" + text), min_size=1))
def test_any_text_comes_back_unchanged(tmp_path_factory, texts):
    file = tmp_path_factory.mktemp("any") / "p.jsonl"
    for ascii_only in (True, False):
        lines = [json.dumps({"prompt": text}, ensure_ascii=ascii_only) for text in texts]
        file.write_text("\n".join(lines), encoding="utf-8", newline="\n")
        settings = Settings(path=str(file))
        made = read(settings, open_kind(settings), convert=prompt_of).made
        assert [prompt.messages[0].content for prompt in made] == texts


BROKEN = [
    ("p.jsonl", b"", r"^p\.jsonl is empty"),
    ("p.jsonl", b"\n \n", r"^p\.jsonl is empty"),
    ("p.json", b"[]", r"^p\.json is empty"),
    ("p.jsonl", b'{"a": 1}\n{"a": 1,}\n', r"^p\.jsonl:2: broken JSON at column [89]"),
    ("p.jsonl", b'{"a": 1}\n{"a":', r"^p\.jsonl:2: broken JSON at column 6"),
    ("p.jsonl", b'{"a": 1}\n\n{"a": "\xff"}\n', r"^p\.jsonl:3: byte 8 of it is not UTF-8 \(0xff\)"),
    ("p.jsonl", b'{"a": 1}\n{"a": "x\\ud83d"}\n', r"^p\.jsonl:2: column 'a' holds half a surrogate pair"),
    ("p.jsonl", b'{"a": 1}\n3\n', r"^p\.jsonl:2: a row must be an object .* this is a number"),
    ("p.jsonl", b'{"a": ' + b"[" * 100_000, r"^p\.jsonl:1: JSON that cannot be read"),
    ("p.jsonl", b'{"a": ' + b"1" * 5000 + b"}", r"^p\.jsonl:1: JSON that cannot be read"),
    ("p.json", b'[{"a": 1},\n {"a" 2}]', r"^p\.json: broken JSON at line 2 column 7"),
    ("p.json", b'[{"a": 1}, 2]', r"^p\.json:row 2: a row must be an object"),
    ("p.jsonl.gz", gzip.compress(LINES)[:-12], r"^p\.jsonl\.gz is a broken gzip file"),
    ("p.jsonl.gz", LINES, r"^p\.jsonl\.gz is a broken gzip file"),
    ("p.txt", LINES, r"^p\.txt does not end in \.jsonl.*kind: hub"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN)
def test_a_broken_file_says_where_it_is_broken(tmp_path, name, content, message):
    with pytest.raises(SourceError, match=message):
        rows(written(tmp_path, name, content))


def test_broken_lines_are_bad_rows_under_their_own_numbers(tmp_path):
    broken = [b'{"prompt": "a",}', b'{"prompt": "\xff"}', b'{"prompt": " "}', b"3", b'{"prompt": "x\\ud83d"}']
    file = written(tmp_path, "p.jsonl", b"\n\n".join([b'{"prompt": "one"}', *broken, b'{"prompt": "two"}']))
    settings = Settings(path=str(file), max_bad_rows=0.75)
    found = read(settings, open_kind(settings), convert=prompt_of)
    assert [prompt.messages[0].content for prompt in found.made] == ["one", "two"]
    assert [error.place for error in found.bad] == [f"p.jsonl:{line}" for line in (3, 5, 7, 9, 11)]
    with pytest.raises(SourceError, match=r"(?s)5 of 7 rows .*\n  p\.jsonl:3: broken JSON at column"):
        read(settings.model_copy(update={"max_bad_rows": 0.7}), open_kind(settings), convert=prompt_of)
    with pytest.raises(RowError, match=r"^p\.jsonl:3: broken JSON"):
        read(settings.model_copy(update={"max_bad_rows": 0.0}), open_kind(settings), convert=prompt_of)


def test_the_limit_counts_broken_lines_too(tmp_path):
    file = written(tmp_path, "p.jsonl", b'{"prompt": "one"}\n{\n{"prompt": "two"}\n')
    settings = Settings(path=str(file), max_bad_rows=0.5, limit=2)
    found = read(settings, open_kind(settings), convert=prompt_of)
    assert (len(found.made), len(found.bad)) == (1, 1)


def test_rows_before_a_broken_line_are_given(tmp_path):
    given_rows = json_rows("p", written(tmp_path, "p.jsonl", b'{"a": 1}\n{'))
    assert next(given_rows).fields == {"a": 1}
    with pytest.raises(RowError):
        next(given_rows)


def test_a_missing_file_is_named_with_its_neighbour(tmp_path):
    written(tmp_path, "prompts.jsonl", LINES)
    with pytest.raises(SourceError, match=r"no file .*promts\.jsonl; did you mean 'prompts\.jsonl'\?"):
        rows(tmp_path / "promts.jsonl")
    with pytest.raises(SourceError, match=r"is a folder; .*/\*\.jsonl"):
        rows(tmp_path)
    with pytest.raises(SourceError, match="there is no folder"):
        rows(tmp_path / "none" / "p.jsonl")


def test_content_follows_the_bytes_and_settings_not_the_folder(tmp_path):
    one = written(tmp_path, "p.jsonl", LINES)
    (tmp_path / "moved").mkdir()
    two = written(tmp_path, "moved/p.jsonl", LINES)
    before = Settings(path=str(one)).content()
    assert before == Settings(path=str(two)).content()
    assert before != Settings(path=str(one), limit=1).content()
    two.write_bytes(LINES + b" ")
    assert before != Settings(path=str(two)).content()
