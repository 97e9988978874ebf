"""The loop over stages: what is done is skipped, what changed is refused or redone, what crashed goes on."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from dressage import pipeline
from dressage.engines.failing import TooManyFailures
from dressage.records import Candidate, Checkpoint, Failure, Grade, Preference
from dressage.settings import RunSettings
from dressage.stages._stage import StageError
from dressage.standing import Job, RunRefused, stage_folder, standings
from dressage.store import StoreError, append_line, lines_of, locked, rows_of
from run_parts import Quiet, changed, files, jsonl, manifest, prompts_file, run, small, trained
from run_parts import told as all_told

Plain = dict[str, Any]
DONE = ["data: already there", "judge: already there"]


@pytest.fixture
def plain(tmp_path: Path) -> Plain:
    return small(prompts_file(tmp_path / "prompts.jsonl"))


def states(root: Path, plain: Plain) -> dict[str, str]:
    return {s.stage: s.state for s in standings(RunSettings.model_validate(plain), root)}


def place(root: Path, stage: Any, name: str = "small") -> Path:
    return stage_folder(root / name, stage)


# ---------------------------------------------------------------- doing it again


def test_a_run_comes_to_its_end_and_the_second_does_nothing(tmp_path: Path, plain: Plain) -> None:
    assert states(tmp_path, plain) == {"data": "to do", "judge": "waits"}
    assert run(plain, tmp_path) == ["data: starting", "judge: starting"]
    assert states(tmp_path, plain) == {"data": "done", "judge": "done"}
    before = files(tmp_path / "small")
    assert run(plain, tmp_path) == DONE
    assert files(tmp_path / "small") == before
    assert len(list(rows_of(place(tmp_path, "data"), Candidate))) == 9
    assert len(list(rows_of(place(tmp_path, "judge"), Preference))) == 3


def test_one_stage_at_a_time_and_what_it_needs_first(tmp_path: Path, plain: Plain) -> None:
    with pytest.raises(StageError, match=r"judge needs data, which is not finished in .*run `dressage data CONFIG`"):
        run(plain, tmp_path, only="judge")
    assert run(plain, tmp_path, only="data") == ["data: starting"]
    assert run(plain, tmp_path, only="judge") == ["judge: starting"]


def test_a_stage_the_yaml_lacks_is_refused(tmp_path: Path, plain: Plain) -> None:
    for job in ({"only": "train"}, {"redo": "train"}):
        with pytest.raises(RunRefused, match="the YAML of 'small' has no `train:`; it has data, judge"):
            run(plain, tmp_path, **job)
    assert not (tmp_path / "small").exists()


# ---------------------------------------------------------------- changed settings


def test_changed_settings_are_refused_with_keys_stages_and_two_ways_out(tmp_path: Path, plain: Plain) -> None:
    run(plain, tmp_path)
    before = files(tmp_path / "small")
    with pytest.raises(RunRefused) as caught:
        run(changed(plain, judge__min_margin=0.2, data__per_prompt=2), tmp_path)
    said = str(caught.value)
    assert "these keys differ: data.per_prompt, judge.min_margin" in said
    assert "stages that no longer fit: data, judge" in said
    assert "--redo data" in said
    assert "--name NEW --from small" in said
    assert files(tmp_path / "small") == before


def test_a_change_downstream_concerns_only_downstream(tmp_path: Path, plain: Plain) -> None:
    run(plain, tmp_path)
    with pytest.raises(RunRefused, match=r"judge\.min_margin; stages that no longer fit: judge\. Either --redo judge"):
        run(changed(plain, judge__min_margin=0.2), tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"judge__max_failures": 0.5},
        {"data__max_failures": 0.5},
        {"models__spare": {"kind": "scripted", "says": "unused"}},
        {"models__writer__delay_s": 0.001},
        {"judges__spare": {"kind": "rules", "rules": [{"check": {"rule": "ends_cleanly"}}]}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_change_that_touches_no_finished_stage_is_accepted(tmp_path: Path, plain: Plain, change: Plain) -> None:
    run(plain, tmp_path)
    if "models__writer__delay_s" in change:
        change = {"models__writer": {**plain["models"]["writer"], "delay_s": 0.001}}
    assert run(changed(plain, **change), tmp_path) == DONE


def test_what_is_not_ours_enters_by_content(tmp_path: Path, plain: Plain) -> None:
    run(plain, tmp_path)
    prompts = tmp_path / "prompts.jsonl"
    text = prompts.read_text()
    prompts.write_text(text.replace("number 0", "number zero"))
    with pytest.raises(RunRefused, match=r"settings\.source\S* changed; stages that no longer fit: data"):
        run(plain, tmp_path)
    prompts.write_text(text)
    (tmp_path / "elsewhere").mkdir()
    moved = prompts.rename(tmp_path / "elsewhere" / "prompts.jsonl")
    assert run(changed(plain, data__source__path=str(moved)), tmp_path)[1] == "judge: already there"


def test_a_users_python_judge_enters_by_its_text(tmp_path: Path, plain: Plain) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def score(prompt, reply, reference):\n    return min(1, len(reply) / 99)\n")
    plain = changed(plain, judges={"form": {"kind": "python", "path": f"{file}:score"}})
    run(plain, tmp_path)
    file.write_text(file.read_text().replace("99", "98"))
    with pytest.raises(RunRefused, match=r"judges\.form\S* changed; stages that no longer fit: judge"):
        run(plain, tmp_path)


# ---------------------------------------------------------------- --redo


def test_redo_moves_the_old_output_aside_and_does_what_stands_on_it_again(tmp_path: Path, plain: Plain) -> None:
    run(plain, tmp_path)
    old = files(place(tmp_path, "data"))
    new = changed(plain, data__per_prompt=2)
    assert run(new, tmp_path, redo="data") == ["data: starting", "judge: starting"]
    kept = place(tmp_path, "data").with_name("data.old-1")
    assert files(kept) == old
    assert place(tmp_path, "judge").with_name("judge.old-1").is_dir()
    assert len(list(rows_of(place(tmp_path, "data"), Candidate))) == 6
    assert run(new, tmp_path) == DONE


def test_redo_of_a_stage_that_comes_out_the_same_leaves_the_others(tmp_path: Path, plain: Plain) -> None:
    run(plain, tmp_path)
    before = manifest(tmp_path, "data").rows_hash
    assert run(plain, tmp_path, redo="data") == ["data: starting", "judge: already there"]
    assert manifest(tmp_path, "data").rows_hash == before
    assert run(plain, tmp_path, redo="data")[0] == "data: starting"
    assert place(tmp_path, "data").with_name("data.old-2").is_dir()


def test_redo_does_not_excuse_a_stage_before_it(tmp_path: Path, plain: Plain) -> None:
    run(plain, tmp_path)
    with pytest.raises(RunRefused, match="stages that no longer fit: data"):
        run(changed(plain, data__per_prompt=2), tmp_path, redo="judge")


def test_a_redo_that_was_killed_goes_on_without_it(tmp_path: Path, plain: Plain) -> None:
    """data is redone and unfinished; the judge's old output is there: nobody can know yet whether it fits."""
    run(plain, tmp_path)
    rows = manifest(tmp_path, "judge").rows_hash
    place(tmp_path, "data").rename(place(tmp_path, "data").with_name("data.old-1"))
    assert states(tmp_path, plain) == {"data": "to do", "judge": "waits"}
    assert run(plain, tmp_path) == ["data: starting", "judge: already there"]
    assert manifest(tmp_path, "judge").rows_hash == rows


