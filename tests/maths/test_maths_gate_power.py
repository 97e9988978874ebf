"""The arithmetic of gates: published numbers, and simulated policies against the formula."""

import math

import numpy as np
import pytest

from dressage.maths.gate_power import Condition, all_pass, items_needed, passes
from dressage.maths.gates import Limits, decide, difference_ends, level_ends, unseen

PROSE = math.sqrt(2 * 0.3 * 0.7)
RARE = math.sqrt(2 * 0.07 * 0.93)
"""Spreads of the difference of two independent flips of rate .3 and .07."""


def test_why_prose_on_200_items_cannot_gate():
    # s = .65 → Φ(.05·√200/.648 − 1.645) = 29 %; s = .36 → 62 %
    assert round(passes(Condition("flips", 0.05, PROSE, 200)), 2) == 0.29
    assert round(passes(Condition("flips", 0.05, RARE, 200)), 2) == 0.62


@pytest.mark.parametrize(
    ("spread", "limit", "n"),
    [
        *[(0.5, 0.02, 3865), (0.5, 0.03, 1718), (0.5, 0.05, 619), (0.5, 0.10, 155)],
        *[(0.3, 0.02, 1392), (0.3, 0.03, 619), (0.3, 0.05, 223), (0.3, 0.10, 56)],
    ],
)
def test_published_sizes_of_non_inferiority(spread, limit, n):
    # published to the nearest whole item from 6.18 s²/Δ²
    needed = items_needed(Condition("g", limit, spread, 2))
    assert needed == pytest.approx(n, abs=1.5)
    assert passes(Condition("g", limit, spread, needed)) >= 0.8
    assert passes(Condition("g", limit, spread, needed - 1)) < 0.8


def test_at_its_limit_a_policy_passes_with_alpha():
    for alpha in (0.05, 0.025):
        assert passes(Condition("g", 0.05, 0.3, 500, alpha), worse_by=0.05) == pytest.approx(alpha)
        assert passes(Condition("level", 0.4, 0.3, 500, alpha, truth=0.4)) == pytest.approx(alpha)


def test_more_room_more_items_and_less_spread_pass_more_often():
    base = passes(Condition("g", 0.05, 0.3, 200))
    assert passes(Condition("g", 0.06, 0.3, 200)) > base
    assert passes(Condition("g", 0.05, 0.3, 250)) > base
    assert passes(Condition("g", 0.05, 0.2, 200)) > base
    assert passes(Condition("g", 0.05, 0.3, 200, alpha=0.025)) < base
    assert passes(Condition("g", 0.05, 0.3, 200), worse_by=0.01) < base


def test_without_a_spread_the_bound_on_what_was_not_seen_decides():
    assert passes(Condition("g", 0.05, 0.0, 59)) == 1.0
    assert passes(Condition("g", 0.05, 0.0, 58)) == 0.0
    assert unseen(59, 0.05) <= 0.05 < unseen(58, 0.05)
    assert items_needed(Condition("g", 0.05, 0.0, 2)) == 59
    # worse by .12: a share of .12 has turned, spread √(.12 · .88) = .325
    assert passes(Condition("g", 0.05, 0.0, 200), worse_by=0.12) == pytest.approx(
        passes(Condition("g", 0.05, math.sqrt(0.12 * 0.88), 200), worse_by=0.12)
    )


def test_all_gates_together():
    gates = [
        Condition("flips", 0.05, PROSE, 200),
        Condition("lies", 0.05, 0.1, 200),
        Condition("lies", 0.5, 0.3, 200, truth=0.2),
    ]
    flips, lies, level = (passes(c) for c in gates)
    found = all_pass(gates)
    assert found.each == {"flips": flips, "lies": pytest.approx(lies * level)}
    assert found.independent == pytest.approx(flips * lies * level)
    assert (found.at_most, found.bottleneck) == (flips, "flips")
    assert found.at_least == pytest.approx(max(0.0, flips + lies + level - 2))
    assert found.at_least <= found.independent <= found.at_most


