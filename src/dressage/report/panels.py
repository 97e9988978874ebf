"""Small panels: curves over steps, and histograms of several samples over common bins."""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from dressage.report.axes import Scale, domain, ticks
from dressage.report.svg import NARROW, line, svg, text
from dressage.report.wording import counted, trimmed, visible


class Curve(NamedTuple):
    label: str
    tone: str
    points: Sequence[tuple[float, float]]


class Group(NamedTuple):
    """The values of one histogram outline."""

    label: str
    tone: str
    values: Sequence[float]


_LEFT, _RIGHT, _TOP, _BOTTOM, _HEIGHT = 46, 12, 10, 40, 196


def _frame(
    x: Scale, y: Scale, *, x_label: str, y_texts: Sequence[tuple[float, str]], x_step: float = 0.0
) -> list[Markup]:
    """Grid, ticks and labels of a panel; ticks on x are at least `x_step` apart."""
    base = _HEIGHT - _BOTTOM
    body = [line(x.start, y(at), x.end, y(at), "grid") for at, _ in y_texts]
    body += [text(x.start - 6, y(at) + 4, words, anchor="end") for at, words in y_texts]
    body.append(line(x.start, base, x.end, base, "axis"))
    for tick in ticks(x.low, x.high, 5, least=x_step):
        body.append(line(x(tick), base, x(tick), base + 4, "axis"))
        body.append(text(x(tick), base + 20, trimmed(tick), anchor="middle"))
    body.append(text((x.start + x.end) / 2, _HEIGHT - 3, x_label, anchor="middle", tone="t faint"))
    return body


def lines(series: Sequence[Curve], *, title: str, x_label: str, share: bool = False) -> Markup:
    """Curves over common steps, which are whole numbers; long ones are thinned to bucket means."""
    drawn = [curve._replace(points=thinned(curve.points)) for curve in series if curve.points]
    xs, ys = ([p[i] for curve in drawn for p in curve.points] for i in (0, 1))
    x_low, x_high = min(xs), max(xs)
    x = Scale(x_low, x_high if x_high > x_low else x_low + 1, _LEFT, NARROW - _RIGHT)
    y = Scale(*domain(ys, at_most=4, share=share), _HEIGHT - _BOTTOM, _TOP)
    body = _frame(x, y, x_label=x_label, y_texts=told_apart(ticks(y.low, y.high, 4)), x_step=1.0)
    for curve in drawn:
        path = "M" + "L".join(f"{x(px):.1f} {y(py):.1f}" for px, py in curve.points)
        body.append(Markup('<path d="{}" class="curve {}"/>').format(path, curve.tone))
        last = curve.points[-1]
        dot = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3" class="dot {}"/>')
        body.append(dot.format(x(last[0]), y(last[1]), curve.tone))
    return svg(NARROW, _HEIGHT, title=title, body=body)


def told_apart(at: Sequence[float]) -> list[tuple[float, str]]:
    """Ticks with their words, which have as many digits as it takes to tell one from the next."""
    words = [trimmed(tick) for tick in at]
    digits = 0
    while len(set(words)) < len(words) and digits < 15:
        digits += 1
        words = [f"{tick:,.{digits}f}".replace("-", "−") for tick in at]
    return list(zip(at, words, strict=True))


def thinned(points: Sequence[tuple[float, float]], at_most: int = 240) -> list[tuple[float, float]]:
    """The points, or as many means over neighbours as a picture can show; the last point stays itself."""
    if len(points) <= at_most:
        return list(points)
    size = -(-len(points) // (at_most - 1))
    buckets = [points[i : i + size] for i in range(0, len(points) - 1, size)]
    means = [(sum(p[0] for p in b) / len(b), sum(p[1] for p in b) / len(b)) for b in buckets]
    return [*means, points[-1]]


def histogram(groups: Sequence[Group], *, title: str, x_label: str, ends: tuple[float, float] | None = None) -> Markup:
    """Outlines of several samples over common bins, each as shares of its own size; triangles mark the means."""
    drawn = [group for group in groups if group.values]
    low, high = ends or domain([v for group in drawn for v in group.values])
    x, bins = Scale(low, high, _LEFT, NARROW - _RIGHT), 20
    shares = [binned(group.values, low, high, bins=bins) for group in drawn]
    y = Scale(0, domain([0, *(s for row in shares for s in row)], at_most=4)[1], _HEIGHT - _BOTTOM, _TOP)
    body = _frame(x, y, x_label=x_label, y_texts=[(tick, percent_tick(tick)) for tick in ticks(0, y.high, 4)])
    for group, row in zip(drawn, shares, strict=True):
        body.append(_outline(row, x, y, tone=group.tone))
    for group in drawn:
        mean = sum(group.values) / len(group.values)
        body.append(
            Markup('<path d="M{:.1f} {:.1f}l4.5 7l-9 0z" class="mean {}"><title>{}</title></path>').format(
                x(min(max(mean, low), high)), _HEIGHT - _BOTTOM + 1, group.tone, visible(f"mean of {group.label}")
            )
        )
    return svg(NARROW, _HEIGHT, title=title, body=body)


def percent_tick(share: float) -> str:
    return f"{trimmed(round(100 * share, 6))} %"


def binned(values: Sequence[float], low: float, high: float, *, bins: int) -> list[float]:
    """The share of the values in each of equal bins over [low, high]; the last bin holds its right end."""
    counts = [0] * bins
    for value in values:
        counts[min(max(int((value - low) / (high - low) * bins), 0), bins - 1)] += 1
    return [count / len(values) for count in counts]


def _outline(shares: Sequence[float], x: Scale, y: Scale, *, tone: str) -> Markup:
    width = (x.high - x.low) / len(shares)
    steps = [f"M{x.start:.1f} {y(0):.1f}"]
    for i, share in enumerate(shares):
        steps.append(f"V{y(share):.1f}H{x(x.low + (i + 1) * width):.1f}")
    steps.append(f"V{y(0):.1f}Z")
    return Markup('<path d="{}" class="bars {}"/>').format("".join(steps), tone)


def spread(values: Sequence[float]) -> str:
    """The legend's words on a sample: its mean and its size."""
    mean = sum(values) / len(values)
    return f"mean {trimmed(round(mean, 3))}, {counted(len(values), 'value', 'values')}"