# ---------------------------------------------------------------- --name NEW --from OLD


def test_from_takes_over_only_what_still_fits(tmp_path: Path, plain: Plain) -> None:
    run(plain, tmp_path)
    append_line(tmp_path / "small" / "metrics.jsonl", {"stage": "data", "step": 1})
    append_line(tmp_path / "small" / "metrics.jsonl", {"stage": "judge", "step": 1})
    new = changed(plain, name="new", judge__min_margin=0.2)
    assert run(new, tmp_path, origin="small") == ["data: taken over from small", "judge: starting"]
    assert manifest(tmp_path, "data", "new").shards == manifest(tmp_path, "data").shards
    assert [row["stage"] for row in lines_of(tmp_path / "new" / "metrics.jsonl")] == ["data"]
    assert run(new, tmp_path) == DONE
    assert run(plain, tmp_path) == DONE


def test_from_takes_of_a_damaged_stage_what_is_whole(tmp_path: Path, plain: Plain) -> None:
    run(plain, tmp_path)
    whole = manifest(tmp_path, "data").rows_hash
    damaged = place(tmp_path, "data") / "candidates-00000.parquet"
    damaged.write_bytes(b"x")
    said = run(changed(plain, name="new"), tmp_path, origin="small")
    assert said[:2] == ["data: taken over from small as far as it is there", "data: going on"]
    assert manifest(tmp_path, "data", "new").rows_hash == whole
    assert damaged.read_bytes() == b"x"


