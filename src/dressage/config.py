"""YAML → settings: strict, with the line, the key's path and a did-you-mean in every error; no torch."""

import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dressage.crossings import crossings
from dressage.plugins import OnShelf, kinds, meant, settings_of
from dressage.settings import RunSettings
from dressage.strict_yaml import ConfigError, KeyPath, Read, dotted, override, read_yaml

__all__ = ["ConfigError", "dump", "load"]


def load(path: Path, overrides: Sequence[str] = ()) -> RunSettings:
    """Reads one run from a YAML file, with `a.b=c` overrides on top.

    Raises:
        ConfigError: naming the file, line, key and the way out; several problems are told at once.
    """
    read = read_yaml(path)
    for text in overrides:
        override(read, text)
    try:
        settings = RunSettings.model_validate(read.value)
    except ValidationError as error:
        raise ConfigError("\n".join(_problem(path, read, e) for e in error.errors())) from None
    problems = [f"{_place(path, read, where)}: {text}" for where, text in crossings(settings)]
    if problems:
        raise ConfigError("\n".join(problems))
    return settings


def dump(settings: RunSettings) -> str:
    """The resolved config as YAML, nulls included."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)


# ---------------------------------------------------------------- errors


def _place(path: Path, read: Read, where: KeyPath) -> str:
    known = where
    while known and known not in read.lines:
        known = known[:-1]
    line = read.lines.get(known)
    return f"{path}:{line}: {dotted(where)}" if line and known else f"{path}: {dotted(where)}"


def _problem(path: Path, read: Read, error: ErrorDetails) -> str:
    """One line for one error of pydantic's, with the tags of unions taken out of its path."""
    where = _untagged(error["loc"], read.value)
    place = _place(path, read, where)
    match error["type"]:
        case "extra_forbidden":
            return f"{place}: unknown key{meant(str(where[-1]), _known_keys(error, where))}"
        case "union_tag_invalid":
            kind = error["ctx"]["tag"]
            return f"{place}: no kind {kind!r}{meant(kind, list(_tags(error)))}"
        case "union_tag_not_found":
            return f"{place}: `kind:` is missing; add kind: with one of the kinds of that shelf"
        case "missing":
            return f"{place}: is missing; add it"
        case _:
            text = error["msg"].removeprefix("Value error, ")
            return f"{place}: {text} (it is {_short(error['input'])})"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 60 else text[:57] + "…"


def _tags(error: ErrorDetails) -> Iterator[str]:
    yield from re.findall(r"'([\w-]+)'", error["ctx"]["expected_tags"])


def _untagged(loc: KeyPath, value: Any) -> KeyPath:
    """Pydantic puts the chosen kind of a union into the path; the YAML has no such step."""
    kept: list[str | int] = []
    at = value
    for i, step in enumerate(loc):
        is_tag = isinstance(at, Mapping) and step not in at and step in (at.get("kind"), at.get("rule"))
        last_word = i == len(loc) - 1
        if is_tag and not (last_word and step in at):
            continue
        kept.append(step)
        if isinstance(at, Mapping):
            at = at.get(str(step))
        elif isinstance(at, list) and isinstance(step, int) and step < len(at):
            at = at[step]
        else:
            at = None
    return tuple(kept)


def _known_keys(error: ErrorDetails, where: KeyPath) -> list[str]:
    """The fields of the model that refused a key, found by walking the settings beside the path."""
    model: Any = RunSettings
    for step in error["loc"][:-1]:
        if isinstance(model, str):  # a shelf: the step is the kind, or a name before it
            if isinstance(step, str) and step in kinds(model):
                model = settings_of(model, step)
            continue
        field = getattr(model, "model_fields", {}).get(step)
        if field is not None:
            model = _inside(field)
    return sorted(getattr(model, "model_fields", {})) or [str(s) for s in where[:-1]]


def _inside(field: Any) -> Any:
    """The settings class or shelf a field leads to."""
    pending = [field.annotation, *field.metadata]
    while pending:
        found = pending.pop(0)
        if isinstance(found, OnShelf):
            return found.shelf
        if isinstance(found, type) and hasattr(found, "model_fields") and not typing.get_args(found):
            shelf = next((m.shelf for m in field.metadata if isinstance(m, OnShelf)), None)
            return shelf or found
        inner = [a for a in typing.get_args(found) if a is not type(None)]
        shelves = [m for m in inner if isinstance(m, OnShelf)]
        pending = [*shelves, *inner, *pending]
    return None
