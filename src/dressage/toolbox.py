"""What a judge's tools are and give: arguments in, a Result out, and the box that calls them by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar, Protocol

from pydantic import Field

from dressage.protocols import Settings
from dressage.questions import Result, Why
from dressage.records import content_hash

__all__ = ["Result", "Tool", "ToolSettings", "Toolbox", "Why"]  # Result and Why are written down in questions.py


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
