"""Judging: both orders, ties, broken responses, failures that never become scores, bars that move."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from engine_parts import Bar, MakeBench, prompt, replies, reply

from dressage.engines import judging, preferring
from dressage.engines.failing import Tally, TooManyFailures, broken, grades_of_broken
from dressage.engines.hearing import Bench, Meter
from dressage.records import Failure, Grade

Scorer = Callable[[str], dict[str, str]]
P = prompt("Where is my parcel?")
BY_LENGTH = "len(reply) / 200"


def pointwise(bench: MakeBench, how: str = "logprobs", **model: object) -> Bench:
    return bench("pointwise", asks=model, model="m", how=how)


# ---------------------------------------------------------------- one at a time


def test_each_candidate_gets_the_grade_its_judge_computes(bench: MakeBench, scorer: Scorer) -> None:
    labels = judging.grade(bench("python", **scorer(BY_LENGTH)), replies(P, ["x" * 20, "x" * 100]))
    assert [g.score for g in labels.grades] == [0.1, 0.5]
    assert {g.judge for g in labels.grades} == {"judge"}
    assert not labels.failures


def test_what_a_judge_cannot_grade_is_a_failure_and_no_score(bench: MakeBench, scorer: Scorer) -> None:
    labels = judging.grade(bench("python", **scorer("1 / (len(reply) - 2)")), replies(P, ["xx", "xxx"]))
    assert [g.score for g in labels.grades] == [1.0]
    (failure,) = labels.failures
    assert failure.side == "infrastructure"
    assert "ZeroDivisionError" in failure.detail
    assert failure.candidate_ids == (reply(P, "xx").id,)


def test_a_model_that_does_not_answer_is_a_failure_with_its_reason(bench: MakeBench) -> None:
    labels = judging.grade(pointwise(bench, fails=1.0), replies(P, ["a", "b"]))
    assert not labels.grades
    assert [f.reason for f in labels.failures] == ["scripted failure"] * 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("<think>hm</think>  ", "empty"),
        ("<think>no end", "empty"),
        ("\x00\x07", "nothing but control characters"),
        ("\u200b", "nothing but control characters"),
        ("x" * 201, "over 200 characters"),
        ("x" * 200, None),
        ("ok", None),
    ],
)
def test_what_a_response_can_break_itself(text: str, reason: str | None) -> None:
    assert broken(reply(P, text), 200) == reason


@pytest.mark.parametrize(("rule", "score"), [("lowest", 0.0), ("worst_of_prompt", 0.3)])
def test_a_broken_response_gets_the_grade_of_the_named_rule_unasked(
    bench: MakeBench, scorer: Scorer, rule: str, score: float
) -> None:
    items = replies(P, ["", "x" * 100, "x" * 60])
    labels = judging.grade(bench("python", **scorer(BY_LENGTH)), items)
    (failure,) = labels.failures
    assert (failure.side, failure.reason, failure.candidate_ids) == ("response", "empty", (items[0][1].id,))
    (made,) = grades_of_broken(labels.failures, labels.grades, rule=rule)
    assert (made.candidate_id, made.score, made.normalised) == (items[0][1].id, score, f"broken_response: {rule}")


def test_worst_of_prompt_has_nothing_to_say_of_a_lone_response() -> None:
    failure = Failure(prompt_id="p", candidate_ids=("c",), judge="j", side="response", reason="empty")
    elsewhere = Grade(prompt_id="q", candidate_id="d", judge="j", score=0.2)
    assert grades_of_broken([failure], [elsewhere], rule="worst_of_prompt") == []
    outage = failure.model_copy(update={"side": "infrastructure"})
    assert grades_of_broken([outage], [], rule="lowest") == []


# ---------------------------------------------------------------- words that cannot be read


def test_unreadable_words_are_asked_for_once_more_with_another_seed(bench: MakeBench, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    labels = judging.grade(pointwise(bench, how="text", says="no verdict", log=str(log)), replies(P, ["a", "b"]))
    assert not labels.grades
    assert {f.reason for f in labels.failures} == {"unreadable"}
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(rows) == 4
    assert len({row["seed"] for row in rows}) == 4


def test_a_readable_second_answer_counts_and_both_are_paid(bench: MakeBench) -> None:
    """The scripted model says one of two things by seed; over many replies some need the second attempt."""
    words = ["no verdict", "SCORE-{nonce}: 10"]
    items = replies(P, [f"reply {i}" for i in range(24)])
    labels = judging.grade(pointwise(bench, how="text", says=words), items)
    assert labels.grades
    assert labels.failures
    written = {g.usage.written for g in labels.grades}
    assert written == {2, 4}  # two words: once, or after two words that could not be read
    assert all(g.score == 1.0 for g in labels.grades)


def test_a_model_that_fails_is_not_asked_again_at_once(bench: MakeBench, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    judging.grade(pointwise(bench, how="text", fails=1.0, log=str(log)), replies(P, ["a", "b"]))
    assert len(log.read_text().splitlines()) == 2


def test_half_a_surrogate_pair_in_a_judges_words_can_be_stored(bench: MakeBench) -> None:
    says = "\ud800\nSCORE-{nonce}: 10"
    labels = judging.grade(pointwise(bench, how="text", says=says), replies(P, ["a"]))
    assert next(w for g in labels.grades for w in g.words).startswith("\ufffd\nSCORE-")


# ---------------------------------------------------------------- two at a time


def test_a_judge_that_always_says_first_yields_no_preference(bench: MakeBench) -> None:
    always = bench("pairwise", asks={"labels": {"A": 0.9, "B": 0.1}}, model="m")
    duels = list(judging.all_duels(replies(P, ["a", "b", "c"])))
    labels = judging.duel(always, duels)
    assert len(labels.verdicts) == 3
    for verdict in labels.verdicts:
        assert (verdict.winner, verdict.margin, verdict.consistent) == ("tie", 0.0, False)
        assert [v.margin for v in verdict.votes] == pytest.approx([0.8, -0.8])
        assert [v.shown for v in verdict.votes] == ["as given", "swapped"]
    for pairing in ("best_worst", "all_pairs"):
        assert preferring.preferences(labels, pairing=pairing, min_margin=0.0)[0] == []


FINDS = {
    "rules": [
        {"when": r"=== FIRST REPLY \w+ ===\ngood", "says": "VERDICT-{nonce}: first"},
        {"when": r"=== SECOND REPLY \w+ ===\ngood", "says": "VERDICT-{nonce}: second"},
    ]
}


def test_a_judge_that_looks_at_the_text_agrees_in_both_orders(bench: MakeBench) -> None:
    judge = bench("pairwise", asks=FINDS, model="m", how="text", criterion="Better replies.")
    (a, b) = (reply(P, "good", 0), reply(P, "bad", 1))
    for pair, winner, margin in (((a, b), "first", 1.0), ((b, a), "second", -1.0)):
        (verdict,) = judging.duel(judge, [(P, *pair)]).verdicts
        assert (verdict.winner, verdict.margin, verdict.consistent) == (winner, margin, True)
        assert [v.margin for v in verdict.votes] == [margin, margin]
        assert (verdict.first, verdict.second) == (pair[0].id, pair[1].id)


def test_equal_texts_tie_and_broken_ones_lose_unasked(bench: MakeBench, tmp_path: Path) -> None:
    log, bar = tmp_path / "log.jsonl", Bar()
    judge = bench("pairwise", asks={"log": str(log)}, bar=bar, model="m")
    a, same, empty, silent = (reply(P, text, i) for i, text in enumerate(["a", " a ", "", "\x00"]))
    labels = judging.duel(judge, [(P, a, same), (P, a, empty), (P, silent, a), (P, empty, silent)])
    assert [(v.winner, v.margin) for v in labels.verdicts] == [("tie", 0.0), ("first", 1.0), ("second", -1.0)]
    assert not log.exists()
    assert bar.total == 4
    told = [(f.side, f.reason, f.candidate_ids) for f in labels.failures]
    assert told == [
        ("response", "empty", (empty.id,)),
        ("response", "nothing but control characters", (silent.id,)),
    ]


def test_an_outage_in_one_order_leaves_the_pair_out(bench: MakeBench) -> None:
    judge = bench("pairwise", asks={"fails": 1.0}, model="m")
    duels = list(judging.all_duels(replies(P, ["a", "b"])))
    labels = judging.duel(judge, duels)
    assert not labels.verdicts
    (failure,) = labels.failures
    assert (failure.side, failure.reason) == ("infrastructure", "scripted failure")
    assert failure.candidate_ids == (duels[0][1].id, duels[0][2].id)


def test_a_grading_judge_decides_pairs_by_its_grades(bench: MakeBench, scorer: Scorer) -> None:
    a, b, c = (reply(P, "x" * n, n) for n in (20, 40, 100))
    labels = judging.duel(bench("python", **scorer(BY_LENGTH)), [(P, a, b), (P, c, b)], tie_margin=0.1)
    assert [(v.winner, v.margin) for v in labels.verdicts] == [("tie", -0.1), ("first", 0.3)]
    assert [g.candidate_id for g in labels.grades] == [a.id, b.id, c.id]


def test_a_pair_with_an_ungraded_side_has_no_verdict(bench: MakeBench, scorer: Scorer) -> None:
    a, b, c = (reply(P, "x" * n, n) for n in (20, 40, 100))
    labels = judging.duel(bench("python", **scorer("None if len(reply) == 20 else 0.5")), [(P, a, b), (P, c, b)])
    assert [(v.first, v.winner) for v in labels.verdicts] == [(c.id, "tie")]
    assert len(labels.failures) == 1


# ---------------------------------------------------------------- bars


@pytest.mark.parametrize("kind", ["pairwise", "pointwise"])
def test_the_bar_moves_while_a_judge_is_asked_and_ends_at_the_number_of_judgements(
    bench: MakeBench, tmp_path: Path, kind: str
) -> None:
    log, bar, heights = tmp_path / "log.jsonl", Bar(), []

    def advance(units: int) -> None:
        bar(units)
        heights.append((bar.total, len(log.read_text().splitlines())))

    items = replies(P, [f"reply {i}" for i in range(4)])
    one = bench(kind, asks={"log": str(log), "labels": {"A": 0.6}}, bar=advance, model="m")
    if kind == "pairwise":
        judging.duel(one, list(judging.all_duels(items)))
        assert heights == [(n, 2 * n) for n in range(1, 7)]
    else:
        judging.grade(one, items)
        assert heights == [(n, n) for n in range(1, 5)]


def test_the_bar_of_a_judge_that_asks_nobody_ends_there_too(bench: MakeBench, scorer: Scorer) -> None:
    bar = Bar()
    judging.grade(bench("python", bar=bar, **scorer("0.5")), replies(P, ["a", "", "c"]))
    assert bar.total == 3
    duels = list(judging.all_duels(replies(P, ["a", "", "c"])))
    judging.duel(bench("python", bar=bar, **scorer("0.5")), duels)
    assert bar.total == 3 + 3


def test_a_meter_spreads_units_over_questions() -> None:
    bar = Bar()
    meter = Meter(bar, units=2, questions=5)
    totals = []
    for _ in range(5):
        meter.told(1)
        totals.append(bar.total)
    assert totals == [0, 0, 1, 1, 2]
    meter.finish()
    assert bar.total == 2


# ---------------------------------------------------------------- too many failures


def failures(n: int, side: str = "infrastructure") -> list[Failure]:
    return [
        Failure(prompt_id="p", candidate_ids=(f"c{i}",), judge="j", side=side, reason="timeout", detail="after 60 s")
        for i in range(n)
    ]


def test_nine_percent_go_on_and_eleven_stop_at_a_limit_of_ten() -> None:
    Tally("j", total=100, at_most=0.1, limit="judge.max_failures").add(failures(9))
    Tally("j", total=100, at_most=0.1, limit="judge.max_failures").add(failures(10))
    said = r"'j' failed on 11 of the 100 .*11 × timeout.*judge.max_failures 0.1 allows.*60 s.*raise judge\.max_failures"
    with pytest.raises(TooManyFailures, match=said):
        Tally("j", total=100, at_most=0.1, limit="judge.max_failures").add(failures(11))


def test_failures_add_up_over_shards_and_a_small_shard_alone_stops_nothing() -> None:
    tally = Tally("j", total=100, at_most=0.1, limit="judge.max_failures")
    tally.add(failures(6))
    tally.add(failures(0))
    with pytest.raises(TooManyFailures, match="failed on 12 of the 100"):
        tally.add(failures(6))


def test_what_responses_broke_and_other_judges_do_not_count() -> None:
    tally = Tally("j", total=10, at_most=0.0, limit="judge.max_failures")
    tally.add(failures(9, side="response"))
    tally.add([f.model_copy(update={"judge": "k"}) for f in failures(9)])
    with pytest.raises(TooManyFailures):
        tally.add(failures(1))


def test_what_stays_unreadable_is_not_replayed_from_the_journal(bench: MakeBench, tmp_path: Path) -> None:
    """A server that is mended behind the same name: the next run asks anew, and readable answers stay bought."""
    log = tmp_path / "asked.jsonl"
    rule = {"when": "a good one", "says": "SCORE-{nonce}: 7"}
    model = {"paid": True, "says": "hm", "rules": [rule], "log": str(log)}
    items = replies(P, ["a good one", "another"])

    def asked() -> int:
        return len(log.read_text().splitlines())

    first = judging.grade(pointwise(bench, "text", **model), items)
    assert ([g.score for g in first.grades], len(first.failures), asked()) == ([pytest.approx(2 / 3)], 1, 3)
    again = judging.grade(pointwise(bench, "text", **model), items)
    assert (again.grades, len(again.failures), asked()) == (first.grades, 1, 5)
