"""The page of a run and of a comparison: what they say, and that nothing a model wrote can act."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dressage.report.comparison import write_comparison
from dressage.report.page import write_report


class Elements(HTMLParser):
    """Collects every element with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def page(run: Path) -> str:
    return write_report(run).read_text("utf-8")


def test_the_headline_names_its_judges_and_never_says_better(make_run):
    text = page(make_run("judge", "train", "evaluate"))
    for words in ("61.3", "55.0", "67.4", "nearness", "duel", "preferred over its predecessor", "64.78"):
        assert words in text, words
    assert not re.search(
        r"\bbetter\b", re.sub(r"<style>.*?</style>", "", text, flags=re.S).split("The resolved config")[0]
    )


def test_guards_show_both_sides_and_what_broke(make_run):
    text = page(make_run("judge", "train", "evaluate"))
    for words in ("52.31", "58.02", "within ±25 %", "broken", "inconclusive"):
        assert words in text, words


def test_what_a_model_wrote_cannot_act(make_run, hostile):
    text = page(make_run("judge", "train", "evaluate", texts=(hostile, hostile)))
    elements = Elements(text).found
    assert not [tag for tag, _ in elements if tag in ("script", "iframe", "object", "embed", "form")]
    assert not [a for tag, a in elements if tag == "link" and not (a.get("href") or "").startswith("data:")]
    assert not [name for _, attrs in elements for name in attrs if name.startswith("on")]
    assert not [a for tag, a in elements if tag == "img" and not (a.get("src") or "").startswith("data:")]
    assert "alert(1)" in text  # shown, as text
    assert "{{7*7}}" in text  # and not computed
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


def test_the_policy_forbids_everything_but_its_own_style(make_run):
    elements = Elements(page(make_run("judge", "train", "evaluate"))).found
    (policy,) = [
        a["content"] for tag, a in elements if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert any(tag == "meta" and a.get("name") == "viewport" for tag, a in elements)
    sources = [v for _, a in elements for n, v in a.items() if n in ("src", "href") and v]
    assert not [s for s in sources if s.startswith(("http:", "https:", "//"))]


@pytest.mark.parametrize("stages", [(), ("judge",), ("judge", "train"), ("evaluate",)])
def test_a_page_shows_what_is_there(make_run, stages):
    text = page(make_run(*stages))
    assert "<svg" in text or not stages or stages == ("judge",)
    assert "The resolved config" in text


def test_writing_again_changes_nothing(make_run):
    run = make_run("judge", "train", "evaluate")
    assert page(run) == page(run)


def test_a_comparison_shows_every_run_and_pools_seeds(make_run, tmp_path):
    runs = [make_run("judge", "train", "evaluate", name=f"demo-seed-{s}", seed=s) for s in (1, 2, 3)]
    text = write_comparison(runs, tmp_path / "seeds.html").read_text("utf-8")
    assert all(run.name in text for run in runs)
    assert "pooled" in text.lower()
    assert not [tag for tag, _ in Elements(text).found if tag == "script"]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on this machine")
def test_a_browser_draws_it_and_runs_nothing(make_run, tmp_path, hostile):
    run = make_run("judge", "train", "evaluate", texts=(hostile, hostile))
    path = write_report(run)
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    command += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path / 'u'}"]
    drawn = subprocess.run([*command, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120)
    assert "preferred over its predecessor" in drawn.stdout
    shot = tmp_path / "page.png"
    subprocess.run(
        [*command, f"--screenshot={shot}", "--window-size=390,2000", path.as_uri()], capture_output=True, timeout=120
    )
    assert shot.stat().st_size > 20_000
