"""Evaluate's numbers are what they say: KL under top-p, grades of broken replies, best of n where a judge fails."""

from pathlib import Path
from typing import Any

import pytest

from dressage.fingerprints import parts_of
from dressage.maths.stats import Estimate
from dressage.records import Battle, Candidate, GateResult, Grade, Measure, Trace
from dressage.settings import RunSettings
from dressage.stages._measures import within
from dressage.standing import stage_folder
from dressage.store import rows_of
from run_parts import changed, manifest, prompts_file, run, small, trained

Plain = dict[str, Any]


@pytest.fixture
def plain(tmp_path: Path) -> Plain:
    return small(prompts_file(tmp_path / "prompts.jsonl", 12))


def untrained(plain: Plain, model: Path, **more: Any) -> Plain:
    """The starting model against itself: nothing has moved."""
    whole = trained(plain, model, evaluate__policy="tiny", **more)
    del whole["train"]
    return whole


def measured(root: Path) -> dict[tuple[str, str], Measure]:
    return {(m.name, m.of): m for m in rows_of(stage_folder(root / "small", "evaluate"), Measure)}


@pytest.mark.parametrize("sampling", [{"top_p": 0.5}, {"temperature": 0.7}, {"top_p": 0.5, "temperature": 0.7}])
def test_a_policy_that_is_the_base_has_a_kl_of_zero_however_it_draws(
    tmp_path: Path, plain: Plain, tiny_model: Path, sampling: Plain
) -> None:
    whole = untrained(plain, tiny_model, evaluate__sampling={"max_new_tokens": 16, **sampling}, judge=None)
    whole |= {"evaluate": {**whole["evaluate"], "guards": {"kl_at_most": 1e-6}}}
    run({k: v for k, v in whole.items() if v is not None}, tmp_path)
    kl = measured(tmp_path)["kl_per_reply", "policy"]
    assert (kl.value, kl.low, kl.high) == (0, None, None)
    gates = {g.metric: g.decision for g in rows_of(stage_folder(tmp_path / "small", "evaluate"), GateResult)}
    assert gates["kl_per_reply"] == "held"


def test_greedy_replies_have_no_kl(tmp_path: Path, plain: Plain, tiny_model: Path) -> None:
    greedy = {"temperature": 0, "max_new_tokens": 8}
    whole = untrained(plain, tiny_model, evaluate__sampling=greedy, evaluate__best_of=0)
    run(whole, tmp_path)
    assert ("kl_per_reply", "policy") not in measured(tmp_path)
    assert all(t.own is None for t in rows_of(stage_folder(tmp_path / "small", "evaluate"), Trace))


def test_broken_replies_are_graded_by_the_rule_and_not_left_out(tmp_path: Path, plain: Plain, tiny_model: Path) -> None:
    """Every reply of the tiny model is over ten characters: all are broken, and the mean grade is 0, not missing."""
    whole = untrained(plain, tiny_model, evaluate__max_chars=1, evaluate__max_failures=1.0)
    run(whole, tmp_path)
    grades = list(rows_of(stage_folder(tmp_path / "small", "evaluate"), Grade))
    assert {g.normalised for g in grades if g.judge == "form"} == {"broken_response: lowest"}
    mean = measured(tmp_path)["score_mean", "policy"]
    assert (mean.value, mean.by) == (0, "form")


def test_the_training_judge_and_its_rule_enter_the_fingerprint(plain: Plain, tiny_model: Path) -> None:
    """Two judges of which either may be the one that grades both sides: which it is changes the rows."""
    whole = trained(plain, tiny_model, allow_shared_judges="a test", evaluate__by=["near", "form"])

    def parts(**change: Any) -> Any:
        return parts_of(RunSettings.model_validate(changed(whole, **change)), "evaluate", {})

    assert parts() == parts(judge__min_margin=0.5)
    assert parts()["judges"] == parts(judge__by="near")["judges"]
    assert parts() != parts(judge__by="near")
    assert parts() != parts(judge__broken_response="worst_of_prompt")


def test_the_best_of_n_leaves_out_what_the_judge_could_not_be_asked_about(
    tmp_path: Path, plain: Plain, tiny_model: Path
) -> None:
    """The judge fails on every reply: there is no best, rather than one that nobody has looked at."""
    (tmp_path / "mine.py").write_text(
        "def score(prompt, reply, reference):\n"
        "    if 'number 2' in prompt[-1]['content']:\n        raise ValueError('boom')\n    return 0.5\n"
    )
    whole = untrained(plain, tiny_model, evaluate__max_failures=1.0)
    whole["judges"]["form"] = {"kind": "python", "path": f"{tmp_path / 'mine.py'}:score"}
    run(whole, tmp_path)
    folder = stage_folder(tmp_path / "small", "evaluate")
    met = [b.prompt_id for b in rows_of(folder, Battle) if b.a == "best_of_2"]
    assert len(met) == 3  # of four test prompts: on the second of them the judge fails
    assert len({c.prompt_id for c in rows_of(folder, Candidate)}) == 4
    assert manifest(tmp_path, "evaluate").facts["prompts"] == 4


def test_a_mean_grade_and_its_interval_lie_in_the_unit_interval() -> None:
    assert within(Estimate(0.95, 0.8, 1.1, 3, 3)) == Estimate(0.95, 0.8, 1.0, 3, 3)
    assert within(Estimate(0.05, -0.1, 0.2, 3, 3)) == Estimate(0.05, 0.0, 0.2, 3, 3)
    assert within(Estimate(0.5, None, None, 1, 1)) == Estimate(0.5, None, None, 1, 1)
