"""Charts: axes that make sense of constant numbers, ticks that can be told apart, words that no line runs through."""

import re

import pytest

from dressage.report.axes import domain, ticks
from dressage.report.figures import training
from dressage.report.forest import Interval, Mark, forest
from dressage.report.panels import told_apart


@pytest.mark.parametrize(
    ("values", "share", "ends"),
    [
        ([0.0, 0.0], True, (0, 1)),
        ([1.0, 1.0], True, (0, 1)),
        ([0.93, 1.0], True, (0.92, 1)),
        ([0.0, 0.0], False, (0, 1)),
        ([4.0, 4.0 - 1e-9], False, (2, 6)),
        ([-4e-8, 0.03], False, (0, 0.03)),
        ([-0.01, 0.03], False, (-0.01, 0.03)),
    ],
    ids=["zero share", "full share", "share near 1", "zero", "constant", "rounding below zero", "below zero"],
)
def test_an_axis_has_room_only_where_values_may_be(values: list[float], share: bool, ends: tuple[float, float]) -> None:
    assert domain(values, share=share) == pytest.approx(ends)


def test_ticks_of_steps_are_whole_and_near_ones_are_told_apart() -> None:
    assert ticks(1, 3, least=1.0) == [1, 2, 3]
    assert ticks(1, 3) == [1, 1.5, 2, 2.5, 3]
    assert [words for _, words in told_apart([0.5, 1.0])] == ["0.5", "1"]
    assert [words for _, words in told_apart([12.34561, 12.34562])] == ["12.34561", "12.34562"]


def logged(*rows: dict[str, float]) -> tuple[dict[str, object], ...]:
    return tuple({"stage": "train", "step": step, **row} for step, row in enumerate(rows, 1))


def test_a_constant_curve_says_so_once_on_an_axis_of_shares() -> None:
    (figure,) = training(logged({"reply/truncated": 0.0}, {"reply/truncated": 0.0}))
    assert [legend.label for legend in figure.legend] == ["0 throughout, 2 steps"]
    assert [float(label) for label in re.findall(r'text-anchor="end"[^>]*>([^<]+)<', figure.chart)] == [0, 0.5, 1]
    (figure,) = training(logged({"loss": 0.5}, {"loss": 0.25}))
    assert [legend.label for legend in figure.legend] == ["0.5000 → 0.2500 over 2 steps"]


def test_on_a_phone_no_line_runs_through_words() -> None:
    rows = [Interval(name, 0.5, 0.4, 0.6, "50.0 % [40.0, 60.0]") for name in ("one", "two")]
    narrow = forest(rows, [Mark(0.5, "even", "even"), Mark(0.6, "other", "other")], title="t").partition("narrow")[2]
    words = [float(y) for y in re.findall(r'<text x="[\d.]+" y="([\d.]+)"', narrow)]
    spans = [(float(a), float(b)) for a, b in re.findall(r'y1="([\d.]+)" x2="[\d.]+" y2="([\d.]+)"', narrow)]
    assert len(words) > 6
    assert len(spans) > 10
    for y in words:  # letters reach from about 11 above the line to 4 below it
        assert not [span for span in spans if span[0] < y + 4 and span[1] > y - 11]
