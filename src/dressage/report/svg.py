"""The few SVG elements that charts are made of; every word is escaped, colours and sizes live in style.css."""

from collections.abc import Iterable

from markupsafe import Markup

from dressage.report.wording import visible

WIDE, NARROW = 960, 350
"""Widths in CSS pixels; a wide chart has a narrow twin for phones, so that letters keep their size."""


def joined(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def svg(width: float, height: float, *, title: str, body: Iterable[Markup]) -> Markup:
    return Markup(
        '<svg viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}" class="chart"><title>{}</title>{}</svg>'
    ).format(width, height, visible(title), visible(title), joined(body))


def line(x1: float, y1: float, x2: float, y2: float, tone: str) -> Markup:
    return Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(x1, y1, x2, y2, tone)


def text(x: float, y: float, text: str, *, anchor: str = "start", tone: str = "t") -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>').format(
        x, y, anchor, tone, visible(text)
    )


def shortened(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: max(letters - 1, 1)] + "…"


def placed(x: float, text: str, width: float) -> float:
    """The middle of a label near x that does not leave the picture (a letter is about six pixels wide)."""
    half = 3.1 * len(text) + 2
    return min(max(x, half), width - half)
