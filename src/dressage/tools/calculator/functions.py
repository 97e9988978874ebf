"""The functions that the calculator knows, each with how many arguments it takes."""

import math
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import NamedTuple

from dressage.tools._calling import ToolError
from dressage.tools.calculator.values import (
    CONTEXT,
    Number,
    Value,
    decimal,
    half_up,
    number,
    power,
    rounded,
    shown_number,
    shown_value,
)

PI = Number(Fraction("3.14159265358979323846264338327950288419716939937510582"), exact=False)
E = Number(Fraction("2.71828182845904523536028747135266249775724709369995957"), exact=False)
NOUGHT = Number(Fraction(0))
CONSTANTS: Mapping[str, Number] = MappingProxyType({"pi": PI, "e": E})
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MOST_FACTORIAL = 1500


class Function(NamedTuple):
    """Takes `least` to `most` arguments."""

    least: int
    most: int
    apply: Callable[..., Value]


def numbers(values: tuple[Value, ...], of: str) -> list[Number]:
    """The arguments, all of which are numbers.

    Raises:
        ToolError: one is not.
    """
    for value in values:
        if not isinstance(value, Number):
            raise ToolError(f"{of} takes numbers, not {shown_value(value)}")
    return [value for value in values if isinstance(value, Number)]


def dates(values: tuple[Value, ...], of: str) -> list[date]:
    """The arguments, all of which are dates.

    Raises:
        ToolError: one is not.
    """
    for value in values:
        if not isinstance(value, date):
            raise ToolError(f"{of} takes dates such as 2024-02-29, not {shown_value(value)}")
    return [value for value in values if isinstance(value, date)]


def _whole(x: Number, of: str) -> int:
    if x.value.denominator != 1:
        raise ToolError(f"{of} takes whole numbers, not {shown_number(x)}")
    return x.value.numerator


def _natural(x: Number, of: str, most: int) -> int:
    n = _whole(x, of)
    if not 0 <= n <= most:
        raise ToolError(f"{of} takes whole numbers from 0 to {most}, not {n}")
    return n


def _exactly(xs: list[Number], value: Fraction | int) -> Number:
    return number(value, exact=all(x.exact for x in xs))


def _over(name: str, compute: Callable[[list[Fraction]], Fraction | int]) -> Callable[..., Value]:
    """A function of all its arguments, exact if they are."""

    def apply(*values: Value) -> Value:
        xs = numbers(values, name)
        return _exactly(xs, compute([x.value for x in xs]))

    return apply


def _of_whole(name: str, compute: Callable[..., int], most: int = 10**300) -> Callable[..., Value]:
    """A function of natural numbers."""

    def apply(*values: Value) -> Value:
        xs = numbers(values, name)
        return _exactly(xs, compute(*(_natural(x, name, most) for x in xs)))

    return apply


def _analytic(name: str, compute: Callable[[Decimal], Decimal], allowed: Callable[[Fraction], bool]) -> Function:
    def apply(value: Value) -> Value:
        (x,) = numbers((value,), name)
        if not allowed(x.value):
            raise ToolError(f"{name}({shown_number(x)}) is not defined, or too large")
        return rounded(compute(decimal(x.value)))

    return Function(1, 1, apply)


def _trigonometric(name: str, compute: Callable[[float], float]) -> Function:
    """In double precision, so good to about 15 digits, which is what is shown."""

    def inside(x: Decimal) -> Decimal:
        try:
            return Decimal(f"{round(compute(float(x)), 15):.15g}")  # sin(pi) is 0, not 1.2e-16
        except ValueError:
            raise ToolError(f"{name}({x}) is not defined") from None

    return _analytic(name, inside, lambda x: abs(x) < 10**6)


def _round(x: Value, places: Value = NOUGHT) -> Value:
    value, to = numbers((x, places), "round")
    digits = _whole(to, "round")
    if abs(digits) > 300:
        raise ToolError(f"round to at most 300 places, not {digits}")
    return number(half_up(value.value, digits), exact=value.exact)


def _log(x: Value, base: Value) -> Value:
    value, to = numbers((x, base), "log")
    if value.value <= 0 or to.value <= 0 or to.value == 1:
        raise ToolError(f"log({shown_number(value)}, {shown_number(to)}) is not defined")
    found = rounded(CONTEXT.divide(CONTEXT.ln(decimal(value.value)), CONTEXT.ln(decimal(to.value))))
    near = number(half_up(found.value, 0), exact=value.exact and to.exact)
    comes_out = abs(found.value - near.value) < Fraction(1, 10**30) and power(to, near).value == value.value
    return near if comes_out else found


def _total(xs: list[Fraction]) -> Fraction:
    """The sum, its size looked at after each step: many long denominators make a longer one each time."""
    total = Fraction(0)
    for x in xs:
        total = number(total + x).value
    return total


