"""From labels to preferences: which pairs are made, which are left out and why."""

import pytest

from dressage.engines.judging import Labels
from dressage.engines.preferring import preferences, standings
from dressage.records import Grade, Preference, Verdict, Vote


def grade(candidate: str, score: float, prompt: str = "p") -> Grade:
    return Grade(prompt_id=prompt, candidate_id=candidate, judge="j", score=score)


def verdict(first: str, second: str, margin: float, *, consistent: bool = True) -> Verdict:
    winner = "tie" if margin == 0 else "first" if margin > 0 else "second"
    votes = (Vote(margin=margin, shown="as given"), Vote(margin=margin, shown="swapped"))
    return Verdict(
        prompt_id="p",
        first=first,
        second=second,
        judge="j",
        winner=winner,
        margin=margin,
        consistent=consistent,
        votes=votes,
    )


def made(labels: Labels, pairing: str = "best_worst", min_margin: float = 0.0) -> list[tuple[str, str, float]]:
    return [(p.chosen, p.rejected, p.margin) for p in preferences(labels, pairing=pairing, min_margin=min_margin)[0]]


GRADES = Labels(grades=[grade("a", 0.25), grade("b", 1.0), grade("c", 0.5), grade("x", 0.5, "q"), grade("y", 0.0, "q")])


def test_the_best_meets_the_worst_of_each_prompt() -> None:
    assert made(GRADES) == [("b", "a", 0.75), ("x", "y", 0.5)]


def test_all_pairs_of_each_prompt_and_none_across_prompts() -> None:
    assert sorted(made(GRADES, "all_pairs")) == [
        ("b", "a", 0.75),
        ("b", "c", 0.5),
        ("c", "a", 0.25),
        ("x", "y", 0.5),
    ]


def test_a_margin_must_be_larger_than_the_least() -> None:
    assert made(GRADES, "all_pairs", 0.5) == [("b", "a", 0.75)]
    assert preferences(GRADES, pairing="all_pairs", min_margin=0.5)[1] == {
        "ties": 0,
        "orders disagree": 0,
        "margin too small": 3,
    }


def test_equal_grades_make_no_preference() -> None:
    labels = Labels(grades=[grade("a", 0.5), grade("b", 0.5)])
    assert preferences(labels, pairing="best_worst", min_margin=0.0) == (
        [],
        {"ties": 1, "orders disagree": 0, "margin too small": 0},
    )


def test_a_lone_candidate_makes_no_preference() -> None:
    assert made(Labels(grades=[grade("a", 1.0)])) == []


def test_the_winner_is_chosen_on_whichever_side_it_stood() -> None:
    labels = Labels(verdicts=[verdict("a", "b", -0.5)])
    (preference,) = preferences(labels, pairing="all_pairs", min_margin=0.0)[0]
    assert preference == Preference(prompt_id="p", chosen="b", rejected="a", margin=0.5, votes=2, agreed=2)


def test_disagreeing_orders_are_counted_and_left_out() -> None:
    labels = Labels(verdicts=[verdict("a", "b", 0.0, consistent=False), verdict("a", "c", 0.0), verdict("b", "c", 1.0)])
    pairs, left_out = preferences(labels, pairing="all_pairs", min_margin=0.0)
    assert [(p.chosen, p.rejected) for p in pairs] == [("b", "c")]
    assert left_out == {"ties": 1, "orders disagree": 1, "margin too small": 0}


def test_a_comparing_judge_ranks_by_mean_margin() -> None:
    labels = Labels(verdicts=[verdict("a", "b", 1.0), verdict("a", "c", 0.5), verdict("b", "c", -0.5)])
    assert standings(labels) == pytest.approx({"a": 0.75, "b": -0.75, "c": 0.0})
    assert made(labels) == [("a", "b", 1.0)]


def test_grades_of_broken_responses_do_not_decide_for_a_comparing_judge() -> None:
    labels = Labels(grades=[grade("c", 0.0)], verdicts=[verdict("a", "b", 1.0), verdict("b", "c", 0.5)])
    assert standings(labels) == pytest.approx({"a": 1.0, "b": -0.25, "c": -0.5})


def test_ids_break_equal_standings_the_same_way_in_any_order() -> None:
    grades = [grade("b", 0.0), grade("a", 0.0), grade("d", 1.0), grade("c", 1.0)]
    assert made(Labels(grades=grades)) == made(Labels(grades=grades[::-1])) == [("d", "a", 1.0)]
