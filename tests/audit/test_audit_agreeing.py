"""What verdicts on labelled pairs tell: agreement, order, calibration, leanings, family, stability, by hand."""

from collections import Counter
from pathlib import Path

import pytest
from audit_parts import judge_of, pair, seat

from dressage.engines.auditing import agreeing
from dressage.engines.auditing.pairs import Asked, Judged, LabelledPair, ask
from dressage.records import Usage, Verdict, Vote, Winner


def judged(of: LabelledPair, winner: Winner, margin: float | None = None, *, votes: tuple[float, ...] = ()) -> Judged:
    """A verdict on (preferred, other); `votes` are margins in that order, as given and swapped."""
    shown = ("as given", "swapped")
    sign = {"first": 1.0, "tie": 0.0, "second": -1.0}[winner]
    signs = {(v > 0) - (v < 0) for v in votes}
    verdict = Verdict(
        prompt_id=of.prompt.id,
        first=of.preferred.id,
        second=of.other.id,
        judge="judge",
        winner=winner,
        margin=sign if margin is None else margin,
        votes=tuple(Vote(margin=v, shown=s) for v, s in zip(votes, shown, strict=False)),
        consistent=len(signs) < 2,
    )
    return Judged(of, verdict)


def some(*winners: Winner) -> list[Judged]:
    return [judged(pair(f"question {i}", "good words", "bad words"), w) for i, w in enumerate(winners)]


def test_agreement_by_hand() -> None:
    tied = judged(pair("tied", "one", "two", tied=True), "first")
    found = agreeing.agreement([*some("first", "first", "second", "tie"), tied])
    assert found.accuracy is not None
    assert found.accuracy.value == pytest.approx((1 + 1 + 0 + 0.5) / 4)  # a tie of people is no part of it
    assert found.exact is not None
    assert found.exact.value == pytest.approx(2 / 5)
    assert found.decided is not None
    assert found.decided.value == pytest.approx(2 / 3)
    assert (found.judge_ties, found.label_ties) == (1, 1)


def test_kappa_counts_every_pair_both_ways_round() -> None:
    # 8 rows, 4 agree; people ½ first ½ second; judge first 3/8, second 3/8, tie 2/8: p_e = 3/8; κ = (1/2 − 3/8)/(5/8)
    found = agreeing.agreement(some("first", "first", "second", "tie")).kappa
    assert found is not None
    assert found.value == pytest.approx(0.2)
    assert found.prompts == 4


def test_a_judge_that_ties_every_pair_agrees_as_one_who_guesses() -> None:
    found = agreeing.agreement(some(*["tie"] * 6))  # type: ignore[list-item]
    assert found.accuracy is not None
    assert found.accuracy.value == 0.5
    assert found.exact is not None
    assert found.exact.value == 0
    assert found.decided is None
    assert found.kappa is not None
    assert found.kappa.value == pytest.approx(0)


def test_groups() -> None:
    rows = [
        judged(pair("a", "long and good", "bad", tags=["maths"], margin=0.2), "first"),
        judged(pair("b", "good", "long and bad", tags=["maths", "hard"], margin=0.5), "second"),
        judged(pair("c", "good", "bad!", tags=["facts"], margin=0.9), "tie"),
    ]
    found = agreeing.agreement(rows)
    assert {k: v.value for k, v in found.by_category.items()} == {"facts": 0.5, "hard": 0.0, "maths": 0.5}
    bands = {k: (v.value, v.n) for k, v in found.by_difficulty.items()}
    assert bands == {
        "labels between": (0.0, 1),
        "labels close": (1.0, 1),
        "labels far apart": (0.5, 1),
        "preferred is longer": (1.0, 1),
        "preferred is shorter": (0.0, 1),
    }


def test_a_column_of_difficulty_is_taken_at_its_word() -> None:
    rows = [judged(pair(f"{i}", "same", "size", margin=i / 3, extra={"difficulty": i % 2}), "first") for i in range(4)]
    assert list(agreeing.agreement(rows).by_difficulty) == ["said to be 0", "said to be 1"]


# ---------------------------------------------------------------- order


def test_order_by_hand() -> None:
    rows = [
        judged(pair("a", "x", "y"), "first", votes=(0.6, 0.4)),  # the preferred one both times
        judged(pair("b", "x", "y"), "tie", votes=(0.6, -0.2)),  # the first shown both times
        judged(pair("c", "x", "y"), "tie", votes=(0.0, 0.3)),  # undecided, then the second shown
    ]
    found = agreeing.order(rows)
    assert found is not None
    assert found.consistent.value == pytest.approx(1 / 3)
    assert found.picks_first.value == pytest.approx((1 + 0 + 1 + 1 + 0.5 + 0) / 6)
    assert found.bias == pytest.approx((1 + 1 + 0.5 + 0) / 4 - 0.5)


def test_a_judge_that_rates_has_no_order() -> None:
    assert agreeing.order(some("first", "tie")) is None


# ---------------------------------------------------------------- calibration


