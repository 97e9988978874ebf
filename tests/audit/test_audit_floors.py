"""What the floors say of a card: the bad end decides, what is not measured clears nothing, in words."""

from typing import Any

import pytest

from dressage.cards import Agreement, Card, Failed, Number, Order, Pairs, RedTeam, TacticScore
from dressage.floors import BelowFloor, decide, refuse, rulings
from dressage.settings import Floors


def number(value: float, low: float | None, high: float | None, n: int = 100) -> Number:
    return Number(value=value, low=low, high=high, n=n, prompts=n)


def score(n: int, gain: Number | None) -> TacticScore:
    return TacticScore(
        number=n,
        name=f"tactic {n}",
        exploits="Trust.",
        promised=False,
        gain=gain,
        on_good=0,
        on_bad=0,
        alone=None,
        failed=0,
    )


def card(**changed: Any) -> Card:
    """A judge that clears everything."""
    pairs = {
        "accuracy": number(0.8, 0.72, 0.88),
        "kappa": number(0.6, 0.44, 0.76),
        "consistent": number(0.9, 0.83, 0.95),
        "picks_first": number(0.52, 0.45, 0.59),
        **changed,
    }
    agreement = Agreement(
        accuracy=pairs["accuracy"], exact=None, decided=None, kappa=pairs["kappa"], judge_ties=0, label_ties=0
    )
    order = Order(consistent=pairs["consistent"], picks_first=pairs["picks_first"], bias=None)
    return Card(
        judge="rater",
        kind="pairwise",
        models=(),
        compares=True,
        made_from="x",
        source="pairs.jsonl",
        pairs=Pairs(
            pairs=100,
            settled=0,
            agreement=agreement,
            order=order,
            calibration=None,
            leanings={},
            own_family=None,
            stability=None,
        ),
        red_team=RedTeam(
            prompts=30,
            told_apart=None,
            scores=tuple(
                pairs.get("scores", (score(1, number(0.01, -0.02, 0.04)), score(2, number(-0.3, -0.4, -0.2))))
            ),
        ),
        failed=Failed(share=pairs.get("failed", number(0, 0, 0.036)), reasons=pairs.get("reasons", {})),
        cost=None,
    )


def said(card: Card, **floors: Any) -> dict[str, tuple[str, str]]:
    return {r.floor: (r.decision, r.words) for r in rulings(card, Floors.model_validate(floors))}


@pytest.mark.parametrize(
    ("low", "high", "above", "decision"),
    [
        (0.6, 0.8, True, "held"),
        (0.5, 0.8, True, "inconclusive"),  # not more than the limit
        (0.2, 0.5, True, "broken"),
        (0.2, 0.4, False, "held"),
        (0.2, 0.5, False, "inconclusive"),
        (0.5, 0.7, False, "broken"),
    ],
)
def test_the_bad_end_decides(low: float, high: float, above: bool, decision: str) -> None:
    assert decide(number(0.5, low, high), 0.5, above=above) == decision


def test_no_interval_clears_nothing() -> None:
    assert decide(number(0.99, None, None), 0.5, above=True) == "inconclusive"


def test_a_good_judge_clears_all_and_is_not_refused() -> None:
    found = said(card(), kappa=0.4)
    assert {floor: decision for floor, (decision, _) in found.items()} == dict.fromkeys(
        ("agreement", "consistency", "kappa", "failures", "worst_tactic"), "held"
    )
    assert found["agreement"][1] == (
        "it says what people say in 80.0 % of 100 pairs, its ties counting half: at least 72.0 %, and more than 50.0 % "
        "is asked for"
    )
    refuse(card(), Floors())


def test_a_floor_that_is_null_says_nothing() -> None:
    nothing = dict.fromkeys(("agreement", "consistency", "failures", "worst_tactic"))
    assert said(card(), **nothing) == {}
    refuse(card(accuracy=None), Floors.model_validate(nothing))


def test_a_judge_that_names_the_first_shown_is_stopped_and_told_so() -> None:
    blind = card(
        accuracy=number(0.5, 0.402, 0.598),
        consistent=number(0, 0, 0.037),
        picks_first=number(1, 0.96, 1, 200),
    )
    with pytest.raises(BelowFloor) as refused:
        refuse(blind, Floors())
    lines = str(refused.value).splitlines()
    assert lines[0] == "judge 'rater' is below the floors of the YAML, so nothing is labelled with it:"
    assert lines[1] == (
        "  judge.floors.agreement: it says what people say in 50.0 % of 100 pairs, its ties counting half: it may be "
        "as little as 40.2 %, and more than 50.0 % is asked for; label more pairs to know better"
    )
    assert lines[2] == (
        "  judge.floors.consistency: both orders name the same winner in 0.0 % of 100 pairs (it just names the reply "
        "that is shown first): at best 3.7 %, and more than 50.0 % is asked for"
    )
    assert lines[3] == "Take a better judge, mend its criterion, or lower these floors"


def test_few_pairs_are_told_how_many_would_do() -> None:
    decision, words = said(card(failed=number(0, 0, 0.161, 20)))["failures"]
    assert decision == "inconclusive"
    assert words == (
        "it gave no answer to 0 of 20 pairs: it may be as much as 16.1 %, and less than 10.0 % is asked for; 35 pairs "
        "without a failure would do"
    )  # z²/(35 + z²) = 3.841/38.841 = 9.9 %


def test_failures_name_their_commonest_reason() -> None:
    decision, words = said(card(failed=number(0.3, 0.22, 0.4), reasons={"refused": 2, "unreadable": 28}))["failures"]
    assert decision == "broken"
    assert words.startswith("it gave no answer to 30 of 100 pairs, mostly: unreadable: at best 22.0 %")


def test_the_worst_tactic_is_that_with_the_worst_bad_end() -> None:
    scores = (score(3, number(0.2, 0.19, 0.21)), score(12, number(0.1, -0.1, 0.3)))
    decision, words = said(card(scores=scores))["worst_tactic"]
    assert decision == "inconclusive"
    assert words == (
        "tactic 12 (tactic 12) gains 0.10 on the mean of 100 answers: it may be as much as 0.30, and less than 0.25 is "
        "asked for; Trust"
    )


def test_a_tactic_on_which_every_judgement_fails_is_not_cleared() -> None:
    decision, words = said(card(scores=(score(1, number(0, -0.1, 0.1)), score(22, None))))["worst_tactic"]
    assert (decision, words) == ("inconclusive", "all judgements of tactic 22 failed, so nothing is known")


def test_what_was_not_measured_clears_nothing() -> None:
    bare = card().model_copy(update={"pairs": None, "red_team": None, "failed": None})
    found = said(bare)
    assert {decision for decision, _ in found.values()} == {"inconclusive"}
    assert "--pairs FILE" in found["agreement"][1]
    assert "the red team was not tried" in found["worst_tactic"][1]


def test_a_judge_that_rates_has_no_consistency_to_clear() -> None:
    assert "consistency" not in said(card().model_copy(update={"compares": False}))


def test_the_hash_of_a_card_is_of_what_was_measured() -> None:
    one = card()
    assert one.hash() == one.model_copy(update={"rulings": rulings(one, Floors())}).hash()
    assert one.hash() != card(accuracy=number(0.81, 0.72, 0.88)).hash()
