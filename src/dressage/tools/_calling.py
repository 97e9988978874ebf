"""How every tool is called: arguments checked, time watched, output cleaned and cut, and nothing ever raised.

What a tool says may quote a policy, a file or a program's output, none of which is an instruction: invisible and
control characters are dropped and chat templates' control tokens broken up, in one place for all tools.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import ConfigDict, JsonValue, ValidationError

from dressage.maths.characters import CONTROL_TOKEN, changed, visible
from dressage.records import Frozen, content_hash
from dressage.tokens import wellformed
from dressage.toolbox import Result, ToolSettings, Why

MOST_ARGUMENTS = 400_000
"""Characters that the JSON text of all arguments may have together; each argument has a limit of its own too."""


class Arguments(Frozen):
    """The base of a tool's arguments; the docstrings of the fields are what the calling model reads of them."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class ToolError(ValueError):
    """A call that gives nothing, and why (never leaves `call`); or a tool that cannot be opened."""

    def __init__(self, detail: str, *, why: Why = "impossible", data: dict[str, JsonValue] | None = None) -> None:
        super().__init__(detail)
        self.why: Why = why
        self.data = data or {}


class Outcome(NamedTuple):
    """What a tool found."""

    text: str
    data: dict[str, JsonValue]
    truncated: bool = False


class Deadline:
    """Long work asks it now and then whether to go on."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.end = monotonic() + seconds

    def left(self) -> float:
        """Seconds until the end, at least 0."""
        return max(0.0, self.end - monotonic())

    def check(self) -> None:
        """Raises:
        ToolError: the time is over.
        """
        if self.left() == 0:
            raise ToolError(f"given up after {self.seconds:g} s: ask for less at once", why="deadline")


A = TypeVar("A", bound=Arguments)


@dataclass
class Calling(Generic[A]):
    """An opened tool: what it works with, and `call` around it."""

    settings: ToolSettings
    name: str
    description: str
    arguments: type[A]
    work: Callable[[A, Deadline], Outcome]
    depends: object = None
    """What its answers depend on besides its settings and code: files, versions of libraries."""
    schema: Mapping[str, Any] = field(init=False)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        self.schema = _untitled(self.arguments.model_json_schema())
        kind, version = self.settings.kind, type(self.settings).code_version
        self.fingerprint = content_hash([kind, version, self.settings.content(), self.depends])

    def call(self, arguments: object) -> Result:
        deadline = Deadline(self.settings.seconds)
        try:
            found = self.work(self._read(arguments), deadline)
            why: Why | None = None
        except ToolError as error:
            found, why = Outcome(f"{self.name}: {error}", error.data), error.why
        except Exception as error:  # noqa: BLE001  whatever a policy's text made it trip over, the judge goes on
            found, why = Outcome(f"{self.name} broke: {type(error).__name__}: {error}", {}), "crashed"
        text, cut = shortened(shown(found.text), self.settings.characters)
        seconds = deadline.seconds - (deadline.end - monotonic())
        data = {key: _shown_all(value, self.settings.characters) for key, value in found.data.items()}
        return Result(text=text, data=data, seconds=seconds, truncated=found.truncated or cut, failed=why)

    def _read(self, arguments: object) -> A:
        if isinstance(arguments, str):
            arguments = _parsed(arguments)
        if not isinstance(arguments, Mapping):
            raise ToolError(
                f"the arguments are {_kind_of(arguments)}, not an object; {self._wanted()}", why="arguments"
            )
        try:
            return self.arguments.model_validate(_wellformed(dict(arguments)))
        except ValidationError as error:
            raise ToolError(f"{_complaints(error)}; {self._wanted()}", why="arguments") from None

    def _wanted(self) -> str:
        fields = self.arguments.model_fields
        return "it takes " + ", ".join(name if f.is_required() else f"{name} (optional)" for name, f in fields.items())


def shown(text: str) -> str:
    """`text` as a reader may see it: nothing invisible, and nothing that a chat template would take for its own."""
    return changed(CONTROL_TOKEN, lambda mark: f"{mark[0]} {mark[1:]}", visible(text))


def quoted(text: str) -> str:
    """Foreign text, each line behind a bar: no line of it can start with what ends a fence or calls a tool."""
    return "\n".join(f"| {line}" for line in text.splitlines())


def shortened(text: str, most: int) -> tuple[str, bool]:
    """`text`, and whether it had to be cut to `most` characters, the mark that says so not counted."""
    if len(text) <= most:
        return text, False
    return f"{text[:most].rstrip()}\n[cut: {len(text) - most} more characters]", True


def _shown_all(value: JsonValue, most: int) -> JsonValue:
    if isinstance(value, str):
        return shortened(shown(value), most)[0]
    if isinstance(value, list):
        return [_shown_all(item, most) for item in value]
    if isinstance(value, dict):
        return {shown(key): _shown_all(item, most) for key, item in value.items()}
    return value


def _parsed(text: str) -> object:
    if len(text) > MOST_ARGUMENTS:
        raise ToolError(f"the arguments have {len(text)} characters; {MOST_ARGUMENTS} at most", why="arguments")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ToolError(f"the arguments are no JSON: {error}", why="arguments") from None


def _wellformed(value: Any) -> Any:
    """JSON can bring half surrogate pairs, which no file and no pipe can hold; a text with one is still looked at."""
    if isinstance(value, str):
        return wellformed(value)
    if isinstance(value, dict):
        return {_wellformed(key): _wellformed(item) for key, item in value.items()}
    return [_wellformed(item) for item in value] if isinstance(value, list) else value


def _kind_of(value: object) -> str:
    names: dict[type, str] = {list: "a list", tuple: "a list", str: "a string", bool: "a truth value"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else f"{type(value).__name__}")


def _complaints(error: ValidationError) -> str:
    """The first few of what is wrong, each with the argument it is about."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    lines = [f"{'.'.join(map(str, e['loc'])) or 'arguments'}: {e['msg'].removeprefix('Value error, ')}" for e in found]
    more = f"; and {len(lines) - 4} more" if len(lines) > 4 else ""
    return "; ".join(lines[:4]) + more


def _untitled(schema: Any) -> Any:
    """A schema without the titles that pydantic makes of names: they only cost tokens."""
    if isinstance(schema, dict):
        return {k: _untitled(v) for k, v in schema.items() if k != "title" or not isinstance(v, str)}
    return [_untitled(item) for item in schema] if isinstance(schema, list) else schema
