"""The page of a run and of a comparison: what they say, and that nothing a model wrote can act."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from dressage.comparing import compare
from dressage.reading import tables_of, unfit
from dressage.records import Battle, Grade
from dressage.report.battles import chosen
from dressage.report.comparison import write_comparison
from dressage.report.learnt import learnt
from dressage.report.making import facts, judges, remarks
from dressage.report.page import write_report
from dressage.report.reading import read_run
from dressage.store import Manifest, StoreError, commit_shard, finish_stage, manifest_of


class Elements(HTMLParser):
    """Collects every element with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


class Rows(HTMLParser):
    """Collects the cells of every table row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[list[str]] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.found.append([])
        elif tag in ("td", "th"):
            self.found[-1].append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.found[-1][-1] += data


def rows(text: str) -> list[list[str]]:
    return [[" ".join(cell.split()) for cell in row] for row in Rows(text).found]


def page(run: Path) -> str:
    return write_report(run).read_text("utf-8")


def test_the_headline_names_its_judges_and_never_says_better(make_run):
    text = page(make_run("judge", "train", "evaluate"))
    for words in ("61.3", "55.0", "67.4", "nearness", "duel", "preferred over its predecessor"):
        assert words in text, words
    assert '<p class="sentence">preferred over its predecessor on 60 prompts by <b>nearness</b></p>' in text
    assert "Grok" not in text  # it stands in comparisons only
    assert not re.search(
        r"\bbetter\b", re.sub(r"<style>.*?</style>", "", text, flags=re.S).split("The resolved config")[0]
    )


LEAST, FALL = "at least 85 % of the predecessor's", "may fall by at most 0 points"


def test_guards_show_both_sides_and_what_broke(make_run):
    text = page(make_run("judge", "train", "evaluate"))
    found = rows(text)
    head = found.index(["metric", "policy", "predecessor", "change", "limit", "decision"])
    assert found[head + 1 : head + 5] == [
        ["Distinct bigrams over all bigrams", "0.5120", "0.6890", "−25.7 %", LEAST, "✕ broken"],
        ["Replies with the commonest opener", "–", "20.0 %", "–", "at most 15 points more", "? inconclusive"],
        ["Reply length tokens", "52.31", "58.02", "−9.8 %", "between −25 % and +25 %", "✓ held"],
        ["Replies that end by themselves", "95.3 %", "93.1 %", "+2.2 points", FALL, "✓ held"],
    ]
    assert "Guards: 1 broken, 1 inconclusive, 2 held" in text


def test_nothing_is_pooled_where_nothing_may_be(make_run, tmp_path):
    runs = [make_run("judge", "train", "evaluate", name=f"demo-seed-{s}", seed=s) for s in (1, 2)]
    text = write_comparison(runs, tmp_path / "seeds.html", pooled="never").read_text("utf-8")
    assert "seeds pooled" not in text
    assert "pooled: preferred" not in text


def own_base(run: Path) -> list[bool]:
    """Of each judge, whether the page says that it is judged by the policy's own base."""
    return [any("own base" in note for note in judge.notes) for judge in judges(read_run(run))]


def recorded(run: Path, **weights: dict[str, str]) -> Path:
    """The run, its data stage made from models with these weights."""
    folder = run / "round-0" / "data"
    manifest = manifest_of(folder)
    assert manifest
    models = {name: {"code": 1, "content": {"weights": files}} for name, files in weights.items()}
    finish_stage(folder, manifest.model_copy(update={"parts": {"models": models}}))
    return run