def _median(xs: list[Fraction]) -> Fraction:
    ranked = sorted(xs)
    return (ranked[(len(xs) - 1) // 2] + ranked[len(xs) // 2]) / 2


def _weekday(day: Value) -> Value:
    (found,) = dates((day,), "weekday")
    return WEEKDAYS[found.weekday()]


def _days(first: Value, last: Value) -> Value:
    a, b = dates((first, last), "days")
    return number((b - a).days)


def _months(first: Value, last: Value) -> Value:
    a, b = dates((first, last), "months")
    return number(_full_months(a, b))


def _years(first: Value, last: Value) -> Value:
    a, b = dates((first, last), "years")
    return number(int(_full_months(a, b) / 12))


def _full_months(a: date, b: date) -> int:
    """Months that are over between two dates; negative where `b` is the earlier."""
    if b < a:
        return -_full_months(b, a)
    return (b.year - a.year) * 12 + b.month - a.month - (b.day < a.day)


def _workdays(first: Value, last: Value) -> Value:
    """Mondays to Fridays from the first day up to, and without, the last; no holiday is known."""
    a, b = dates((first, last), "workdays")
    if b < a:
        raise ToolError(f"workdays wants the earlier date first, and {b} is before {a}")
    weeks, rest = divmod((b - a).days, 7)
    return number(weeks * 5 + sum((a.weekday() + i) % 7 < 5 for i in range(rest)))


def _date(year: Value, month: Value, day: Value) -> Value:
    parts = [_whole(x, "date") for x in numbers((year, month, day), "date")]
    try:
        return date(*parts)
    except (ValueError, OverflowError) as error:
        raise ToolError(f"date({', '.join(map(str, parts))}): {error}") from None


def _addmonths(day: Value, months: Value) -> Value:
    (a,), (n,) = dates((day,), "addmonths"), numbers((months,), "addmonths")
    year, month = divmod(a.year * 12 + a.month - 1 + _whole(n, "addmonths"), 12)
    if not 1 <= year <= 9999:
        raise ToolError(f"addmonths({a}, {shown_number(n)}) lies outside the years 1 to 9999")
    last = 31 if month == 11 else (date(year, month + 2, 1) - date(year, month + 1, 1)).days
    return date(year, month + 1, min(a.day, last))


def _factorial(x: Value) -> Value:
    return _of_whole("factorial", math.factorial, MOST_FACTORIAL)(x)


FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {
        "abs": Function(1, 1, _over("abs", lambda x: abs(x[0]))),
        "sqrt": Function(1, 1, lambda x: power(numbers((x,), "sqrt")[0], Number(Fraction(1, 2)))),
        "round": Function(1, 2, _round),
        "floor": Function(1, 1, _over("floor", lambda x: math.floor(x[0]))),
        "ceil": Function(1, 1, _over("ceil", lambda x: math.ceil(x[0]))),
        "trunc": Function(1, 1, _over("trunc", lambda x: math.trunc(x[0]))),
        "min": Function(1, 200, _over("min", min)),
        "max": Function(1, 200, _over("max", max)),
        "sum": Function(1, 200, _over("sum", _total)),
        "mean": Function(1, 200, _over("mean", lambda x: _total(x) / len(x))),
        "median": Function(1, 200, _over("median", _median)),
        "gcd": Function(2, 50, _of_whole("gcd", math.gcd)),
        "lcm": Function(2, 50, _of_whole("lcm", math.lcm)),
        "factorial": Function(1, 1, _factorial),
        "comb": Function(2, 2, _of_whole("comb", math.comb, MOST_FACTORIAL)),
        "perm": Function(2, 2, _of_whole("perm", math.perm, MOST_FACTORIAL)),
        "exp": _analytic("exp", CONTEXT.exp, lambda x: abs(x) < 5000),
        "ln": _analytic("ln", CONTEXT.ln, lambda x: x > 0),
        "log": Function(2, 2, _log),
        "log10": Function(1, 1, lambda x: _log(x, Number(Fraction(10)))),
        "log2": Function(1, 1, lambda x: _log(x, Number(Fraction(2)))),
        "sin": _trigonometric("sin", math.sin),
        "cos": _trigonometric("cos", math.cos),
        "tan": _trigonometric("tan", math.tan),
        "asin": _trigonometric("asin", math.asin),
        "acos": _trigonometric("acos", math.acos),
        "atan": _trigonometric("atan", math.atan),
        "date": Function(3, 3, _date),
        "weekday": Function(1, 1, _weekday),
        "days": Function(2, 2, _days),
        "months": Function(2, 2, _months),
        "years": Function(2, 2, _years),
        "workdays": Function(2, 2, _workdays),
        "addmonths": Function(2, 2, _addmonths),
    }
)
"""`log(x, base)` names its base, because log alone means three things; angles are in radians."""
