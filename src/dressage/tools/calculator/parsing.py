"""Reads an expression and works it out: a small recursive descent over a fixed grammar, so nothing is ever run.

comparison := sum ((= | != | < | <= | > | >=) sum)*
sum        := term ((+ | -) term)*
term       := sign ((* | / | // | mod | of) sign)*        % before an operand is mod, as in 17 % 5
sign       := (+ | -) sign | power
power      := postfix (^ sign)?                           -2^2 = -4, 2^3^2 = 2^9
postfix    := atom (% | !)*                               15% is 15/100
atom       := number | date | constant | name(sum, …) | (comparison)
"""

import re
from collections.abc import Callable, Mapping
from datetime import date
from difflib import get_close_matches
from fractions import Fraction
from typing import NamedTuple, NoReturn

from dressage.tools._calling import Deadline, ToolError
from dressage.tools.calculator.functions import CONSTANTS, FUNCTIONS
from dressage.tools.calculator.values import (
    Number,
    Value,
    equal,
    later,
    number,
    power,
    shown_number,
    shown_value,
)

MOST_DEPTH = 60
TOKEN = re.compile(
    r"\s*(?:(?P<date>(?<![\d.])\d{4}-\d{2}-\d{2}(?![\d.-]))"
    r"|(?P<grouped>\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d.]))"
    r"|(?P<number>(?:\d+(?:_\d+)*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[^\W\d]\w*)"
    r"|(?P<sign>\*\*|//|<=|>=|!=|==|[-+*/^%!(),<>=≤≥≠·×÷−√]))"
)
SAME = {"**": "^", "·": "*", "×": "*", "÷": "/", "−": "-", "≤": "<=", "≥": ">=", "≠": "!=", "==": "="}
COMPARISONS: Mapping[str, Callable[[int], bool]] = {
    "=": lambda sign: sign == 0,
    "!=": lambda sign: sign != 0,
    "<": lambda sign: sign < 0,
    "<=": lambda sign: sign <= 0,
    ">": lambda sign: sign > 0,
    ">=": lambda sign: sign >= 0,
}
"""Comparison → whether it holds, from the sign of left minus right."""


class Token(NamedTuple):
    kind: str
    text: str
    place: int


class Worked(NamedTuple):
    """What an expression came to; `sides` are what a comparison compared."""

    value: Value
    sides: tuple[Value, ...] = ()


def worked_out(expression: str, deadline: Deadline) -> Worked:
    """The value of an expression.

    Raises:
        ToolError: it cannot be read, or cannot be computed; says where, or what.
    """
    return _Parser(_tokens(expression), deadline).whole()


def _tokens(text: str) -> list[Token]:
    """The words of an expression. Inside a call a comma parts arguments: `max(1,200)` has two."""
    found: list[Token] = []
    calls: list[bool] = []
    place = 0
    while text[place:].strip():
        match = TOKEN.match(text, place)
        if match is None:
            raise ToolError(_strange(text, place), why="arguments")
        kind, word = str(match.lastgroup), str(match[str(match.lastgroup)])
        if kind == "grouped" and calls[-1:] == [True]:
            kind, word = "number", word.split(",")[0]
        start = match.end() - len(match[str(match.lastgroup)])
        place = start + len(word)
        if word == "(":
            calls.append(bool(found) and found[-1].kind == "name" and found[-1].text not in ("of", "mod"))
        if word == ")" and calls:
            calls.pop()
        found.append(Token("number" if kind == "grouped" else kind, SAME.get(word, word), start))
    return [*found, Token("end", "the end", len(text))]


def _strange(text: str, place: int) -> str:
    rest = text[place:].lstrip()
    hint = "; write amounts without their currency" if rest[0] in "$€£¥" else ""
    return f"{rest[0]!r} at character {len(text) - len(rest) + 1} means nothing here{hint}"


