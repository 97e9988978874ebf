"""The watch judge's failures have a limit, its number an interval, and what it saw is kept as records."""

from pathlib import Path
from typing import Any

import pytest

from dressage.engines.failing import TooManyFailures
from dressage.records import Candidate, Verdict
from dressage.standing import stage_folder
from dressage.store import rows_of
from run_parts import changed, files, manifest, prompts_file, run, small, trained

Plain = dict[str, Any]


@pytest.fixture
def watched(tmp_path: Path, tiny_model: Path) -> Plain:
    plain = small(prompts_file(tmp_path / "prompts.jsonl", 12))
    whole = trained(plain, tiny_model, train__watch="near")
    del whole["evaluate"]
    return whole


def test_what_the_watch_judge_saw_is_kept_with_an_interval(tmp_path: Path, watched: Plain) -> None:
    run(watched, tmp_path)
    place = stage_folder(tmp_path / "small", "train")
    facts = manifest(tmp_path, "train").facts
    low, value, high = (float(str(facts[f"watch_prefers_{end}"])) for end in ("low", "trained", "high"))
    assert 0 <= low <= value <= high <= 1
    verdicts = list(rows_of(place, Verdict))
    assert (len(verdicts), {v.judge for v in verdicts}) == (4, {"near"})
    wins = [(1 + (v.margin > 0) - (v.margin < 0)) / 2 for v in verdicts]
    assert value == pytest.approx(sum(wins) / 4)
    assert {c for v in verdicts for c in (v.first, v.second)} <= {c.id for c in rows_of(place, Candidate)}

    # Killed before the manifest was there: nothing is looked at again, and nothing has changed.
    whole, before = manifest(tmp_path, "train").rows_hash, files(place)
    (place / "manifest.json").unlink()
    run(watched, tmp_path)
    assert manifest(tmp_path, "train").rows_hash == whole
    assert {k: v for k, v in files(place).items() if "watch" in k} == {k: v for k, v in before.items() if "watch" in k}


def test_a_watch_judge_that_fails_too_often_stops_the_training(tmp_path: Path, watched: Plain) -> None:
    failing = changed(watched, models__words={"kind": "scripted", "fails": 1.0})
    with pytest.raises(TooManyFailures, match=r"'near' failed on 8 of the 8 questions"):
        run(failing, tmp_path)
    lenient = changed(failing, train__max_failures=1.0)
    run(lenient, tmp_path)
    facts = manifest(tmp_path, "train").facts
    assert (facts["watch_prefers_trained"], facts["watch_prefers_low"], facts["watch_failures"]) == (None, None, 8)