def test_a_judge_on_the_policys_own_base_is_named_whatever_the_folder_is_called(make_run):
    run = make_run("judge")
    assert own_base(run) == [True, True, False]  # rater and duel ask `base` itself
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["models"]["copy"] = {"kind": "local", "path": "models/copy"}
    for judge in ("rater", "duel"):
        config["judges"][judge]["model"] = "copy"
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    assert own_base(run) == [False, False, False]  # nothing is known of it but another path
    own = {"model.safetensors": "0f", "README.md": "1"}
    assert own_base(recorded(run, base=own, copy={**own, "README.md": "2"})) == [True, True, False]
    assert own_base(recorded(run, base=own, copy={"model.safetensors": "1f"})) == [False, False, False]
    assert own_base(recorded(run, base={"commit": "c1"}, copy={"commit": "c1"})) == [True, True, False]


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
    # By hand: of 60 prompts the policy wins 39 by nearness (40, of which one reply is broken), under every seed alike:
    # 65 %, s.e. sqrt(0.65 · 0.35 / 59), times t(59) = 2.001. Taken for 180 prompts it would be [58.0, 72.0].
    assert "Grok 4.1 vs its predecessor" in text
    assert ">3 seeds pooled, 60 prompts: 65.0 % [52.6, 77.4]</title>" in text
    names = ", ".join(run.name for run in runs)
    assert f"{names} pooled: preferred over the predecessor in 65.0 % [52.6, 77.4] by nearness" in text
    assert f"{names} pooled: preferred over the predecessor in 74.6 % [67.6, 81.6] by duel" in text  # 30 + 28 / 2 of 59
    found = rows(text)
    shown = {(row[0], row[2]): row[3:5] for row in found if row[0] in {run.name for run in runs}}
    assert len(shown) == 6
    assert shown["demo-seed-2", "nearness"] == ["61.3 % [55.0, 67.4]", "60"]
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


def moved_on(run: Path) -> None:
    """Train was done again and came out differently; evaluate is of the training before."""
    path = run / "round-0" / "evaluate" / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"parts": {"inputs": {"train": "another-rows-hash"}}}))


def test_an_evaluation_of_another_training_is_marked_beside_its_numbers(make_run):
    run = make_run("judge", "train", "evaluate")
    assert "Not the result of this run" not in page(run)
    moved_on(run)
    text = page(run)
    words = "Not the result of this run:</b> evaluate was made from another train than the one that is there now"
    assert text.index(words) < text.index("preferred over its predecessor")


def test_an_evaluation_of_another_training_is_not_compared(make_run, tmp_path):
    runs = [make_run("judge", "train", "evaluate", name=f"demo-{s}", seed=s) for s in (1, 2)]
    moved_on(runs[0])
    text = write_comparison(runs, tmp_path / "seeds.html").read_text("utf-8")
    assert "not evaluated" in text
    assert "pooled:" not in text
    with pytest.raises(StoreError, match="demo-1 has no result to compare: evaluate was made from another train"):
        compare(runs)
    (runs[1] / "round-0" / "train" / "manifest.json").unlink()
    assert unfit(runs[1] / "round-0", "evaluate") is None  # made from nothing that was written down
    moved_on(runs[1])
    assert unfit(runs[1] / "round-0", "evaluate") == "train is not finished"


def test_how_many_battles_are_shown_is_asked_when_they_are_shown(make_run):
    run = make_run("judge", "train", "evaluate")
    fought = [row for table in tables_of(run / "round-0" / "evaluate", Battle) for row in table]
    few, more = (set(chosen(fought, n, 7, "shown battles", "round-0")) for n in (2, 5))
    assert (len(few), len(more)) == (2, 5)
    assert few != set(chosen(fought, 2, 8, "shown battles", "round-0"))
    assert len(chosen(fought, 10_000, 7)) == 60


# ---------------------------------------------------------------- stages, remarks, judges


def stage_rows(run: Path) -> dict[str, list[str]]:
    found = rows(page(run))
    head = next(i for i, row in enumerate(found) if row[:2] == ["stage", "state"])
    return {row[0]: row[1:5] for row in found[head + 1 : head + 5]}


def test_a_stage_took_its_whole_and_not_its_parts_beside(make_run):
    assert stage_rows(make_run("train", judge=None)) == {
        "data": ["not run", "–", "–", "–"],
        "judge": ["not part of this run", "–", "–", "–"],
        "train": ["done", "1 checkpoint", "1", "61.2 s"],
        "evaluate": ["not run", "–", "–", "–"],
    }


def test_what_is_not_part_of_a_run_is_not_missed(make_run):
    assert "this run has not been evaluated" in page(make_run("train"))
    text = page(make_run("train", name="only-trains", evaluate=None))
    assert "Evaluate is not part of this run" in text
    assert "not been evaluated" not in text


def remarked(run: Path) -> dict[str, bool]:
    """Each remark on a run, and whether it warns."""
    return {remark.text: remark.warns for remark in remarks(read_run(run))}


