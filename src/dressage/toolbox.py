"""What a judge's tools are and give: arguments in, a Result out, and the box that calls them by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar, Literal, Protocol

from pydantic import Field, JsonValue

from dressage.protocols import Settings
from dressage.records import Frozen, content_hash

Why = Literal["arguments", "unknown tool", "impossible", "refused", "deadline", "flood", "program", "crashed"]
"""Why a call gave nothing: bad arguments; a tool that is not there; a thing that cannot be computed (1/0); no safe
place to run it; out of time; too much output; the program that was run raised or was killed; our own bug."""


class ToolSettings(Settings):
    """The base of every tool's settings: each has its own limit of time and of what it may say."""

    shelf: ClassVar[str] = "tools"

    seconds: float = Field(5.0, gt=0, le=600)
    """A call that takes longer is given up."""
    characters: int = Field(4000, ge=200, le=100_000)
    """The longest text that a call gives; more is cut, and said to be."""

    def content(self) -> object:
        """What enters a fingerprint: settings, and by content the files they name."""
        return self.model_dump(mode="json")


class Result(Frozen):
    """What a call came to. One that failed is evidence of nothing, for neither side."""

    text: str
    """What a reader is shown; of a call that failed, what went wrong and what to do."""
    data: dict[str, JsonValue] = Field(default_factory=dict)
    """The same for a program: numbers, places, what held."""
    seconds: float = 0.0
    """Wall time; two equal calls differ in nothing else."""
    truncated: bool = False
    """True where `text` is not all there was."""
    failed: Why | None = None


class Tool(Protocol):
    """An opened tool. `call` raises nothing, whatever it is handed."""

    name: str
    description: str
    """What it does and when to use it, for the model that calls it."""
    schema: Mapping[str, Any]
    """JSON schema of the arguments: an object."""
    fingerprint: str
    """Names what its answers depend on: kind, code version, settings, files, libraries."""

    def call(self, arguments: object) -> Result:
        """Arguments as an object or as its JSON text."""
        ...


@dataclass(frozen=True)
class Toolbox:
    """Tools by the names that the YAML gives them."""

    tools: Mapping[str, Tool]

    def call(self, name: str, arguments: object) -> Result:
        """What the tool of that name makes of the arguments; a name that is not there is a failed Result too."""
        if name in self.tools:
            return self.tools[name].call(arguments)
        near = get_close_matches(name, list(self.tools), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        there = ", ".join(self.tools) or "none"
        return Result(text=f"there is no tool {name[:60]!r}{hint} (there is: {there})", failed="unknown tool")

    @property
    def fingerprint(self) -> str:
        """Of all tools with their names."""
        return content_hash({name: tool.fingerprint for name, tool in self.tools.items()})