def test_from_a_run_that_is_not_there_is_refused(tmp_path: Path, plain: Plain) -> None:
    run(plain, tmp_path)
    with pytest.raises(RunRefused, match=r"--from smal: there is no such run in .*did you mean 'small'"):
        run(changed(plain, name="new"), tmp_path, origin="smal")


# ---------------------------------------------------------------- damage and crashes


@pytest.mark.parametrize("file", ["candidates-00001.parquet", "shard-00001.json", "prompts-00002.parquet"])
def test_a_damaged_shard_of_a_finished_stage_is_done_again_alone(tmp_path: Path, plain: Plain, file: str) -> None:
    run(plain, tmp_path)
    before = files(place(tmp_path, "data"))
    (place(tmp_path, "data") / file).write_bytes(b"damaged")
    number = file.split("-")[1][:5]
    assert run(plain, tmp_path) == [
        f"data: shard {number} is gone or damaged; doing again what is",
        "data: going on",
        "judge: already there",
    ]
    after = files(place(tmp_path, "data"))
    for name, (time, content) in before.items():
        untouched = number not in name and name not in ("manifest.json", "stage.json")
        assert after[name] == (time, content) if untouched else name in after
    assert any(b"damaged" in content for name, (_, content) in after.items() if name.startswith("quarantine"))


@pytest.mark.parametrize("file", ["manifest.json", "stage.json"])
def test_a_damaged_manifest_is_written_anew_from_its_shards(tmp_path: Path, plain: Plain, file: str) -> None:
    run(plain, tmp_path)
    rows = manifest(tmp_path, "data").rows_hash
    shards = {k: v for k, v in files(place(tmp_path, "data")).items() if "0000" in k}
    (place(tmp_path, "data") / file).write_bytes(b'{"torn')
    assert run(plain, tmp_path)[-1] == "judge: already there"
    assert manifest(tmp_path, "data").rows_hash == rows
    assert {k: v for k, v in files(place(tmp_path, "data")).items() if "0000" in k} == shards


def test_a_damaged_config_says_so_in_words(tmp_path: Path, plain: Plain) -> None:
    run(plain, tmp_path)
    (tmp_path / "small" / "config.yaml").write_text("{torn")
    assert run(plain, tmp_path) == DONE


def test_an_interrupted_stage_goes_on_and_ends_with_the_same_hash(tmp_path: Path, plain: Plain) -> None:
    run(plain, tmp_path)
    whole = manifest(tmp_path, "data").rows_hash
    other = tmp_path / "other"
    failing = changed(plain, models__writer={**plain["models"]["writer"], "fails": 0.5}, data__max_failures=0.0)
    with pytest.raises(TooManyFailures, match=r"'sampling: writer' failed on \d+ of the 9 questions"):
        run(failing, other)
    assert states(other, failing)["data"] == "begun"
    run(plain, other / "clean")
    assert manifest(other / "clean", "data").rows_hash == whole


def test_failed_draws_are_kept_apart_from_candidates(tmp_path: Path, plain: Plain) -> None:
    failing = changed(plain, models__writer={**plain["models"]["writer"], "fails": 0.4}, data__max_failures=1.0)
    run(failing, tmp_path, only="data")
    failures = list(rows_of(place(tmp_path, "data"), Failure))
    candidates = list(rows_of(place(tmp_path, "data"), Candidate))
    assert failures
    assert len(failures) + len(candidates) == 9
    assert manifest(tmp_path, "data").facts["failed draws: scripted failure"] == len(failures)


JUDGED = {
    "models__words": {"kind": "scripted", "says": "SCORE-{nonce}: 7", "paid": True},
    "judges__form": {"kind": "pointwise", "model": "words", "how": "text"},
    "judge": {"by": "form", "shard_prompts": 1, "pairing": "all_pairs"},
}


def test_paid_answers_survive_a_crash_and_are_not_asked_again(tmp_path: Path, plain: Plain) -> None:
    log = tmp_path / "asked.jsonl"
    plain = changed(plain, **JUDGED)
    plain["models"]["words"] |= {"log": str(log), "says": ["SCORE-{nonce}: 7", "SCORE-{nonce}: 3"]}
    run(plain, tmp_path)
    assert not (place(tmp_path, "judge") / "journal.jsonl").exists()
    asked = len(log.read_text().splitlines())
    whole = manifest(tmp_path, "judge").rows_hash
    log.unlink()

    again = tmp_path / "again"
    run(plain, again, only="data")
    stopped = Stopping(after=4, log=log)
    with pytest.raises(KeyboardInterrupt):
        run_with(stopped, plain, again)
    journal = place(again, "judge") / "journal.jsonl"
    paid = len(journal.read_text().splitlines())
    assert paid == len(log.read_text().splitlines()) >= 4
    run(plain, again)
    assert len(log.read_text().splitlines()) == asked
    assert manifest(again, "judge").rows_hash == whole
    assert not journal.exists()


