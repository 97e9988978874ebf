"""The plan counts what a run would do, by hand-computed numbers, and agrees with what the run then does."""

from pathlib import Path
from typing import Any

import pytest

from dressage.planning import CHARS_PER_TOKEN, plan
from dressage.settings import RunSettings
from run_parts import changed, jsonl, manifest, prompts_file, run, small

Plain = dict[str, Any]


def planned(plain: Plain, root: Path) -> dict[str, Any]:
    found = plan(RunSettings.model_validate(plain), root)
    return {stage: (state, work) for stage, state, work in found.stages}


def test_draws_and_judgements_are_those_of_the_run(tmp_path: Path) -> None:
    plain = small(prompts_file(tmp_path / "prompts.jsonl", 12))
    work = planned(plain, tmp_path)
    assert (work["data"][0], work["judge"][0]) == ("to do", "waits")
    assert work["data"][1].draws == 4 * 3
    assert (work["judge"][1].judgements, work["judge"][1].calls) == (12, 0)
    run(plain, tmp_path)
    assert manifest(tmp_path, "data").facts["candidates"] == work["data"][1].draws
    assert manifest(tmp_path, "judge").facts["grades"] == work["judge"][1].judgements
    assert {stage: state for stage, (state, _) in planned(plain, tmp_path).items()} == {"data": "done", "judge": "done"}


def test_a_comparing_model_judge_is_called_twice_a_pair(tmp_path: Path) -> None:
    plain = small(
        prompts_file(tmp_path / "prompts.jsonl", 12), judges={"form": {"kind": "pairwise", "model": "writer"}}
    )
    _, work = planned(plain, tmp_path)["judge"]
    assert (work.judgements, work.calls) == (4 * 3, 4 * 3 * 2)
    panel = {"kind": "panel", "judges": ["one", "two"]}
    one = {"kind": "pointwise", "model": "writer"}
    _, work = planned(changed(plain, judges={"form": panel, "one": one, "two": one}), tmp_path)["judge"]
    assert (work.judgements, work.calls) == (4 * 3, 4 * 3 * 2)
    pairwise = {"kind": "pairwise", "model": "writer"}
    _, work = planned(changed(plain, judges={"form": panel, "one": pairwise, "two": pairwise}), tmp_path)["judge"]
    assert (work.judgements, work.calls) == (4 * 3, 4 * 3 * 2 * 2)


def test_caps_and_other_writers_count(tmp_path: Path) -> None:
    plain = small(prompts_file(tmp_path / "prompts.jsonl", 12))
    plain = changed(plain, data__at_most={"train": 2}, data__also=["other"])
    plain["models"]["other"] = {"kind": "scripted"}
    found = plan(RunSettings.model_validate(plain), tmp_path)
    assert found.prompts == {"train": 2, "dev": 4, "test": 4}
    assert [w.draws for _, _, w in found.stages] == [2 * 3 * 2, 0]


def test_tokens_written_are_at_most_the_limit_of_each_draw(tmp_path: Path) -> None:
    plain = changed(small(prompts_file(tmp_path / "prompts.jsonl", 9)), data__sampling={"max_new_tokens": 50})
    _, work = planned(plain, tmp_path)["data"]
    assert work.written == 9 * 50
    assert CHARS_PER_TOKEN == 4.0


def test_a_price_table_makes_a_range_of_cost(tmp_path: Path) -> None:
    plain = small(prompts_file(tmp_path / "prompts.jsonl", 9), judges={"form": {"kind": "pointwise", "model": "paid"}})
    plain["models"]["paid"] = {
        "kind": "endpoint",
        "base_url": "http://127.0.0.1:9/v1",
        "model": "judge",
        "price": {"read": 1e6, "written": 2e6},
    }
    _, work = planned(plain, tmp_path)["judge"]
    low, high = work.cost
    assert low == pytest.approx(work.read, abs=1)
    assert high == pytest.approx(low + 9 * 512 * 2)


def test_a_plan_of_data_already_drawn_still_shows_what_is_to_come(tmp_path: Path) -> None:
    plain = small(prompts_file(tmp_path / "prompts.jsonl", 9))
    run(plain, tmp_path, only="data")
    found = plan(RunSettings.model_validate(plain), tmp_path)
    assert [(stage, state) for stage, state, _ in found.stages] == [("data", "done"), ("judge", "to do")]
    fast, slow = found.seconds()
    assert 0 <= fast <= slow


def test_a_run_on_candidates_of_ones_own_can_be_planned(tmp_path: Path) -> None:
    plain = small(prompts_file(tmp_path / "prompts.jsonl", 9))
    plain["judge"] |= {"input": {"kind": "jsonl", "path": str(tmp_path / "mine.jsonl")}}
    (tmp_path / "mine.jsonl").write_text('{"prompt": "a?", "response": "b"}\n')
    del plain["data"]
    assert plan(RunSettings.model_validate(plain), tmp_path).prompts == {}


