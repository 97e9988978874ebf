"""The page and the table of a card, and the verb `audit` from the command line to its exit code."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from audit_parts import FORM, MODELS, judge_of, pair, seat
from rich.console import Console

from dressage.cards import Calibrated, Card
from dressage.engines.auditing.audit import Questions, Subject, audit
from dressage.engines.auditing.corpus import answers, tactics
from dressage.report.card import write_card
from dressage.report.card_table import card_table
from dressage.report.reliability import reliability_plot

ROOT = Path(__file__).parents[2]
HOSTILE = "<script>alert(1)</script>{{7*7}}\u202eevil"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Card:
    """The card of a scripted judge that is 70 % sure of whatever is shown first, with hostile names around it."""
    folder = tmp_path_factory.mktemp("audit")
    judge = judge_of("pairwise", model="m")
    benches = [seat(judge, folder, seed=s, labels={"A": 0.7, "B": 0.3}) for s in (0, 1)]
    pairs = [pair(f"question {i}", f"good {i}", f"not so good {i}", tags=[HOSTILE]) for i in range(12)]
    questions = Questions(pairs, HOSTILE, tactics()[:5], answers()[:3], "lowest")
    return audit(benches[0], benches[1], Subject("pairwise", (HOSTILE,), "abc"), questions)


class Elements(HTMLParser):
    """Collects every element with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_stands_alone_and_runs_nothing(made: Card, tmp_path: Path) -> None:
    text = write_card(made, tmp_path / "index.html").read_text("utf-8")
    elements = Elements(text).found
    assert not {tag for tag, _ in elements} & {"script", "iframe", "object", "img", "form"}
    assert not [a for _, a in elements if any(name.startswith("on") for name in a)]
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    assert "default-src 'none'" in text
    assert "\u202e" not in text
    assert "&lt;script&gt;" in text


def test_the_page_says_that_the_judge_just_names_the_first(made: Card, tmp_path: Path) -> None:
    text = write_card(made, tmp_path / "index.html").read_text("utf-8")
    words = " ".join(re.sub(r"<[^>]+>", " ", text).split())
    assert "50.0 %" in words
    assert "guessing lies within the interval" in words
    assert "it always names the reply that is shown first" in words
    assert "both orders agree 0.0 %" in words
    assert "names the first shown 100.0 %" in words
    assert "position bias +50.0 points" in words
    assert "asked again 100.0 %" in words


def test_the_reliability_plot_has_a_dot_for_each_bin_where_it_belongs() -> None:
    bins = (Calibrated(low=0.5, high=0.6, n=4, said=0.5, true=0.5), Calibrated(low=0.9, high=1, n=1, said=1, true=0))
    text = str(reliability_plot(bins, title="t"))
    dots = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="([\d.]+)"', text)
    ((x1, y1, r1), (x2, y2, r2)) = [tuple(map(float, dot)) for dot in dots]
    (diagonal,) = re.findall(r'x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)" class="mark even"', text)
    start_x, start_y, end_x, end_y = map(float, diagonal)
    assert (x1, y1) == (start_x, start_y)  # half sure and right in half: on the diagonal's beginning
    assert x2 == end_x
    assert y2 - start_y == pytest.approx(start_y - end_y)  # sure and never right: as far below ½ as 1 is above
    assert (r1 / r2) ** 2 == pytest.approx(4)  # areas go by pairs
    assert "100.0 % sure, right in 0.0 % of 1 pair" in text


def test_the_card_is_the_same_again(made: Card) -> None:
    read = Card.model_validate_json(made.model_dump_json())
    assert read == made
    assert read.hash() == made.hash()


def test_the_table_says_the_same(made: Card) -> None:
    console = Console(file=StringIO(), width=200)
    card_table(made, console=console)
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    assert "judge card of judge" in text
    assert "it always names the reply that is shown first" in text
    assert "alone beats good" in text


# ---------------------------------------------------------------- the verb