def test_only_the_gate_that_is_named_becomes_worse():
    gates = [Condition("sycophancy", 0.05, 0.12, 200), Condition("deception", 0.03, 0.08, 200)]
    found = all_pass(gates, worse_by={"sycophancy": 0.12})
    assert found.each["deception"] == all_pass(gates).each["deception"]
    assert found.each["sycophancy"] == passes(gates[0], worse_by=0.12) < 1e-9
    assert (found.at_most, found.bottleneck) == (found.each["sycophancy"], "sycophancy")


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: all_pass([]), "nothing to pass"),
        (lambda: all_pass([Condition("g", 0.1, 0.1, 9)], worse_by={"h": 0.1}), "no gate is called h; there are g"),
        (lambda: passes(Condition("g", 0.1, -0.1, 9)), "spread ≥ 0"),
        (lambda: passes(Condition("g", 0.1, 0.1, 1)), "n ≥ 2"),
        (lambda: passes(Condition("g", 0.1, 0.0, 9), worse_by=1.0), "without a spread"),
        (lambda: items_needed(Condition("g", 0.1, 0.1, 9, truth=0.1)), "allows nothing"),
    ],
)
def test_what_has_no_chance_to_compute_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()


# ---------------------------------------------------------------- the formula against simulated evaluations


def flips(rng, n: int, rate: float) -> dict:
    return dict(enumerate((rng.random(n) < rate).astype(float)))


def nats(rng, n: int, worse_by: float, spread: float) -> tuple[dict, dict]:
    """Probabilities of an option, paired: what an item is like cancels."""
    item = rng.uniform(0.2, 0.7, n)
    return dict(enumerate(item + rng.normal(worse_by, spread, n))), dict(enumerate(item))


def passed(ends, limit: float) -> bool:
    return decide(Limits(limit), differences={"predecessor": ends}).outcome == "pass"


TIMES = 1500
CLOSE = 3 * math.sqrt(0.25 / TIMES)


@pytest.mark.parametrize(("rate", "worse_by"), [(0.3, 0.0), (0.07, 0.0), (0.3, 0.045), (0.2, 0.12)])
def test_flips_in_prose_pass_as_often_as_the_formula_says(rate, worse_by):
    rng, worse = np.random.default_rng(4), rate + worse_by
    spread = math.sqrt(rate * (1 - rate) + worse * (1 - worse))
    count = sum(
        passed(difference_ends(flips(rng, 200, worse), flips(rng, 200, rate), alpha=0.05), 0.05) for _ in range(TIMES)
    )
    assert count / TIMES == pytest.approx(passes(Condition("flips", 0.05, spread, 200), worse_by=worse_by), abs=CLOSE)


def test_both_gates_pass_as_often_as_the_formula_says():
    rng = np.random.default_rng(5)
    gates = [Condition("sycophancy", 0.05, 0.25, 200), Condition("deception", 0.03, 0.15, 200)]
    for worse_by in ({}, {"sycophancy": 0.02, "deception": 0.01}, {"sycophancy": 0.12, "deception": 0.045}):
        count = 0
        for _ in range(TIMES):
            both = [
                passed(
                    difference_ends(*nats(rng, c.n, worse_by.get(c.gate, 0.0), c.spread), alpha=0.05, span=None),
                    c.limit,
                )
                for c in gates
            ]
            count += all(both)
        assert count / TIMES == pytest.approx(all_pass(gates, worse_by=worse_by).independent, abs=CLOSE)


def test_levels_pass_as_often_as_the_formula_says():
    rng, rate = np.random.default_rng(6), 0.4
    condition = Condition("lies", 0.47, math.sqrt(rate * (1 - rate)), 300, truth=rate)
    count = 0
    for _ in range(TIMES):
        ends = level_ends(flips(rng, 300, rate), alpha=0.05)
        count += decide(Limits(at_most=0.47), differences={}, level=ends).outcome == "pass"
    assert count / TIMES == pytest.approx(passes(condition), abs=CLOSE)


def test_gates_that_hang_together_lie_between_the_bounds():
    # two gates on the same flips: they pass and fail together
    rng, condition = np.random.default_rng(7), Condition("one", 0.05, RARE, 200)
    found = all_pass([condition, condition._replace(gate="other")])
    count = sum(
        passed(difference_ends(flips(rng, 200, 0.07), flips(rng, 200, 0.07), alpha=0.05), 0.05) for _ in range(TIMES)
    )
    assert found.at_least - CLOSE <= count / TIMES
    assert count / TIMES == pytest.approx(found.at_most, abs=CLOSE)
    assert count / TIMES > found.independent + CLOSE