class _Parser:
    """Where in the expression it stands, and how deep."""

    def __init__(self, tokens: list[Token], deadline: Deadline) -> None:
        self.tokens, self.at, self.depth, self.deadline = tokens, 0, 0, deadline

    def whole(self) -> Worked:
        found = self.comparison()
        if self.here.kind != "end":
            self.unexpected("an operator")
        return found

    @property
    def here(self) -> Token:
        return self.tokens[self.at]

    def take(self, *words: str) -> str | None:
        """The next token, if it is one of these words."""
        word = self.here.text
        if self.here.kind in ("sign", "name") and word in words:
            self.at += 1
            return word
        return None

    def unexpected(self, wanted: str) -> NoReturn:
        """Raises:
        ToolError: saying what is needed where the parser stands.
        """
        token = self.here
        hint = "; write the multiplication out: 2 * (3 + 4)" if token.text == "(" or token.kind == "name" else ""
        where = "at the end" if token.kind == "end" else f"at character {token.place + 1}, not {token.text[:40]!r}"
        raise ToolError(f"{wanted} is needed {where}{hint}", why="arguments")

    def comparison(self) -> Worked:
        sides, holds = [self.sum()], []
        while sign := self.take(*COMPARISONS):
            sides.append(self.sum())
            holds.append(compared(sides[-2], sign, sides[-1]))
        return Worked(all(holds), tuple(sides)) if holds else Worked(sides[0])

    def sum(self) -> Value:
        value = self.term()
        while sign := self.take("+", "-"):
            value = added(value, self.term(), minus=sign == "-")
        return value

    def term(self) -> Value:
        value = self.sign()
        while sign := self.take("*", "/", "//", "%", "mod", "of"):
            value = multiplied(value, sign, self.sign())
        return value

    def sign(self) -> Value:
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise ToolError(f"more than {MOST_DEPTH} brackets or signs inside one another", why="arguments")
        self.deadline.check()
        if sign := self.take("-", "+"):
            x = _number(self.sign(), sign)
            value: Value = number(-x.value if sign == "-" else x.value, exact=x.exact, percent=x.percent)
        else:
            value = self.power()
        self.depth -= 1
        return value

    def power(self) -> Value:
        if self.take("√"):
            return power(_number(self.postfix(), "√"), Number(Fraction(1, 2)))
        value = self.postfix()
        if self.take("^"):
            return power(_number(value, "^"), _number(self.sign(), "^"))
        return value

    def postfix(self) -> Value:
        value = self.atom()
        while True:
            if self.here.text == "%" and not self._starts_operand(self.tokens[self.at + 1]):
                self.at += 1
                x = _number(value, "%")
                value = number(x.value / 100, exact=x.exact, percent=True)
            elif self.take("!"):
                value = FUNCTIONS["factorial"].apply(value)
            else:
                return value

    @staticmethod
    def _starts_operand(token: Token) -> bool:
        return token.kind in ("number", "date") or token.text == "(" or (token.kind == "name" and token.text != "of")

    def atom(self) -> Value:
        token = self.here
        self.at += 1
        if token.kind == "number":
            return _read_number(token.text)
        if token.kind == "date":
            return _read_date(token.text)
        if token.text == "(":
            inside = self.comparison().value
            if not self.take(")"):
                self.unexpected("a closing bracket")
            return inside
        if token.kind == "name" and token.text not in ("of", "mod"):
            return self.named(token.text)
        self.at -= 1
        self.unexpected("a number")

    def named(self, word: str) -> Value:
        name = word.lower()
        if self.here.text != "(":
            if name in CONSTANTS:
                return CONSTANTS[name]
            if name in FUNCTIONS:
                raise ToolError(f"{name} takes its arguments in brackets: {name}(…)", why="arguments")
            raise ToolError(f"{word[:40]!r} is unknown{_near(name)}", why="arguments")
        if name not in FUNCTIONS:
            raise ToolError(f"there is no function {word[:40]!r}{_near(name)}", why="arguments")
        self.at += 1
        values: list[Value] = []
        while not self.take(")"):
            if values and not self.take(","):
                self.unexpected("a comma or a closing bracket")
            values.append(self.sum())
        function = FUNCTIONS[name]
        if not function.least <= len(values) <= function.most:
            some = str(function.least) if function.least == function.most else f"{function.least} to {function.most}"
            raise ToolError(f"{name} takes {some} arguments, not {len(values)}", why="arguments")
        return function.apply(*values)


