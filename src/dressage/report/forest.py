"""Forest plots: rates with their intervals, one a row, against vertical marks."""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from dressage.report.axes import Scale, domain, ticks
from dressage.report.svg import NARROW, WIDE, joined, line, placed, shortened, svg, text
from dressage.report.wording import visible


class Interval(NamedTuple):
    """A row of a forest plot; the tone names a colour of style.css."""

    label: str
    value: float
    low: float | None
    high: float | None
    text: str
    tone: str = "policy"


class Mark(NamedTuple):
    """A vertical line to compare with."""

    at: float
    label: str
    tone: str


def forest(rows: Sequence[Interval], marks: Sequence[Mark], *, title: str, least: float = 0.0) -> Markup:
    """Rates with their intervals, one a row, against vertical marks; a wide picture and its narrow twin, where words
    stand above each interval and no line runs through them. Rates lie in [`least`, 1], differences of two in [−1, 1].
    """
    wide, narrow = (_forest(rows, marks, title=title, width=width, least=least) for width in (WIDE, NARROW))
    return Markup('<div class="wide">{}</div><div class="narrow">{}</div>').format(wide, narrow)


def _forest(rows: Sequence[Interval], marks: Sequence[Mark], *, title: str, width: int, least: float) -> Markup:
    wide = width == WIDE
    left, right = (250, 190) if wide else (17, 17)
    row_height, top = (34 if wide else 52), 10 + 17 * len(marks)
    ends = [end for row in rows for end in (row.value, row.low, row.high) if end is not None]
    low, high = domain([*ends, *(mark.at for mark in marks)], at_most=6)
    x = Scale(max(low, least), min(high, 1.0), left, width - right)
    bottom = top + row_height * len(rows)
    body: list[Markup] = []
    at = ticks(x.low, x.high, 6)
    pieces = (
        [(top, bottom)] if wide else [(top + row_height * n + 24, top + row_height * n + 48) for n in range(len(rows))]
    )
    for tone, where in [*(("grid", tick) for tick in at), *((f"mark {mark.tone}", mark.at) for mark in marks)]:
        body += [line(x(where), start, x(where), end, tone) for start, end in pieces]
    body += [text(x(tick), bottom + 16, f"{100 * tick:.0f} %".replace("-", "−"), anchor="middle") for tick in at]
    for number, mark in enumerate(marks):
        middle, y = placed(x(mark.at), mark.label, width), 14 + 17 * number
        body.append(text(middle, y, mark.label, anchor="middle", tone=f"t {mark.tone}"))
    for number, row in enumerate(rows):
        body.append(_forest_row(row, x, y=top + row_height * number, width=width))
    return svg(width, bottom + 26, title=title, body=body)


def _forest_row(row: Interval, x: Scale, *, y: float, width: int) -> Markup:
    if width == WIDE:
        middle = y + 17
        words = [
            text(0, middle + 4, shortened(row.label, 36), tone="t strong"),
            text(width, middle + 4, row.text, anchor="end", tone="t value"),
        ]
    else:
        middle = y + 36
        room = 46 - len(row.text)
        words = [
            text(0, y + 18, shortened(row.label, room), tone="t strong"),
            text(width, y + 18, row.text, anchor="end", tone="t value"),
        ]
    if row.low is not None and row.high is not None:
        words.append(line(x(row.low), middle, x(row.high), middle, f"whisker {row.tone}"))
        words += [line(x(end), middle - 5, x(end), middle + 5, f"whisker {row.tone}") for end in (row.low, row.high)]
    words.append(_dot(x(row.value), middle, row.tone))
    return Markup("<g><title>{}: {}</title>{}</g>").format(visible(row.label), visible(row.text), joined(words))


def _dot(x: float, y: float, tone: str) -> Markup:
    """A filled circle for a policy, a hollow diamond for a baseline: never told apart by colour alone."""
    if tone == "baseline":
        return Markup('<path d="M{:.1f} {:.1f}l6 6l-6 6l-6 -6z" class="hollow {}"/>').format(x, y - 6, tone)
    return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="5.5" class="dot {}"/>').format(x, y, tone)
