"""The reliability plot: how sure a judge said it was, against how often people agreed; the diagonal is honest."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from dressage.cards import Calibrated
from dressage.report.axes import Scale
from dressage.report.svg import NARROW, line, svg, text
from dressage.report.wording import counted, percent

_LEFT, _RIGHT, _TOP, _BOTTOM, _HEIGHT = 50, 14, 12, 44, 300
_LARGEST = 9.0
"""Radius of the dot of the largest bin; areas are in proportion to the pairs in a bin."""


def reliability_plot(bins: Sequence[Calibrated], *, title: str) -> Markup:
    """A dot a bin, over p of the named winner from ½ to 1."""
    x, y = Scale(0.5, 1.0, _LEFT, NARROW - _RIGHT), Scale(0.0, 1.0, _HEIGHT - _BOTTOM, _TOP)
    body = [line(x.start, y(at), x.end, y(at), "grid") for at in (0.0, 0.25, 0.5, 0.75, 1.0)]
    body += [text(x.start - 6, y(at) + 4, f"{100 * at:.0f} %", anchor="end") for at in (0.0, 0.5, 1.0)]
    body.append(line(x.start, y(0), x.end, y(0), "axis"))
    for at in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        body.append(line(x(at), y(0), x(at), y(0) + 4, "axis"))
        body.append(text(x(at), y(0) + 19, f"{100 * at:.0f} %", anchor="middle"))
    body.append(text((x.start + x.end) / 2, _HEIGHT - 4, "how sure it was", anchor="middle", tone="t faint"))
    body.append(line(x(0.5), y(0.5), x(1.0), y(1.0), "mark even"))
    most = max((b.n for b in bins), default=1)
    for b in bins:
        words = f"{percent(b.said)} sure, right in {percent(b.true)} of {counted(b.n, 'pair', 'pairs')}"
        dot = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{:.1f}" class="dot policy"><title>{}</title></circle>')
        body.append(dot.format(x(b.said), y(b.true), max(2.5, _LARGEST * math.sqrt(b.n / most)), words))
    return svg(NARROW, _HEIGHT, title=title, body=body)