def _near(name: str) -> str:
    if name in ("today", "now"):
        return "; write the date out, such as 2024-02-29: the answer must not depend on the day"
    found = get_close_matches(name, [*FUNCTIONS, *CONSTANTS], n=1)
    return f"; did you mean {found[0]!r}?" if found else f" (there is: {', '.join([*CONSTANTS, *FUNCTIONS])})"


def _read_number(text: str) -> Number:
    plain = text.replace(",", "").replace("_", "")
    mantissa, _, exponent = plain.lower().partition("e")
    if exponent and abs(int(exponent)) > 3900:
        raise ToolError(f"{text[:40]} cannot be written out; powers of ten go up to 3900")
    return number(Fraction(mantissa) * Fraction(10) ** int(exponent or 0))


def _read_date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ToolError(f"there is no day {text}: {error}") from None


def _number(value: Value, sign: str) -> Number:
    if not isinstance(value, Number):
        raise ToolError(f"{sign} takes numbers, not {shown_value(value)}")
    return value


def added(a: Value, b: Value, *, minus: bool) -> Value:
    """a ± b; a date minus a date are days, a date and a number is a date.

    Raises:
        ToolError: `200 + 10%`, which some read as 220 and some as 200.1; a sum of other things.
    """
    sign = "-" if minus else "+"
    if isinstance(a, date) and isinstance(b, date) and minus:
        return number((a - b).days)
    if isinstance(a, date) and isinstance(b, Number):
        return later(a, number(-b.value if minus else b.value))
    x, y = _number(a, sign), _number(b, sign)
    if y.percent and not x.percent and x.value != 1:  # 1 + 15% is 1.15 either way
        raise ToolError(
            f"a number {sign} a percentage is ambiguous: write x * (1 {sign} {shown_number(y)}) for a change by that "
            f"share, or {shown_number(y)} for the plain number",
            why="arguments",
        )
    return number(x.value - y.value if minus else x.value + y.value, exact=x.exact and y.exact, percent=y.percent)


def multiplied(a: Value, sign: str, b: Value) -> Value:
    """The product, quotient, whole quotient or remainder (with the divisor's sign, as in mathematics)."""
    x, y = _number(a, sign), _number(b, sign)
    exact = x.exact and y.exact
    if sign in ("*", "of"):
        return number(x.value * y.value, exact=exact)
    if y.value == 0:
        raise ToolError(f"{shown_number(x)} {sign} 0: nothing can be divided by zero")
    if sign == "/":
        return number(x.value / y.value, exact=exact)
    whole = x.value // y.value
    return number(whole if sign == "//" else x.value - whole * y.value, exact=exact)


def compared(a: Value, sign: str, b: Value) -> bool:
    """Whether a comparison holds between two values of one kind.

    Raises:
        ToolError: they are of two kinds, or have no order.
    """
    if isinstance(a, Number) and isinstance(b, Number):
        return COMPARISONS[sign](0 if equal(a, b) else 1 if a.value > b.value else -1)
    if isinstance(a, date) and isinstance(b, date):
        return COMPARISONS[sign]((a > b) - (a < b))
    if isinstance(a, str) and isinstance(b, str) and sign in ("=", "!="):
        return COMPARISONS[sign](int(a != b))
    raise ToolError(f"{shown_value(a)} and {shown_value(b)} cannot be compared by {sign}")