class Stopping(Quiet):
    """Interrupts a stage, as a user or a crash would, once a log has so many lines."""

    def __init__(self, after: int, log: Path) -> None:
        super().__init__()
        self.after, self.log = after, log

    def task(self, name: str, total: int) -> Any:
        def advance(units: int) -> None:
            if self.log.exists() and len(self.log.read_text().splitlines()) >= self.after:
                raise KeyboardInterrupt

        return nullcontext(advance)


def run_with(progress: Any, plain: Plain, root: Path) -> None:
    pipeline.run(RunSettings.model_validate(plain), Job(root), progress=progress)


def test_a_judge_that_fails_too_often_stops_the_stage_and_goes_on_once_mended(tmp_path: Path, plain: Plain) -> None:
    plain = changed(plain, **JUDGED)
    plain["models"]["words"] |= {"says": "no verdict"}
    with pytest.raises(TooManyFailures, match=r"'form' failed on \d of the 9 questions .*unreadable"):
        run(plain, tmp_path)
    lenient = changed(plain, judge__max_failures=1.0)
    run(lenient, tmp_path)
    assert manifest(tmp_path, "judge").facts["failures of form: unreadable (infrastructure)"] == 9
    assert not list(place(tmp_path, "judge").glob("grades-*"))


# ---------------------------------------------------------------- with a model that learns


def test_the_whole_loop_and_a_training_that_was_killed(tmp_path: Path, plain: Plain, tiny_model: Path) -> None:
    plain = trained(plain, tiny_model)
    said = run(plain, tmp_path)
    assert [line for line in said if line.endswith("starting")] == [
        "data: starting",
        "judge: starting",
        "train: starting",
        "evaluate: starting",
    ]
    whole = {stage: manifest(tmp_path, stage).rows_hash for stage in ("train", "evaluate")}
    logged = lines_of(tmp_path / "small" / "metrics.jsonl")
    assert logged

    # Killed in the middle of the training: metrics of the attempt are there, the shard is not.
    (place(tmp_path, "train") / "manifest.json").unlink()
    (place(tmp_path, "train") / "shard-00000.json").unlink()
    (tmp_path / "small" / "metrics.jsonl").write_text((tmp_path / "small" / "metrics.jsonl").read_text() + '{"torn')
    assert run(plain, tmp_path)[2:] == ["train: going on", "evaluate: already there"]
    assert lines_of(tmp_path / "small" / "metrics.jsonl") == logged
    assert {stage: manifest(tmp_path, stage).rows_hash for stage in whole} == whole

    # Killed after the shard was committed and before the manifest was: nothing is trained, no metric is lost.
    (place(tmp_path, "train") / "manifest.json").unlink()
    before = files(place(tmp_path, "train") / "adapter")
    assert run(plain, tmp_path)[2] == "train: going on"
    assert files(place(tmp_path, "train") / "adapter") == before
    assert lines_of(tmp_path / "small" / "metrics.jsonl") == logged

    # The adapter was damaged: it is trained anew, and comes out the same.
    (place(tmp_path, "train") / "adapter" / "adapter_model.safetensors").write_bytes(b"x")
    with pytest.raises(StageError, match=r"adapter_model\.safetensors of train is gone or damaged; run `dressage tr"):
        run(plain, tmp_path, only="evaluate", redo="evaluate")
    assert "adapter_model.safetensors is gone or damaged" in run(plain, tmp_path)[2]
    assert files(place(tmp_path, "train") / "adapter").keys() == before.keys()
    assert {stage: manifest(tmp_path, stage).rows_hash for stage in whole} == whole


def test_candidates_of_your_own_go_straight_to_judge_and_train(tmp_path: Path, plain: Plain, tiny_model: Path) -> None:
    rows = [
        {"prompt": f"Number {i}?", "response": text}
        for i in range(3)
        for text in ("Yes.", "Well, that is quite a long story to tell.", "", "Yes.")
    ]
    plain = trained(plain, tiny_model, judge__input=jsonl(tmp_path / "mine.jsonl", rows))
    del plain["data"], plain["evaluate"]
    run(plain, tmp_path)
    assert len(list(rows_of(place(tmp_path, "judge"), Candidate))) == 9  # doubled rows count once
    grades = list(rows_of(place(tmp_path, "judge"), Grade))
    assert sum(g.normalised == "broken_response: lowest" for g in grades) == 3
    preferences = list(rows_of(place(tmp_path, "judge"), Preference))
    assert len(preferences) == 3
    (checkpoint,) = rows_of(place(tmp_path, "train"), Checkpoint)
    assert manifest(tmp_path, "train").facts["pairs"] == 3
    assert (place(tmp_path, "train") / checkpoint.adapter / "adapter_model.safetensors").exists()