def test_one_look_at_the_test_split_is_told_and_a_second_warned_of(make_run):
    run = make_run("judge", "train", "evaluate", allow_shared_judges=None)
    evaluation = run / "round-0" / "evaluate"
    assert remarked(run) == {"The test split was looked at 1 time in this run.": False}
    assert '<p class="note">The test split was looked at 1 time' in page(run)
    shutil.copytree(evaluation, evaluation.with_name("evaluate.old-1"))
    ((text, warns),) = remarked(run).items()
    assert text.startswith("The test split was looked at 2 times in this run: ")
    assert warns
    assert '<p class="remark">The test split was looked at 2 times' in page(run)


def test_a_judge_that_graded_everything_alike_is_remarked_on(make_run):
    run = make_run(allow_shared_judges=None)
    place = run / "round-0" / "train"
    alike = [Grade(prompt_id="p", candidate_id=c, judge="rater", score=0.5) for c in "ab"]
    shard = commit_shard(place, "update-00001", key="k", tables={Grade: alike})
    finished = {"stage": "train", "fingerprint": "f", "parts": {}, "shards": [shard], "rows_hash": "h"}
    finish_stage(place, Manifest.model_validate(finished | {"facts": {}, "times": {}}))
    ((text, warns),) = remarked(run).items()
    assert text.startswith("Train: the judge gave all replies the same grade (0.5)")
    assert warns


PPO = {"trainer": {"kind": "ppo"}, "watch": None}
FORM = {
    "kind": "rules",
    "rules": [
        {"check": {"rule": "length_window", "unit": "words", "least": 5, "most": 9, "slack": 4.0}, "name": ""},
        {"check": {"rule": "repetition"}, "weight": 0.5, "name": "no loops"},
    ],
}


def test_a_judge_is_shown_with_what_it_did_and_with_readable_settings(make_run):
    learner = {"base": {"kind": "local", "path": "models/base"}}
    judges_of = {"form": FORM, "near": {"kind": "pairwise", "model": "base"}}
    config = {"models": learner, "judges": judges_of, "judge": {"by": "form"}, "evaluate": {"by": ["near"]}}
    data = {"source": {"kind": "jsonl", "path": "p.jsonl"}, "per_prompt": 0}
    form, _ = judges(read_run(make_run(**config, data=data, train=PPO, allow_shared_judges=None)))
    assert form.roles == ("graded the draws",)
    assert dict(form.settings)["rules"].splitlines() == [
        "length_window: unit=words, least=5, most=9, slack=4",
        "no loops (repetition): weight=0.5",
    ]
    form, _ = judges(read_run(make_run(name="pairs", **config, allow_shared_judges=None)))
    assert form.roles == ("made the preferences",)


def test_what_only_a_machine_reads_is_no_fact_for_people(make_run, make_stage):
    run = make_run()
    told = {"looks": [], "adapter_hash": "0f" * 32, "shown": ["0f" * 8], "pairs": 0, "layout": "shared"}
    make_stage(run, "train", {}, **told)
    (round_,) = read_run(run).rounds
    assert facts(round_) == [("train", [("layout", "shared"), ("pairs", "0")])]


def test_what_a_training_came_to():
    reward = {"held_out/accuracy": 0.8, "held_out/accuracy_low": 0.6, "held_out/accuracy_high": 0.912}
    reward |= {"held_out/prompts": 20, "held_out/length_only_accuracy": 0.55, "start/loss": 0.6931, "end/loss": 0.25}
    assert learnt(reward) == [
        ("pairs told apart rightly", "80.0 % [60.0, 91.2] on 20 held-out prompts"),
        ("by length alone", "55.0 %"),
        ("loss on what was learnt", "0.6931 → 0.25"),
    ]
    practice = {"start/score": 0.5, "end/score": 0.75, "start/kl": 0.0, "end/kl": 1.23456}
    assert learnt(practice) == [
        ("mean grade of the draws", "0.5 → 0.75"),
        ("KL from the reference at the end", "1.235 nats per reply"),
    ]
    assert learnt(practice | {"end/score": 0.5})[0][1] == "0.5 throughout"
    watched = {"watch_judge": "w", "watch_prefers_trained": 1.0, "watch_prefers_low": None, "watch_prompts": 1}
    assert learnt(watched) == [("preferred to its start by w", "100.0 % on 1 dev prompt")]
    assert learnt({"pairs": 3}) == []