def config(folder: Path, **judge: Any) -> Path:
    rows = [{"prompt": f"{i}?", "chosen": f"long and good answer {i}", "rejected": f"bad {i}"} for i in range(60)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plain = {
        "name": "small",
        "policy": "m",
        "models": MODELS,
        "judges": {"blind": {"kind": "pairwise", "model": "m"}, "form": FORM},
        "data": {"source": {"kind": "jsonl", "path": "pairs.jsonl"}},
        "judge": {"by": "blind"} | judge,
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(plain))
    return path


def dressage(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "COLUMNS": "250"}
    command = [sys.executable, "-m", "dressage.cli", *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def test_a_judge_below_its_floors_is_exit_code_one_in_words(tmp_path: Path) -> None:
    path = config(tmp_path, floors={"pairs": {"kind": "jsonl", "path": "pairs.jsonl"}})
    done = dressage("audit", path, "--red-team", 2, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "consistency   broken" in done.stdout
    assert "(it just names the reply that is shown first)" in done.stdout
    card = json.loads((tmp_path / "audits/small/blind/card.json").read_text())
    decisions = {ruling["floor"]: ruling["decision"] for ruling in card["rulings"]}
    assert decisions["agreement"] == "inconclusive"
    assert decisions["failures"] == "held"
    assert card["hash"] == Card.model_validate({k: v for k, v in card.items() if k != "hash"}).hash()
    assert "judge card: audits/small/blind/index.html" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_run_labels_nothing_with_a_judge_below_its_floors(tmp_path: Path) -> None:
    floors = {"pairs": {"kind": "jsonl", "path": "pairs.jsonl"}, "worst_tactic": None}
    done = dressage("run", config(tmp_path, floors=floors), cwd=tmp_path)
    assert done.returncode == 1
    assert "judge 'blind' is below the floors of the YAML" in done.stderr
    assert "judge.floors.consistency:" in done.stderr
    judge = tmp_path / "runs/small/round-0/judge"
    assert not list(judge.glob("*.parquet"))
    assert (tmp_path / "runs/small/round-0/data/manifest.json").exists()
    assert json.loads((tmp_path / "runs/small/audit/card.json").read_text())["judge"] == "blind"

    done = dressage("run", config(tmp_path, by="form", floors=floors), "--redo", "judge", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(judge.glob("*.parquet"))


def test_another_judge_and_other_pairs_from_the_command_line(tmp_path: Path) -> None:
    path = config(tmp_path)
    done = dressage(
        "audit", path, "--judge", "form", "--pairs", "pairs.jsonl", "--red-team", 0, "--out", "o", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "100.0 % [94.0, 100.0]" in done.stdout  # Wilson's 60 of 60
    card = json.loads((tmp_path / "o/form/card.json").read_text())
    assert card["red_team"] is None
    assert card["rulings"] == []
    again = dressage(
        "audit", path, "--judge", "form", "--pairs", "pairs.jsonl", "--red-team", 0, "--out", "p", cwd=tmp_path
    )
    assert again.returncode == 0
    assert json.loads((tmp_path / "p/form/card.json").read_text())["hash"] == card["hash"]


def test_without_pairs_there_is_the_red_team(tmp_path: Path) -> None:
    done = dressage("audit", config(tmp_path), "--judge", "form", "--red-team", 2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    card = json.loads((tmp_path / "audits/small/form/card.json").read_text())
    assert card["pairs"] is None
    assert len(card["red_team"]["scores"]) == 26
    assert "No labelled pairs" in (tmp_path / "audits/small/form/index.html").read_text("utf-8")


def test_what_cannot_be_audited_is_one_line(tmp_path: Path) -> None:
    path = config(tmp_path)
    done = dressage("audit", path, "--judge", "blimd", cwd=tmp_path)
    assert done.returncode == 1
    assert (
        done.stderr.strip()
        == "error: --judge blimd: it is not in `judges:`; did you mean 'blind'? (there is: blind, form)"
    )
    missing = dressage("audit", path, "--pairs", "pears.jsonl", cwd=tmp_path)
    assert missing.returncode == 1
    assert "no file pears.jsonl; did you mean 'pairs.jsonl'?" in missing.stderr
    assert not (tmp_path / "audits").exists()


def test_paid_answers_are_not_paid_twice(tmp_path: Path) -> None:
    path = config(tmp_path)
    log = ("--set", f"models.m.log={tmp_path / 'log.jsonl'}", "--set", "models.m.paid=true")
    words = ("audit", path, "--pairs", "pairs.jsonl", "--at-most", 10, "--red-team", 1, *log)
    first = dressage(*words, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    asked = len((tmp_path / "log.jsonl").read_text().splitlines())
    assert asked > 40
    second = dressage(*words, cwd=tmp_path)
    assert second.returncode == 0
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == asked
    assert second.stdout.split("cost of a label")[0] == first.stdout.split("cost of a label")[0]


def test_a_judge_with_tools_is_audited_with_them(tmp_path: Path) -> None:
    path = config(tmp_path)
    plain = yaml.safe_load(path.read_text())
    plain["models"]["m"] = {"kind": "scripted", "says": "VERDICT-{nonce}: first"}
    plain["tools"] = {"sums": {"kind": "calculator"}}
    plain["judges"]["agent"] = {"kind": "agentic", "model": "m", "tools": ["sums"]}
    path.write_text(yaml.safe_dump(plain))
    words = ("audit", path, "--judge", "agent", "--pairs", "pairs.jsonl", "--at-most", 5, "--red-team", 1)
    done = dressage(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    card = json.loads((tmp_path / "audits/small/agent/card.json").read_text())
    assert card["pairs"]["stability"]["same"]["value"] == 1
    slower = dressage(*words, "--set", "tools.sums.seconds=9", cwd=tmp_path)
    assert slower.returncode == 0, slower.stderr
    other = json.loads((tmp_path / "audits/small/agent/card.json").read_text())
    assert other["made_from"] != card["made_from"]