def test_pairs_of_your_own_go_straight_to_train(tmp_path: Path, plain: Plain, tiny_model: Path) -> None:
    rows = [{"prompt": f"Number {i}?", "chosen": f"Yes, {i}.", "rejected": "No."} for i in range(4)]
    plain = trained(plain, tiny_model, train__input=jsonl(tmp_path / "pairs.jsonl", rows))
    for section in ("data", "judge", "evaluate"):
        del plain[section]
    assert run(plain, tmp_path) == ["train: starting"]
    assert manifest(tmp_path, "train").facts["pairs"] == 4
    card = (place(tmp_path, "train") / "adapter" / "README.md").read_text()
    assert "it learnt from pairs of the user's own" in card
    assert '"path": "' + str(tmp_path / "pairs.jsonl") in card


def test_two_adapters_go_straight_to_evaluate(tmp_path: Path, plain: Plain, tiny_model: Path) -> None:
    rows = [{"prompt": f"Number {i}?", "chosen": f"Yes, {i}.", "rejected": "No."} for i in range(4)]
    source = jsonl(tmp_path / "pairs.jsonl", rows)
    for seed in (0, 1):
        one = trained(plain, tiny_model, name=f"seed-{seed}", seed=seed, train__input=source)
        for section in ("data", "judge", "evaluate"):
            del one[section]
        run(one, tmp_path)
    base = {"kind": "local", "path": str(tiny_model), "dtype": "float32", "device": "cpu", "threads": 1}
    plain = trained(plain, tiny_model, data__per_prompt=0, evaluate__policy="new", evaluate__predecessor="old")
    for seed, name in enumerate(("old", "new")):
        plain["models"][name] = base | {"adapter": str(place(tmp_path, "train", f"seed-{seed}") / "adapter")}
    del plain["judge"], plain["train"]
    assert run(plain, tmp_path) == ["data: starting", "evaluate: starting"]
    facts = manifest(tmp_path, "evaluate").facts
    assert (facts["sides"], facts["battles"]) == (["policy", "predecessor"], 3)
    assert not [name for name in facts if name.startswith("undecided by")]
    fingerprints = {c.model for c in rows_of(place(tmp_path, "evaluate"), Candidate)}
    assert len(fingerprints) == 2


def test_watching_asks_the_watch_judge_about_dev_prompts(tmp_path: Path, plain: Plain, tiny_model: Path) -> None:
    plain = trained(plain, tiny_model)
    plain["train"]["watch"] = "near"
    del plain["evaluate"]
    run(plain, tmp_path)
    facts = manifest(tmp_path, "train").facts
    assert (facts["watch_judge"], facts["watch_prompts"], facts["watch_failures"]) == ("near", 3, 0)
    assert 0 <= float(str(facts["watch_prefers_trained"])) <= 1


def test_two_runs_of_one_folder_are_refused(tmp_path: Path, plain: Plain) -> None:
    with locked(tmp_path / "small"), pytest.raises(StoreError, match="is in use by process"):
        run(plain, tmp_path)


def test_a_judge_that_cannot_be_opened_stops_before_anything_is_drawn(tmp_path: Path, plain: Plain) -> None:
    own = tmp_path / "my.py"
    plain["judges"]["form"] = {"kind": "python", "path": f"{own}:grade"}
    for text, told in (
        ("def grade(prompt reply):\n    return 1\n", r"my\.py:1: SyntaxError"),
        ("import math\n\nmath.nothing\n", r"my\.py:3: AttributeError"),
        ("def other(prompt, reply, reference):\n    return 1\n", "has no function 'grade'"),
    ):
        own.write_text(text)
        with pytest.raises((ValueError, LookupError), match=told):
            run(plain, tmp_path / "runs")
        assert not (tmp_path / "runs" / "small" / "round-0").exists()


def test_a_judge_that_tells_nothing_apart_is_said_at_the_end_of_its_stage(tmp_path: Path, plain: Plain) -> None:
    said = all_told(changed(plain, models__writer={"kind": "scripted", "says": "Yes."}), tmp_path)
    assert any(line.startswith("judge: warning: its preferences come from 0 of 3 prompts") for line in said)
    assert not any("warning" in line for line in all_told(changed(plain, name="other"), tmp_path))
