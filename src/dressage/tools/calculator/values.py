"""What the calculator computes with: exact fractions that know when they were rounded, dates, truths."""

import math
from datetime import date, timedelta
from decimal import Context, Decimal, InvalidOperation, Overflow
from fractions import Fraction
from typing import NamedTuple

from dressage.tools._calling import ToolError

MOST_BITS = 13_000
"""Numerators and denominators stay below this (3,900 digits): what no claim needs may not fill the memory."""
DIGITS = 50
CONTEXT = Context(prec=DIGITS)
SHOWN_DIGITS = 20
CLOSE = Fraction(1, 10**12)
"""Relative difference below which two rounded numbers count as equal."""


class Number(NamedTuple):
    """A rational number; not `exact` where a root, a logarithm or the like had to be rounded on the way."""

    value: Fraction
    exact: bool = True
    percent: bool = False
    """True for `15%` itself, so that `200 + 15%` can be refused as the two things it may mean."""


Value = Number | date | bool | str


def number(value: Fraction | int, *, exact: bool = True, percent: bool = False) -> Number:
    """A number of bounded size.

    Raises:
        ToolError: it is too large to be written out.
    """
    fraction = Fraction(value)
    if max(fraction.numerator.bit_length(), fraction.denominator.bit_length()) > MOST_BITS:
        raise ToolError(f"a number on the way has more than {MOST_BITS} bits; ask for its size with log10 instead")
    return Number(fraction, exact, percent)


def rounded(value: Decimal) -> Number:
    """The result of a computation in 50 digits, marked as rounded."""
    if not value.is_finite() or abs(value.adjusted()) > MOST_BITS // 4:
        raise ToolError(f"{value} cannot be written out")
    return number(Fraction(value), exact=False)


def decimal(x: Fraction) -> Decimal:
    return CONTEXT.divide(Decimal(x.numerator), Decimal(x.denominator))


def power(base: Number, exponent: Number) -> Number:
    """base^exponent: exact for whole exponents and for roots that come out, else in 50 digits.

    Raises:
        ToolError: 0 to a negative power, a root of a negative number, or a result that is too large.
    """
    x, y = base.value, exponent.value
    exact = base.exact and exponent.exact
    if x == 0 and y < 0:
        raise ToolError(f"0 to the power of {shown_number(exponent)} divides by zero")
    if y.denominator == 1:
        size = max(x.numerator.bit_length(), x.denominator.bit_length()) - 1
        if size * abs(y.numerator) > MOST_BITS:
            raise ToolError(f"{shown_number(base)} to the power of {shown_number(exponent)} has over {MOST_BITS} bits")
        parity = y.numerator if abs(x) != 1 else y.numerator % 2  # (-1)^(10^3000) needs no loop
        return number(x**parity, exact=exact)
    if x < 0:
        raise ToolError(f"{shown_number(base)} to the power of {shown_number(exponent)} is no real number")
    root = _exact_root(x, y.denominator)
    if root is not None:
        return power(Number(root, exact), Number(Fraction(y.numerator), exact))
    try:
        return rounded(CONTEXT.power(decimal(x), decimal(y)))
    except (Overflow, InvalidOperation):
        raise ToolError(f"{shown_number(base)} to the power of {shown_number(exponent)} is too large") from None


def _exact_root(x: Fraction, degree: int) -> Fraction | None:
    """The root of a fraction that is not negative, where it is a fraction again."""
    if degree > 64:
        return None
    top, bottom = _whole_root(x.numerator, degree), _whole_root(x.denominator, degree)
    return None if top is None or bottom is None else Fraction(top, bottom)


def _whole_root(n: int, degree: int) -> int | None:
    """Newton's method on integers, from above."""
    if n < 2:
        return n
    guess = 1 << -(-n.bit_length() // degree)
    while (better := ((degree - 1) * guess + n // guess ** (degree - 1)) // degree) < guess:
        guess = better
    return guess if guess**degree == n else None


def equal(a: Number, b: Number) -> bool:
    """Equality; of numbers that were rounded on the way, up to one part in 10^12."""
    if a.exact and b.exact:
        return a.value == b.value
    return abs(a.value - b.value) <= CLOSE * max(abs(a.value), abs(b.value), CLOSE)


def later(day: date, days: Number) -> date:
    """The date so many days on.

    Raises:
        ToolError: a part of a day, or a year outside 1–9999.
    """
    if days.value.denominator != 1:
        raise ToolError(f"a date moves by whole days, not by {shown_number(days)}")
    try:
        return day + timedelta(days=days.value.numerator)
    except OverflowError:
        raise ToolError(f"{shown_number(days)} days from {day} lie outside the years 1 to 9999") from None


def shown_value(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Number):
        return shown_number(value)
    return value.isoformat() if isinstance(value, date) else value


def shown_number(x: Number) -> str:
    """Exactly where a decimal of at most 60 places can say it, else 20 digits; `≈` marks what is rounded."""
    if x.exact and (places := _places(x.value.denominator)) is not None and places <= 60:
        return _decimal_text(x.value, places)
    digits = f"{decimal(x.value):.{SHOWN_DIGITS}g}"
    if not x.exact:
        return f"≈ {digits}"
    fraction = f"{x.value.numerator}/{x.value.denominator}"
    return f"{fraction} ≈ {digits}" if len(fraction) <= 80 else f"≈ {digits}"


def _places(denominator: int) -> int | None:
    """Decimal places of a fraction with this denominator; null where they never end."""
    twos = (denominator & -denominator).bit_length() - 1
    rest, fives = denominator >> twos, 0
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    return max(twos, fives) if rest == 1 else None


def _decimal_text(x: Fraction, places: int) -> str:
    scaled = abs(x.numerator) * 10**places // x.denominator
    text = str(scaled).rjust(places + 1, "0")
    whole, part = (text[:-places], text[-places:]) if places else (text, "")
    return ("-" if x < 0 else "") + whole + (f".{part}" if part else "")


def half_up(x: Fraction, places: int) -> Fraction:
    """Rounded to so many decimal places, a half away from zero as in schoolbooks."""
    scale = Fraction(10) ** places
    whole = math.floor(abs(x) * scale + Fraction(1, 2))
    return (1 if x >= 0 else -1) * Fraction(whole) / scale