# ---------------------------------------------------------------- what costs money is all counted

PAID = {
    "kind": "endpoint",
    "base_url": "http://127.0.0.1:9/v1",
    "model": "judge",
    "price": {"read": 1e6, "written": 2e6},
}
"""A token read costs 1, a token written 2."""


@pytest.mark.parametrize(
    ("judge", "questions", "words"),
    [
        ({"kind": "rubric", "criteria": [{"ask": f"Is it {x}?"} for x in "abc"], "max_new_tokens": 16}, 3, 16),
        ({"kind": "pointwise", "samples": 4, "temperature": 0.7, "max_new_tokens": 48}, 4, 48),
        ({"kind": "pointwise", "how": "text", "max_new_tokens": 32}, 1, 32),
    ],
    ids=["a rubric's questions", "samples", "words"],
)
def test_every_question_of_a_judge_in_words_is_counted_with_what_it_may_write(
    tmp_path: Path, judge: Plain, questions: int, words: int
) -> None:
    plain = small(prompts_file(tmp_path / "prompts.jsonl", 9), judges={"form": {**judge, "model": "paid"}})
    plain["models"]["paid"] = PAID
    _, work = planned(plain, tmp_path)["judge"]
    assert (work.judgements, work.calls, work.written) == (9, 9 * questions, 9 * questions * words)
    assert work.cost == (pytest.approx(work.read, abs=1), pytest.approx(work.read + 2 * work.written, abs=1))
    assert work.seconds == (0, 0)  # another machine's work is waited for
    forward = changed(plain, models__paid={**PAID, "labels": True})
    if judge.get("samples", 1) == 1 and judge.get("how") != "text":
        assert planned(forward, tmp_path)["judge"][1].written == 9 * questions


def test_draws_of_an_endpoint_are_priced_wherever_they_are_made(tmp_path: Path) -> None:
    plain = small(prompts_file(tmp_path / "prompts.jsonl", 9))
    plain = changed(plain, data__also=["paid"], data__sampling={"max_new_tokens": 10})
    plain["models"]["paid"] = PAID
    _, work = planned(plain, tmp_path)["data"]
    prompts = [f"Tell me about {w} number {i}." for i, w in ((0, "water"), (3, "river"), (6, "letter"))]
    one = int(sum(map(len, prompts)) / CHARS_PER_TOKEN) + 20 * 3
    assert work.draws == 9 + 9
    assert work.cost == (3 * one, 3 * one + 2 * 90)  # a request carries its prompt each time
    assert work.read == one + 3 * one
    plain |= {"evaluate": {"by": ["form"], "policy": "writer", "predecessor": "paid", "best_of": 2}}
    plain |= {"allow_shared_judges": "a test"}
    _, work = planned(plain, tmp_path)["evaluate"]
    assert (work.draws, work.written) == (3 * 4, 3 * 4 * 10)
    assert work.cost[1] - work.cost[0] == 2 * 3 * 3 * 10  # the predecessor draws once, and twice for the best of two


def test_rows_of_ones_own_are_counted(tmp_path: Path) -> None:
    plain = small(prompts_file(tmp_path / "prompts.jsonl", 9), judges={"form": {"kind": "pairwise", "model": "paid"}})
    plain["models"]["paid"] = PAID
    rows = [{"prompt": p, "response": r} for p in ("a?", "b?") for r in ("one", "two", "three")]
    plain = changed(plain, judge__input=jsonl(tmp_path / "mine.jsonl", [*rows, rows[0]]))
    _, work = planned(plain, tmp_path)["judge"]
    assert (work.judgements, work.calls) == (2 * 3, 2 * 3 * 2)
    pairs = jsonl(tmp_path / "pairs.jsonl", [{"prompt": "a" * 400, "chosen": "b" * 400, "rejected": "c" * 400}] * 2)
    local = {"kind": "local", "path": "not/fetched"}
    learns = {"trainer": {"kind": "dpo", "epochs": 2}, "input": pairs}
    plain = changed(plain, policy="base", models={"base": local}, judges={}, train=learns)
    state, work = planned({k: v for k, v in plain.items() if k not in ("data", "judge")}, tmp_path)["train"]
    assert state == "waits"
    assert work.read == 2 * (2 * 120 + 100 + 100) * 4 * 2


def test_a_model_that_is_not_on_this_machine_lets_its_stages_wait(tmp_path: Path) -> None:
    plain = small(prompts_file(tmp_path / "prompts.jsonl", 9), models={"writer": {"kind": "local", "path": "no/model"}})
    work = planned(plain, tmp_path)
    assert [work[stage][0] for stage in ("data", "judge")] == ["waits", "waits"]
    assert work["data"][1].draws == 9
