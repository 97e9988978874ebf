"""The calculator as a tool: one expression, its value in words and as data."""

from pydantic import Field, JsonValue

from dressage.tools._calling import Arguments, Calling, Deadline, Outcome
from dressage.tools.calculator import Settings
from dressage.tools.calculator.parsing import Worked, worked_out
from dressage.tools.calculator.values import Number, Value, shown_value

DESCRIPTION = (
    "Works out one expression exactly, or says whether a comparison holds. Operators + - * / // mod ^ !, percent "
    "(15% of 80), = != < <= > >=, functions such as sqrt, round(x, places), mean, comb, log(x, base), and dates: "
    "2024-03-01 - 2024-01-15 is days, 2024-01-31 + 30 a date, weekday(2024-02-29), years, months, workdays, addmonths."
)


class Expression(Arguments):
    """What is to be worked out."""

    expression: str = Field(min_length=1, max_length=1000)
    """Such as `(1,200 - 350) * 15%`, `17 mod 5`, `0.1 + 0.2 = 0.3` or `2024-03-01 - 2024-02-01`."""


def open(settings: Settings, *, name: str) -> Calling[Expression]:
    return Calling(settings, name, DESCRIPTION, Expression, _work)


def _work(arguments: Expression, deadline: Deadline) -> Outcome:
    expression = arguments.expression.strip()
    worked = worked_out(expression, deadline)
    return Outcome(_said(expression, worked), {"expression": expression, **_data(worked)})


def _said(expression: str, worked: Worked) -> str:
    value = shown_value(worked.value)
    if not worked.sides:
        return f"{expression} {'' if value.startswith('≈') else '= '}{value}"
    sides = ", ".join(shown_value(side) for side in worked.sides)
    within = "" if all(_exact(side) for side in worked.sides) else " (rounded numbers, equal up to 1 part in 10^12)"
    return f"{expression}: {value}{within}; the sides are {sides}"


def _data(worked: Worked) -> dict[str, JsonValue]:
    exact = all(_exact(side) for side in worked.sides or (worked.value,))
    found: dict[str, JsonValue] = {"value": shown_value(worked.value), "kind": _kind(worked.value), "exact": exact}
    return found | ({"sides": [shown_value(side) for side in worked.sides]} if worked.sides else {})


def _exact(value: Value) -> bool:
    return value.exact if isinstance(value, Number) else True


def _kind(value: Value) -> str:
    if isinstance(value, Number):
        return "number"
    return "truth" if isinstance(value, bool) else "text" if isinstance(value, str) else "date"
