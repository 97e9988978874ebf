"""The hub kind on local files and folders, and its errors without a network."""

import json
import os
import subprocess
import sys

import pytest
from pydantic import ValidationError

from dressage.plugins import open_kind
from dressage.sources._columns import prompt_of
from dressage.sources._rows import SourceError, read
from dressage.sources.hub import Settings

ROWS = [
    {"prompt": "Erste Frage?", "category": "eins", "reference": "ja", "n": 1},
    {"prompt": 'Zweite, mit Komma und "Zitat"?', "category": "zwei", "reference": None, "n": 2},
    {"prompt": "Dritte\nmit Zeile?", "category": "drei", "reference": "nein", "n": 3},
]


@pytest.fixture(autouse=True)
def cache_elsewhere(tmp_path, monkeypatch):
    import datasets
    from huggingface_hub import constants

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def write(folder, name, rows=ROWS):
    import pandas

    file = folder / name
    table = pandas.DataFrame(rows)
    if name.endswith(".parquet"):
        table.to_parquet(file)
    elif name.endswith((".csv", ".csv.gz")):
        table.to_csv(file, index=False)
    elif name.endswith(".tsv"):
        table.to_csv(file, index=False, sep="\t")
    else:
        file.write_text("\n".join(json.dumps(row) for row in rows))
    return file


def prompts(**fields):
    settings = Settings(**fields)
    return read(settings, open_kind(settings), convert=prompt_of).made


@pytest.mark.parametrize("name", ["p.parquet", "p.csv", "p.csv.gz", "p.tsv", "p.json", "p.jsonl"])
@pytest.mark.parametrize("streaming", [True, False])
def test_every_local_format_gives_the_same_prompts(tmp_path, name, streaming):
    made = prompts(data_files=[str(write(tmp_path, name))], streaming=streaming)
    assert [prompt.messages[0].content for prompt in made] == [row["prompt"] for row in ROWS]
    assert [prompt.reference for prompt in made] == ["ja", None, "nein"]
    assert [prompt.tags for prompt in made] == [("eins",), ("zwei",), ("drei",)]
    assert [prompt.extra for prompt in made] == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert {prompt.source for prompt in made} == {name}


def test_a_folder_is_read_by_its_own_splits(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    write(folder, "train.csv", ROWS[:2])
    write(folder, "test.csv", ROWS[2:])
    made = prompts(name=str(folder), hub_split="test", split="dev", limit=5)
    assert [(prompt.extra["n"], prompt.split, prompt.source) for prompt in made] == [(3, "dev", "mine[test]")]
    assert [prompt.extra["n"] for prompt in prompts(name=str(folder), limit=1)] == [1]
    with pytest.raises(SourceError, match=r"mine\[dev\] cannot be loaded: .*hub_split"):
        prompts(name=str(folder), hub_split="dev")


def test_content_follows_the_bytes_not_the_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = write(tmp_path / "a", "p.csv"), write(tmp_path / "b", "p.csv")
    before = Settings(data_files=[str(one)]).content()
    assert before == Settings(data_files=[str(two)]).content()
    both = Settings(data_files=[str(one), str(two)]).content()
    write(tmp_path / "a", "p.csv", ROWS[:1])
    assert before != Settings(data_files=[str(one)]).content()
    assert both != Settings(data_files=[str(one), str(two)]).content()


def test_a_hub_name_enters_by_its_commit():
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert Settings(name="some/set", revision=commit).content()["commit"] == commit
    with pytest.raises(SourceError, match=r"which commit of data set 'some/set' .*offline.*`revision:`"):
        Settings(name="some/set").content()


def test_offline_the_commit_comes_from_the_cache(tmp_path):
    refs = tmp_path / "hub" / "datasets--some--set" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("feedface")
    assert Settings(name="some/set").content()["commit"] == "feedface"


def test_a_hub_name_that_cannot_be_had_says_what_to_do():
    with pytest.raises(SourceError, match=r"some/set.*point `data_files:` at local files"):
        prompts(name="some/set", revision="0123456789abcdef0123456789abcdef01234567")


def test_a_broken_file_is_named(tmp_path):
    broken = tmp_path / "p.parquet"
    broken.write_bytes(b"PAR1 no")
    with pytest.raises(SourceError, match=r"^p\.parquet cannot be loaded"):
        prompts(data_files=[str(broken)])
    with pytest.raises(SourceError, match="no file"):
        prompts(data_files=[str(tmp_path / "none.csv")])


@pytest.mark.parametrize("fields", [{}, {"data_files": ["a.csv", "b.json"]}, {"data_files": ["a.txt"]}])
def test_settings_that_name_no_rows_are_refused(fields):
    with pytest.raises(ValidationError):
        Settings(**fields)


def test_a_hub_that_cannot_be_reached_is_said_in_one_line() -> None:
    code = (
        "from dressage.sources._rows import SourceError\n"
        "from dressage.sources.hub import Settings\n"
        "try:\n    Settings(name='nobody/nothing').content()\n"
        "except SourceError as error:\n    print(error)\n"
    )
    offline = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | offline, capture_output=True, text=True)
    assert done.stdout.startswith("cannot tell which commit of data set 'nobody/nothing'"), done.stderr