def test_calibration_by_hand() -> None:
    rows = [
        judged(pair("a", "x", "y"), "first", 0.6),  # p 0.8 of the preferred
        judged(pair("b", "x", "y"), "second", -0.6),  # 0.8 sure of the other
        judged(pair("c", "x", "y"), "tie", 0.0),
        judged(pair("d", "x", "y", tied=True), "first", 0.9),  # no part of it
    ]
    found = agreeing.calibration(rows)
    assert found is not None
    assert found.brier.value == pytest.approx((0.04 + 0.64 + 0.25) / 3)
    assert found.ece.value == pytest.approx((2 * 0.3 + 0) / 3)  # 0.8 sure and right in ½; undecided and ½
    assert [(b.n, b.said, b.true) for b in found.bins] == [(1, 0.5, 0.5), (2, pytest.approx(0.8), 0.5)]


def test_a_judge_that_is_always_sure_has_no_confidence() -> None:
    assert agreeing.calibration(some("first", "second", "tie")) is None


# ---------------------------------------------------------------- leanings, family


def test_a_judge_of_length_leans_on_length() -> None:
    texts = [("short", "a much longer text"), ("a much longer text", "short")] * 4
    rows = [judged(pair(f"{i}", a, b), "first" if len(a) > len(b) else "second") for i, (a, b) in enumerate(texts)]
    found = agreeing.leanings(rows)
    assert list(found) == ["length"]  # nothing else differs
    assert found["length"].value == pytest.approx(0.5)


def test_its_own_family_by_hand() -> None:
    def by(a: str, b: str) -> tuple[str, str]:
        return a, b

    rows = [
        judged(pair("a", "x", "y", writers=by("HuggingFaceTB/SmolLM2-360M-Instruct", "gpt-4o")), "first"),  # people too
        judged(pair("b", "x", "y", writers=by("gpt-4o", "SmolLM2-135M")), "second"),  # people do not
        judged(pair("c", "x", "y", writers=by("gpt-4o", "gpt-4")), "second"),  # neither is its own
        judged(pair("d", "x", "y", writers=by("smollm", "smollm")), "first"),  # both are
        judged(pair("e", "x", "y"), "first"),  # nobody knows
    ]
    found = agreeing.own_family(rows, ["models/SmolLM2-135M-Instruct/"])
    assert found is not None
    assert found.names == ("HuggingFaceTB/SmolLM2-360M-Instruct", "SmolLM2-135M")
    assert (found.judge, found.people) == (1.0, 0.5)
    assert found.excess.value == pytest.approx(0.5)
    assert agreeing.own_family(rows, []) is None


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("gpt-4o-mini", "gpt"),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen"),
        ("meta-llama/Meta-Llama-3-8B", "llama"),
        ("claude-3-opus", "claude"),
        ("135M", ""),
    ],
)
def test_families(name: str, family: str) -> None:
    assert agreeing.family(name) == family


def test_stability_by_hand() -> None:
    first = some("first", "second", "first")
    again = [judged(first[0].pair, "first", 0.5), judged(first[1].pair, "first", 0.2)]  # the third failed
    found = agreeing.stability(first, again)
    assert found is not None
    assert found.same.value == pytest.approx(0.5)
    assert found.moved == pytest.approx((0.5 + 1.2) / 2)


def test_nothing_is_said_of_nothing() -> None:
    nothing = Asked([], 0, [], Counter(), Usage(), 0.0)
    found = agreeing.told(nothing, None, own=[])
    assert found.agreement.accuracy is None
    assert found.agreement.kappa is None
    assert (found.order, found.calibration, found.leanings, found.own_family) == (None, None, {}, None)


# ---------------------------------------------------------------- asking


def test_a_failed_judgement_is_no_verdict_and_a_settled_pair_says_nothing(tmp_path: Path) -> None:
    pairs = [
        *(pair(f"question {i}", f"good {i}", f"bad {i}") for i in range(40)),
        pair("broken", "good", " "),
        pair("both", "\x00", ""),
        pair("again", "good", "bad"),
        pair("again", "good", "bad"),
    ]
    bench = seat(judge_of("pairwise", model="m"), tmp_path, fails=0.3, labels={"A": 0.6, "B": 0.4})
    found = ask(bench, pairs)
    assert found.settled == 2
    assert found.asked == 41
    assert 0 < len(found.failed) < 41
    assert found.reasons == {"scripted failure": len(found.failed)}
    assert len(found.judged) + len(found.failed) == 41
    assert all(j.verdict.winner == "tie" and not j.verdict.consistent for j in found.judged)


def test_of_a_judge_that_rates_a_pair_fails_with_either_side(tmp_path: Path) -> None:
    rules = [{"when": "poison", "says": "I cannot say."}, {"when": "copper", "says": "SCORE-{nonce}: 9"}]
    bench = seat(judge_of("pointwise", model="m", how="text"), tmp_path, rules=rules, says="SCORE-{nonce}: 4")
    found = ask(bench, [pair("one", "copper", "tin"), pair("two", "copper", "poison")])
    assert [j.verdict.margin for j in found.judged] == [pytest.approx(5 / 9)]
    assert [p.prompt.messages[0].content for p in found.failed] == ["two"]
    assert found.usage.read > 0
