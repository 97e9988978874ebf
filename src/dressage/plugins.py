"""A plural folder is a shelf and the folder is the registry: finds, checks and opens kinds by name.

The only module that may import by name. A kind is a file with `Settings` and `open`, or, where it needs
torch, a folder whose `__init__` has the `Settings` and whose module named after the shelf has `open`.
"""

import importlib
import pkgutil
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, partial
from types import ModuleType
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

from dressage.protocols import Settings

SHELVES = {
    "models": "model",
    "sources": "source",
    "judges": "judge",
    "trainers": "trainer",
    "tools": "tool",
    "probes": "probe",
}
"""Shelf → the module of a folder kind that does the work."""


@cache
def kinds(shelf: str) -> tuple[str, ...]:
    """The names of what stands on a shelf; a leading underscore marks what kinds share."""
    package = importlib.import_module(f"dressage.{shelf}")
    return tuple(sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")))


@cache
def settings_of(shelf: str, kind: str) -> type[Settings]:
    """The settings class of a kind; importing it imports no torch."""
    found: type[Settings] = _module(shelf, kind).Settings
    return found


def open_kind(settings: Settings, **handed: Any) -> Any:
    """The working thing that `settings` describes, given what it needs from elsewhere (see protocols)."""
    shelf, kind = type(settings).shelf, settings.kind
    module = _module(shelf, kind)
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"dressage.{shelf}.{kind}.{SHELVES[shelf]}")
    return module.open(settings, **handed)


def _module(shelf: str, kind: str) -> ModuleType:
    if kind not in kinds(shelf):
        raise LookupError(f"no {shelf} kind {kind!r}{meant(kind, kinds(shelf))}")
    return importlib.import_module(f"dressage.{shelf}.{kind}")


def meant(word: str, known: tuple[str, ...] | list[str]) -> str:
    """The end of an error: a did-you-mean where one is near, and what there is."""
    near = get_close_matches(word, known, n=1, cutoff=0.6)
    return (f"; did you mean {near[0]!r}?" if near else "") + f" (there is: {', '.join(known)})"


@dataclass(frozen=True)
class OnShelf:
    """Annotates a field whose value is the settings of any kind on a shelf, told apart by `kind`.

    A kind's settings are read, and its file imported, when a value names it: a config error does not wait for the
    kinds it does not use, and a new kind costs nobody anything.
    """

    shelf: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        choices: dict[str, core_schema.CoreSchema] = {
            kind: core_schema.no_info_plain_validator_function(partial(_validated, self.shelf, kind))
            for kind in kinds(self.shelf)
        }
        return core_schema.tagged_union_schema(
            choices, discriminator="kind", serialization=core_schema.simple_ser_schema("any")
        )


def _validated(shelf: str, kind: str, value: object) -> Settings:
    return settings_of(shelf, kind).model_validate(value)
