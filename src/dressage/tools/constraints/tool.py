"""Checks a text against constraints of a fixed list and says of each what was found."""

from typing import Annotated

from pydantic import Field, JsonValue

from dressage.tools._calling import Arguments, Calling, Deadline, Outcome, ToolError
from dressage.tools.constraints import Settings
from dressage.tools.constraints.forms import FormCheck
from dressage.tools.constraints.looking import Check, Help, Look
from dressage.tools.constraints.machines import MachineCheck, versions
from dressage.tools.constraints.wordings import WordCheck

DESCRIPTION = (
    "Checks a text against constraints: length, count (commas, questions, list items, …), each, sorted, distinct, "
    "case, plain (no markdown), phrases, occurs, starts, ends, in_order, matches, json, language, script. Says of each "
    "whether it holds and what was found. Give the text exactly as it is."
)
SAID = {True: "holds", False: "does not hold", None: "cannot be decided"}

OneCheck = Annotated[FormCheck | WordCheck | MachineCheck, Field(discriminator="check")]


class Constraints(Arguments):
    """A text and what it must keep to."""

    text: str = Field(max_length=100_000)
    """The text, unchanged."""
    checks: tuple[OneCheck, ...] = Field(min_length=1, max_length=20)
    """Such as [{"check": "length", "unit": "words", "most": 50}, {"check": "count", "what": "commas", "most": 0}]."""


def open(settings: Settings, *, name: str) -> Calling[Constraints]:
    def work(arguments: Constraints, deadline: Deadline) -> Outcome:
        help = Help(deadline, settings.sure)
        return _told([(check, _looked(check, arguments.text, help)) for check in arguments.checks])

    return Calling(settings, name, DESCRIPTION, Constraints, work, depends=versions())


def _looked(check: Check, text: str, help: Help) -> Look:
    """One check; one that is refused, or cannot be done, does not keep the others from being made."""
    help.deadline.check()
    try:
        return check.look(text, help)
    except ToolError as error:
        if error.why in ("deadline", "arguments"):
            raise
        return Look(None, str(error))


def _told(looks: list[tuple[Check, Look]]) -> Outcome:
    lines = [f"{n}. {check.check} {SAID[look.passed]}: {look.said}" for n, (check, look) in enumerate(looks, 1)]
    passed = [look.passed for _, look in looks]
    undecided = f", {passed.count(None)} cannot be decided" if None in passed else ""
    head = f"{passed.count(True)} of {len(looks)} hold{undecided}"
    rows: list[JsonValue] = [
        {"check": check.check, "passed": look.passed, "said": look.said, "found": look.found} for check, look in looks
    ]
    return Outcome("\n".join([head, *lines]), {"checks": rows, "hold": passed.count(True), "of": len(looks)})
