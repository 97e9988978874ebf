"""Runs beside one another: numbers by hand, and which runs may be pooled."""

import io

import pytest
import yaml
from rich.console import Console

from dressage.comparing import compare, evaluated_run, guards, lines_of_run, pooled, rate_by
from dressage.maths.stats import clustered
from dressage.records import Battle, Candidate, GateResult, Message
from dressage.store import Manifest, StoreError, commit_shard, finish_stage


def reply(prompt, name, tokens):
    messages = (Message(role="assistant", content=name),)
    return Candidate.of(prompt_id=prompt, messages=messages, model=name, token_ids=tuple(range(tokens)))


def a_run(folder, *, seed, outcomes, judge="j2", extra=(), gates=(), **config):
    """A run whose policy has the given outcomes on prompts p0, p1, …, replies of 6 against 4 tokens."""
    (folder / "round-0").mkdir(parents=True)
    content = {"name": folder.name, "seed": seed, "train": {"beta": 0.1}, **config}
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    battles, candidates = list(extra), []
    for i, outcome in enumerate(outcomes):
        ours, theirs = reply(f"p{i}", "new", 6), reply(f"p{i}", "old", 4)
        candidates += [ours, theirs]
        broken = {"a broken": ("a",), "b broken": ("b",), "both broken": ("a", "b")}
        battles.append(
            Battle(
                prompt_id=f"p{i}",
                a="policy",
                b="predecessor",
                candidate_a=ours.id,
                candidate_b=theirs.id,
                judge=judge,
                outcome=outcome if outcome in ("a", "b", "tie") else None,
                broken=broken.get(outcome, ()),
            )
        )
    where = folder / "round-0" / "evaluate"
    shard = commit_shard(
        where, "00000", key="k", tables={Battle: battles, Candidate: candidates, GateResult: list(gates)}
    )
    finish_stage(
        where,
        Manifest(stage="evaluate", fingerprint="f", parts={}, shards=(shard,), rows_hash="h", facts={}, times={}),
    )
    return folder


def best_of(prompt, outcome):
    return Battle(
        prompt_id=prompt, a="best_of_4", b="predecessor", candidate_a="x", candidate_b="y", judge="j2", outcome=outcome
    )


def test_a_line_by_hand(tmp_path):
    # 1, 1, ½, 0, a broken → 0, b broken → 1, both broken and undecided left out: 3.5 of 6
    outcomes = ["a", "a", "tie", "b", "a broken", "b broken", "both broken", None]
    run = evaluated_run(
        a_run(tmp_path / "one", seed=7, outcomes=outcomes, extra=[best_of("p0", "a"), best_of("p1", "b")])
    )
    (line,) = lines_of_run(run)
    assert line.rate.estimate.value == pytest.approx(3.5 / 6)
    assert line.rate.left_out == 2
    assert (line.run, line.seed, line.judge, line.guards) == ("one", "7", "j2", "none")
    assert line.best_of["best_of_4"].estimate.value == 0.5
    assert line.tokens == "6 policy, 4 predecessor"


def test_runs_that_differ_in_seed_only_are_pooled_with_prompts_as_clusters(tmp_path):
    one, two = ["a", "a", "b", "tie"], ["a", "b", "b", "a"]
    runs = [
        evaluated_run(a_run(tmp_path / "s0", seed=0, outcomes=one)),
        evaluated_run(a_run(tmp_path / "s1", seed=1, outcomes=two)),
        evaluated_run(a_run(tmp_path / "hot", seed=1, outcomes=["a"] * 4, train={"beta": 0.5})),
    ]
    (line,) = pooled(runs)
    worth = {"a": 1.0, "tie": 0.5, "b": 0.0}
    expected = clustered([worth[o] for o in one + two], ["p0", "p1", "p2", "p3"] * 2)
    found = line.rate.estimate
    assert (line.run, line.seed, line.judge) == ("2 runs pooled", "0, 1", "j2")
    assert (found.value, found.n, found.clusters) == (pytest.approx(expected.value), 8, 4)
    assert (found.low, found.high) == (max(0, expected.low), min(1, expected.high))


def test_each_judge_has_its_own_line_and_none_are_pooled(tmp_path):
    other = Battle(
        prompt_id="p0", a="policy", b="predecessor", candidate_a="x", candidate_b="y", judge="j3", outcome="b"
    )
    run = evaluated_run(a_run(tmp_path / "one", seed=0, outcomes=["a", "a"], extra=[other]))
    rates = {line.judge: line.rate.estimate.value for line in lines_of_run(run)}
    assert rates == {"j2": 1.0, "j3": 0.0}
    assert rate_by(run.battles, judge="nobody") is None


def test_guards_that_did_not_hold_are_named():
    def gate(metric, decision):
        return GateResult(metric=metric, value=1, limit="x", decision=decision)

    assert guards([]) == "none"
    assert guards([gate("length", "held"), gate("eos", "held")]) == "2 held"
    mixed = [gate("length", "broken"), gate("eos", "held"), gate("kl", "inconclusive"), gate("nll", "broken")]
    assert guards(mixed) == "broken: length, nll; inconclusive: kl"


def test_the_table_holds_every_run_the_pool_and_what_to_mind(tmp_path):
    gates = [GateResult(metric="length", value=1, limit="x", decision="held")]
    runs = [
        a_run(tmp_path / "s0", seed=0, outcomes=["a", "b", None], gates=gates),
        a_run(tmp_path / "s1", seed=1, outcomes=["a", "tie"]),
    ]
    console = Console(file=io.StringIO(), width=160, highlight=False, emoji=False, markup=False)
    compare(runs, console=console)
    text = console.file.getvalue()
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert "50.0 %" in lines["s0"]
    assert "1 held" in lines["s0"]
    assert "75.0 %" in lines["s1"]
    assert "2 runs pooled" in text
    assert "1 battle is left out" in text
    assert "not evaluated on the same prompts" in text


def test_what_is_no_evaluated_run_is_refused(tmp_path):
    (tmp_path / "raw" / "round-0").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"config\.yaml is not there"):
        compare([tmp_path / "raw"])
    (tmp_path / "raw" / "config.yaml").write_text("- a list")
    with pytest.raises(StoreError, match="not the resolved config"):
        compare([tmp_path / "raw"])
    (tmp_path / "raw" / "config.yaml").write_text("name: raw\nseed: 0\n")
    with pytest.raises(StoreError, match="raw has no result to compare: evaluate is not finished"):
        compare([tmp_path / "raw"])


def test_a_run_without_evaluate_is_not_told_to_evaluate(tmp_path):
    (tmp_path / "rm" / "round-0").mkdir(parents=True)
    (tmp_path / "rm" / "config.yaml").write_text("name: rm\nseed: 0\nevaluate: null\n")
    with pytest.raises(StoreError, match="rm has nothing to compare: its YAML has no `evaluate:`") as said:
        compare([tmp_path / "rm"])
    assert "dressage evaluate" not in str(said.value)


def test_a_run_is_not_compared_with_itself(tmp_path):
    run = a_run(tmp_path / "one", seed=0, outcomes=["a", "b"])
    with pytest.raises(StoreError, match="is named 2 times"):
        compare([run, tmp_path / "other" / ".." / "one"])
