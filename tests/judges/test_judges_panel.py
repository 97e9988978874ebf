"""Panel: one member is that member, several by hand, and never a mark without each of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dressage.judges import pairwise, panel, pointwise, rules
from dressage.protocols import Choice, Distribution, JudgeTools, Rating, Unreadable
from dressage.records import Ballot, Message

PAIR = Ballot(messages=(Message(role="user", content="Hi"),), texts=("a", "b"))
LABELS = JudgeTools(secret="s", members={}, reads_labels=lambda model: True)
CLEAN = rules.open(rules.Settings.model_validate({"rules": [{"check": {"rule": "ends_cleanly"}}]}), tools=LABELS)
RATE = pointwise.open(pointwise.Settings(model="m"), tools=LABELS)
PICK = pairwise.open(pairwise.Settings(model="m", ties=True), tools=LABELS)


def opened(settings: dict, **members: object) -> panel.Panel:
    given = panel.Settings.model_validate({"judges": tuple(members), **settings})
    tools = JudgeTools(secret="s", members=members, reads_labels=lambda model: True)  # type: ignore[arg-type]
    return panel.open(given, tools=tools)


def rating_of(n: int) -> Distribution:
    return Distribution(probabilities={str(k): float(k == n) for k in range(1, 10)})


def pick(a: float, b: float) -> Distribution:
    return Distribution(probabilities={"A": a, "B": b, "C": max(0.0, 1 - a - b)})


@pytest.mark.parametrize("aggregate", ["mean", "median"])
def test_one_member_is_that_member(ballot, aggregate):
    one = opened({"aggregate": aggregate}, alone=RATE)
    answers = [Distribution(probabilities={str(k): 0.1 for k in range(1, 10)} | {"7": 0.2})]
    assert one.ask(ballot("x")) == RATE.ask(ballot("x"))
    mine, theirs = one.read(ballot("x"), answers), RATE.read(ballot("x"), answers)
    assert isinstance(mine, Rating)
    assert mine.score == theirs.score
    picks = opened({"aggregate": aggregate}, alone=PICK)
    assert picks.compares
    assert picks.read(PAIR, [pick(0.7, 0.2)]).margin == PICK.read(PAIR, [pick(0.7, 0.2)]).margin


def test_members_get_their_own_answers_and_scores_are_weighted(ballot):
    both = opened({"weights": (3, 1, 1)}, clean=CLEAN, one=RATE, two=RATE)
    assert len(both.ask(ballot("Yes."))) == 2
    rating = both.read(ballot("Yes."), [rating_of(1), rating_of(9)])
    assert rating.score == pytest.approx((3 * 1 + 0 + 1) / 5)
    assert rating.criteria["one"] == 0.0
    assert rating.criteria["two"] == 1.0
    assert rating.criteria["clean/ends_cleanly"] == 1.0
    assert rating.criteria["disagreement"] == pytest.approx(0.4)


def test_the_median_is_not_moved_by_one_of_three(ballot):
    three = opened({"aggregate": "median"}, a=RATE, b=RATE, c=RATE)
    assert three.read(ballot("x"), [rating_of(5), rating_of(6), rating_of(1)]).score == 0.5


def test_the_majority_counts_winners_not_margins():
    three = opened({"aggregate": "majority"}, a=PICK, b=PICK, c=PICK)
    choice = three.read(PAIR, [pick(0.51, 0.49), pick(0.51, 0.49), pick(0.0, 1.0)])
    assert choice.margin == pytest.approx(1 / 3)
    mean = opened({}, a=PICK, b=PICK, c=PICK)
    assert mean.read(PAIR, [pick(0.51, 0.49), pick(0.51, 0.49), pick(0.0, 1.0)]).margin < 0


@given(
    st.sampled_from(["mean", "median", "majority"]),
    st.lists(st.tuples(st.floats(0.3, 0.5), st.floats(0.3, 0.5)), min_size=3, max_size=3),
)
def test_swapping_every_answer_negates_the_margin(aggregate, given_p):
    three = opened({"aggregate": aggregate, "weights": (1, 2, 3)}, a=PICK, b=PICK, c=PICK)
    one = three.read(PAIR, [pick(a, b) for a, b in given_p])
    other = three.read(PAIR.swapped(), [pick(b, a) for a, b in given_p])
    assert isinstance(one, Choice)
    assert other.margin == pytest.approx(-one.margin, abs=1e-12)


def test_too_much_disagreement_is_unreadable(ballot):
    two = opened({"max_disagreement": 0.25}, a=RATE, b=RATE)
    assert two.read(ballot("x"), [rating_of(3), rating_of(7)]).criteria["disagreement"] == pytest.approx(0.25)
    with pytest.raises(Unreadable, match=r"panel disagrees: 0\.500, over 0\.25"):
        two.read(ballot("x"), [rating_of(1), rating_of(9)])
    picks = opened({"max_disagreement": 0.4}, a=PICK, b=PICK)
    near = picks.read(PAIR, [pick(0.9, 0.1), pick(0.4, 0.6)])
    assert "disagreement 0.2500" in near.evidence
    with pytest.raises(Unreadable):
        picks.read(PAIR, [pick(1.0, 0.0), pick(0.0, 1.0)])


def test_an_unread_member_leaves_no_mark_and_is_named(ballot):
    two = opened({}, clean=CLEAN, rater=RATE)
    silent = Distribution(probabilities={str(k): 0.01 for k in range(1, 10)})
    with pytest.raises(Unreadable, match=r"^rater: "):
        two.read(ballot("x."), [silent])


def test_panels_sit_on_panels(ballot):
    inner = opened({}, a=RATE, b=RATE)
    outer = opened({}, inner=inner, clean=CLEAN)
    rating = outer.read(ballot("x"), [rating_of(1), rating_of(9)])
    assert rating.score == 0.25
    assert rating.criteria["inner/a"] == 0.0


def test_impossible_panels_are_refused():
    with pytest.raises(ValueError, match="pick compare, clean rate"):
        opened({}, clean=CLEAN, pick=PICK)
    with pytest.raises(ValueError, match="counts winners"):
        opened({"aggregate": "majority"}, clean=CLEAN)
    with pytest.raises(LookupError, match=r"'gone' is not in `judges:` \(clean\)"):
        panel.open(
            panel.Settings(judges=("gone",)),
            tools=JudgeTools(secret="s", members={"clean": CLEAN}, reads_labels=lambda model: True),
        )
    for settings, problem in [
        ({"judges": ("a", "a")}, "sits twice"),
        ({"judges": ("a", "b"), "weights": (1,)}, "1 weights for 2 judges"),
        ({"judges": ("a",), "weights": (0,)}, "sum to 0"),
        ({"judges": ()}, "at least 1"),
    ]:
        with pytest.raises(ValidationError, match=problem):
            panel.Settings.model_validate(settings)
    assert panel.Settings(judges=("a", "b")).members() == ("a", "b")
