"""Words and numbers for people: hidden characters made visible, numbers rounded, measures given their names."""

import math
import re
from typing import NamedTuple

_HIDDEN = re.compile(
    "[\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\uffff\U000e0000-\U000e0fff]"
)
"""Marks that turn text around, joiners that show nothing, tags: what could hide words from a reader."""
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def visible(text: str) -> str:
    """Text that is safe to show: no control characters but newline and tab, hidden marks as `⟨U+202E⟩`."""
    text = _CONTROL.sub("", text.replace("\r\n", "\n"))
    text = _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
    return _HIDDEN.sub(lambda mark: f"⟨U+{ord(mark[0]):04X}⟩", text)


def clipped(text: str, at_most: int) -> str:
    """The text, or its beginning with how many characters are not shown."""
    if len(text) <= at_most:
        return text
    return f"{text[:at_most]} … [{len(text) - at_most:,} more characters]"


def plain(word: str) -> str:
    """`preference_rate` as a person would write it."""
    return word.replace("_", " ").strip()


# ---------------------------------------------------------------- numbers


def number(value: float) -> str:
    """Four digits that count, a real minus sign, thousands apart."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15):
        return f"{int(value):,}".replace("-", "−")
    size = abs(value)
    if size >= 1e6 or size < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}".replace("-", "−")
    digits = 1 if size >= 1000 else 3 - math.floor(math.log10(size)) if size >= 1 else 4
    return f"{value:,.{digits}f}".replace("-", "−")


def trimmed(value: float) -> str:
    """A number without zeros that say nothing: for ticks and for numbers in a sentence."""
    text = number(value)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def percent(share: float) -> str:
    """A share as a percentage with one decimal."""
    return f"{100 * share:.1f} %".replace("-", "−")


def duration(seconds: float) -> str:
    """Seconds as a person would say them."""
    if seconds < 90:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def counted(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"


# ---------------------------------------------------------------- measures


class Kind(NamedTuple):
    """What a measure is called, and in what it is counted."""

    name: str
    unit: str
    share: bool
    """Shown as a percentage."""

    def show(self, value: float) -> str:
        return percent(value) if self.share else number(round(value, 4))


MEASURES = {
    "preference_rate": Kind("Preferred over the predecessor", "", True),
    "preference_rate_without_failures": Kind("Preferred, broken replies left out", "", True),
    "reply_tokens": Kind("Reply length", "tokens", False),
    "reply_chars": Kind("Reply length", "characters", False),
    "eos_share": Kind("Replies that end by themselves", "", True),
    "distinct_2": Kind("Distinct bigrams over all bigrams", "", False),
    "opener_share": Kind("Replies with the commonest opener", "", True),
    "nll_per_token": Kind("NLL under the base", "nats per token", False),
    "kl_per_reply": Kind("KL from the base", "nats per reply", False),
    "score_mean": Kind("Mean grade", "of 1", False),
}


def measure(name: str) -> Kind:
    """How a measure or a guard is shown; one that is not known here keeps its own name."""
    return MEASURES[name] if name in MEASURES else Kind(plain(name).capitalize(), "", False)
