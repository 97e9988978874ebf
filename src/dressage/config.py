"""YAML → settings: strict, with the line, the key's path and a did-you-mean in every error; no torch."""

from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import ValidationError

from dressage.crossings import crossings
from dressage.settings import RunSettings
from dressage.slips import Slip, retyped, slips, unbounded
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
    if problems := list(unbounded(read.value)):
        raise ConfigError(_told(path, read, problems))
    try:
        settings = RunSettings.model_validate(read.value)
    except ValidationError as error:
        problems = slips(RunSettings, error.errors())
    else:
        problems = list(retyped(read.value, settings.model_dump(mode="json"))) or list(crossings(settings))
        if not problems:
            return settings
    raise ConfigError(_told(path, read, problems))


def dump(settings: RunSettings) -> str:
    """The resolved config as YAML, nulls included."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)


def _told(path: Path, read: Read, problems: Sequence[Slip]) -> str:
    return "\n".join(f"{_place(path, read, where)}: {text}" for where, text in problems)


def _place(path: Path, read: Read, where: KeyPath) -> str:
    """`file:line: key`, with the line of the nearest key above that has one; or the `--set` that gave the value."""
    known = where
    while known and known not in read.lines and known not in read.overrides:
        known = known[:-1]
    made = [text for key, text in read.overrides.items() if key == known or key[: len(where)] == where]
    if made and (known in read.overrides or where not in read.lines):
        return f"--set {made[0]!r}: {dotted(where)}"
    return f"{path}:{read.lines.get(known, 1)}: {dotted(where)}"
