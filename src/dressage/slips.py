"""What pydantic found wrong with a YAML file, as lines for people: the key's place, what it is, the way out."""

import math
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from dressage.plugins import OnShelf, kinds, meant, settings_of
from dressage.protocols import Settings
from dressage.strict_yaml import KeyPath

Slip = tuple[KeyPath, str]
UNKNOWN, MISSING, FEW = "unknown key", "is missing; add it", "has too few entries"


def slips(model: type[BaseModel], errors: Sequence[ErrorDetails]) -> list[Slip]:
    """Where each error is and what to say about it; errors of one union's members are said once."""
    found: dict[tuple[object, ...], list[tuple[int, Slip]]] = {}
    for error in errors:
        walked = _walk(model, error["loc"])
        found.setdefault(walked.union or error["loc"], []).append(
            (len(error["loc"]), (walked.path, _said(error, walked)))
        )
    return list(_once([slip for told in found.values() for slip in _deepest(told)]))


def _once(told: list[Slip]) -> Iterator[Slip]:
    """Leaves out what follows from another slip: a key that is missing because it is misspelt, a list that is too
    short because its entries are wrong."""
    places = [where for where, _ in told]
    unknown = [where for where, text in told if text.startswith(UNKNOWN)]
    for where, text in told:
        beside = [str(other[-1]) for other in unknown if other[:-1] == where[:-1]]
        misspelt = text == MISSING and get_close_matches(str(where[-1]), beside, cutoff=0.6)
        emptied = text.startswith(FEW) and any(at != where and at[: len(where)] == where for at in places)
        if not misspelt and not emptied:
            yield where, text


def _deepest(told: list[tuple[int, Slip]]) -> Iterator[Slip]:
    """Of a union's members the one that got furthest is meant; equals are joined by `or`."""
    depth = max(n for n, _ in told)
    texts: dict[KeyPath, list[str]] = {}
    for n, (where, text) in told:
        if n == depth:
            texts.setdefault(where, []).append(text)
    yield from ((where, "; or ".join(dict.fromkeys(said))) for where, said in texts.items())


def retyped(raw: Any, read: Any, where: KeyPath = ()) -> Iterator[Slip]:
    """Values that pydantic would quietly turn into another type: `true` as 1, "3" as 3, `no` as false."""
    if isinstance(raw, Mapping) and isinstance(read, Mapping):
        for key in raw:
            if key in read:
                yield from retyped(raw[key], read[key], (*where, key))
    elif isinstance(raw, list) and isinstance(read, list):
        for i, (one, other) in enumerate(zip(raw, read, strict=False)):
            yield from retyped(one, other, (*where, i))
    elif isinstance(raw, bool) and not isinstance(read, bool):
        yield where, f"is {str(raw).lower()}, which is no number and no word"
    elif isinstance(raw, str) and isinstance(read, bool):
        yield where, f"is the word {raw!r}; write true or false"
    elif isinstance(raw, str) and isinstance(read, int | float):
        yield where, f"is the word {raw!r}, not a number; write it without quotes and leading zeros"


def unbounded(raw: Any, where: KeyPath = ()) -> Iterator[Slip]:
    """Numbers that are none: .inf is within the limits of whatever has no upper one, and .nan within all."""
    if isinstance(raw, Mapping):
        for key in raw:
            yield from unbounded(raw[key], (*where, key))
    elif isinstance(raw, list):
        for i, one in enumerate(raw):
            yield from unbounded(one, (*where, i))
    elif isinstance(raw, float) and not math.isfinite(raw):
        yield where, f"is {raw}, and a setting is a finite number; null turns off a limit that may be null"


# ---------------------------------------------------------------- what is said


def _said(error: ErrorDetails, walked: "_Walked") -> str:
    match error["type"]:
        case "extra_forbidden":
            return _unknown(str(walked.path[-1]), walked)
        case "union_tag_invalid":
            return f"no {walked.word} {error['ctx']['tag']!r}{meant(str(error['ctx']['tag']), walked.choices)}"
        case "union_tag_not_found":
            return f"`{walked.word}:` is missing; add one of {', '.join(walked.choices)}"
        case "missing":
            return MISSING
        case "model_type" | "model_attributes_type" | "dict_type" | "dataclass_type":
            return f"must be a mapping with keys of its own (it is {_short(error['input'])})"
        case "literal_error" if error["loc"][-1] == "[key]":
            known = re.findall(r"'([^']*)'", error["ctx"]["expected"])
            return f"{UNKNOWN}{meant(str(error['input']), known)}"
        case "too_short":
            return f"{FEW}; it needs {error['ctx']['min_length']}"
        case "tuple_type" | "list_type":
            return f"must be a list, such as [{_short(error['input']).strip(chr(39))}]"
        case "value_error" if isinstance(error["input"], Mapping):  # it names the keys that do not go together
            return error["msg"].removeprefix("Value error, ")
        case _:
            return f"{error['msg'].removeprefix('Value error, ')} (it is {_short(error['input'])})"


