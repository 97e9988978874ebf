"""Whether a value fits a JSON schema, by jsonschema, made safe for schemas that a model wrote.

A reference to another place is not followed, a pattern that backtracks for ever is cut off, the work stops at the
deadline, and `uniqueItems` takes linear time.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import regex
from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import SchemaError, ValidationError
from referencing import Registry
from referencing.exceptions import Unresolvable

from dressage.tools._calling import Deadline, ToolError
from dressage.tools.constraints.looking import clipped
from dressage.tools.constraints.wordings import compiled

MOST = 8
"""Faults that are told."""


def faults(value: Any, schema: dict[str, Any], deadline: Deadline) -> list[str]:
    """The first few places where the value does not fit.

    Raises:
        ToolError: the schema is none, refers elsewhere, or takes too long.
    """
    try:
        Draft202012Validator.check_schema(schema)
        checker = _validator(deadline)(schema, registry=Registry())
        found = []
        for error in checker.iter_errors(value):
            found.append(f"at {error.json_path}: {clipped(error.message, 120)}")
            if len(found) == MOST:
                break
    except SchemaError as error:
        raise ToolError(f"the schema is none: {clipped(error.message, 120)}", why="arguments") from None
    except Unresolvable as error:
        raise ToolError(f"the schema refers to {error.ref!r}, which is not in it", why="arguments") from None
    except RecursionError:
        raise ToolError("the schema refers to itself without end", why="arguments") from None
    except TimeoutError:
        raise ToolError("a pattern of the schema takes too long", why="deadline") from None
    return found


def _validator(deadline: Deadline) -> Any:
    ours = {"pattern": _pattern, "patternProperties": _pattern_properties, "uniqueItems": _unique}
    keywords = {**Draft202012Validator.VALIDATORS, **{name: make(deadline) for name, make in ours.items()}}
    return validators.extend(Draft202012Validator, {name: _timed(f, deadline) for name, f in keywords.items()})


def _timed(keyword: Callable[..., Any], deadline: Deadline) -> Callable[..., Any]:
    def timed(*arguments: Any) -> Any:
        deadline.check()
        return keyword(*arguments)

    return timed


def _searched(pattern: str, text: str, deadline: Deadline) -> bool:
    found: regex.Match[str] | None = compiled(pattern).search(text, timeout=deadline.left() + 0.01)
    return found is not None


def _pattern(deadline: Deadline) -> Callable[..., Iterator[ValidationError]]:
    def pattern(_: Any, wanted: str, value: Any, __: Any) -> Iterator[ValidationError]:
        if isinstance(value, str) and not _searched(wanted, value, deadline):
            yield ValidationError(f"{clipped(value)} does not match {clipped(wanted)}")

    return pattern


def _pattern_properties(deadline: Deadline) -> Callable[..., Iterator[ValidationError]]:
    def pattern_properties(validator: Any, wanted: dict[str, Any], value: Any, _: Any) -> Iterator[ValidationError]:
        if isinstance(value, dict):
            for pattern, schema in wanted.items():
                for name, item in value.items():
                    if _searched(pattern, name, deadline):
                        yield from validator.descend(item, schema, path=name, schema_path=pattern)

    return pattern_properties


def _unique(deadline: Deadline) -> Callable[..., Iterator[ValidationError]]:
    def unique(_: Any, wanted: bool, value: Any, __: Any) -> Iterator[ValidationError]:
        if wanted and isinstance(value, list):
            seen = {json.dumps(_plain(item), sort_keys=True) for item in value}
            if len(seen) < len(value):
                yield ValidationError("an item is there twice")

    return unique


def _plain(value: Any) -> Any:
    """Equal numbers look equal: 1.0 is 1, true is not."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