def _unknown(key: str, walked: "_Walked") -> str:
    """A key that another kind of the shelf has is no slip of the pen: it says whose it is instead of what is near."""
    kind = walked.at
    if not (_is_settings(kind) and issubclass(kind, Settings)):
        return f"{UNKNOWN}{meant(key, walked.keys())}"
    own = kind.model_fields["kind"].default
    having = [k for k in kinds(kind.shelf) if key in settings_of(kind.shelf, k).model_fields]
    if not having:
        return f"{UNKNOWN}{meant(key, walked.keys())}"
    has = f"{having[0]} has it" if len(having) == 1 else f"{', '.join(having)} have it"
    return f"{UNKNOWN}: {own} has no {key} ({has}; {own} has: {', '.join(walked.keys())})"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 60 else text[:57] + "…"


# ---------------------------------------------------------------- the way down through the settings


@dataclass
class _Walked:
    """A path of pydantic's followed through the settings: the YAML's own path, and what stands at its end."""

    path: KeyPath = ()
    at: Any = None
    """A settings class, an annotation, or null where the way is lost."""
    word: str = "kind"
    choices: tuple[str, ...] = ()
    union: tuple[object, ...] | None = None
    """The path up to the first union whose members have no tag."""

    def keys(self) -> list[str]:
        """What may stand beside the last step."""
        return sorted(_fields(self.at))


def _walk(model: type[BaseModel], loc: KeyPath) -> _Walked:
    found = _Walked(at=model)
    for step in loc:
        if step == "[key]":
            continue
        if _is_settings(found.at):
            below = _fields(found.at).get(str(step))
            if below is not None:
                found = _Walked((*found.path, step), *_opened(below), union=found.union)
            else:  # an unknown key, or the class a model validator belongs to
                found.path = (*found.path, step)
        elif found.choices and step in found.choices:
            found.at, found.choices = found.at(step), ()
        else:
            found = _inside(found, step, loc)
    return found


def _inside(found: _Walked, step: str | int, loc: KeyPath) -> _Walked:
    """One step into a mapping, a list, or a union without tags."""
    origin, inner = typing.get_origin(found.at), typing.get_args(found.at)
    if origin is dict:
        return _Walked((*found.path, step), *_opened(inner[1]), union=found.union)
    if origin is tuple and isinstance(step, int):
        element = inner[0] if inner[-1] is Ellipsis else inner[min(step, len(inner) - 1)]
        return _Walked((*found.path, step), *_opened(element), union=found.union)
    if origin in (typing.Union, types.UnionType):
        member = next((m for m in inner if _label(m) == str(step).partition("[")[0]), None)
        return _Walked(found.path, *_opened(member), union=found.union or loc[: loc.index(step)])
    found.path = (*found.path, step)
    return found


def _label(annotation: Any) -> str:
    """How pydantic names a member of a union in a path."""
    plain = _bare(annotation)
    origin = typing.get_origin(plain) or plain
    return "literal" if origin is typing.Literal else str(getattr(origin, "__name__", ""))


def _bare(annotation: Any) -> Any:
    """Without Annotated and without `| None`."""
    while True:
        inner = typing.get_args(annotation)
        if typing.get_origin(annotation) is typing.Annotated:
            annotation = inner[0]
        elif typing.get_origin(annotation) in (typing.Union, types.UnionType) and type(None) in inner:
            left = [a for a in inner if a is not type(None)]
            if len(left) > 1:
                return typing.Union[tuple(left)]  # noqa: UP007
            (annotation,) = left
        else:
            return annotation


def _opened(field: Any) -> tuple[Any, str, tuple[str, ...]]:
    """What stands behind a field: (settings class or annotation, the word that tells kinds apart, the kinds)."""
    notes = [*field.metadata] if isinstance(field, FieldInfo) else []
    annotation = field.annotation if isinstance(field, FieldInfo) else field
    named = field.discriminator if isinstance(field, FieldInfo) else None
    for part in _parts(annotation):
        notes += list(getattr(part, "__metadata__", ()))
    for note in notes:
        if isinstance(note, OnShelf):
            return partial(settings_of, note.shelf), "kind", kinds(note.shelf)
        named = named or getattr(note, "discriminator", None)
    bare = _bare(annotation)
    if isinstance(named, str):
        members = {typing.get_args(m.model_fields[named].annotation)[0]: m for m in map(_bare, typing.get_args(bare))}
        return members.__getitem__, named, tuple(members)
    return bare, "kind", ()


def _parts(annotation: Any) -> Iterator[Any]:
    """An annotation and what its Annotated and `| None` wrap; not what its lists and mappings hold."""
    yield annotation
    if typing.get_origin(annotation) in (typing.Annotated, typing.Union, types.UnionType):
        for inner in typing.get_args(annotation)[: 1 if typing.get_origin(annotation) is typing.Annotated else None]:
            yield from _parts(inner)


def _is_settings(at: Any) -> bool:
    return isinstance(at, type) and issubclass(at, BaseModel)


def _fields(at: Any) -> dict[str, FieldInfo]:
    return dict(at.model_fields) if _is_settings(at) else {}
