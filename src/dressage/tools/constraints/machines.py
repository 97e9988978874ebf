"""Checks that need more than counting: JSON with its schema, the language, the script."""

import json
import unicodedata
from typing import Any, Literal

from pydantic import Field, JsonValue

from dressage.extras import version_of
from dressage.tools._calling import ToolError
from dressage.tools.constraints.looking import Check, Help, Look, clipped

PACKAGES = ("jsonschema", "py3langid")
"""What the extra `tools` brings; a check that needs one that is missing is refused."""


def versions() -> dict[str, str]:
    """What a fingerprint must know of them."""
    return {package: version_of(package) for package in PACKAGES}


def demanded(package: str, check: str) -> None:
    """Raises:
    ToolError: the package is not installed.
    """
    if version_of(package) == "absent":
        raise ToolError(f"the check {check} needs {package}: pip install 'dressage[tools]'", why="refused")


class Json(Check):
    """The text is JSON, and fits a schema if one is given."""

    check: Literal["json"]
    json_schema: dict[str, JsonValue] | None = None
    """A JSON schema (2020-12) that it must fit; null: any JSON. References must lie in the schema itself."""
    fence: bool = True
    """True: it may stand in one code fence, with nothing outside."""

    def look(self, text: str, help: Help) -> Look:
        if self.json_schema is not None:
            demanded("jsonschema", "json with a schema")
        bare = text.strip()
        if self.fence and bare.startswith("```") and bare.endswith("```") and "\n" in bare:
            bare = bare.partition("\n")[2].removesuffix("```")
        try:
            value = json.loads(bare, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            return Look(False, f"no JSON: {error}")
        if self.json_schema is None:
            return Look(True, f"JSON: {_kind(value)}")
        from dressage.tools.constraints.schemas import faults  # it brings jsonschema along

        wrong = faults(value, self.json_schema, help.deadline)
        return Look(not wrong, "; ".join(wrong) if wrong else "JSON that fits the schema", [*wrong])


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is no JSON")


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return f"an object with {len(value)} keys"
    return f"a list of {len(value)}" if isinstance(value, list) else "a single value"


class Language(Check):
    """The text is written in a language."""

    check: Literal["language"]
    language: str = Field(pattern=r"^[a-z]{2,3}$")
    """The code of the language, such as de."""

    def look(self, text: str, help: Help) -> Look:
        demanded("py3langid", "language")
        from dressage.tools.constraints.languages import ranked  # its model takes a second to load

        found = ranked(text)
        if self.language not in found:
            raise ToolError(f"{self.language!r} is no language that is known here ({', '.join(sorted(found))})")
        likeliest = next(iter(found))
        said = f"{likeliest} with probability {found[likeliest]:.2f}, {self.language} with {found[self.language]:.2f}"
        if found[likeliest] < help.sure:
            return Look(None, f"it cannot be told: {said}, and {help.sure:.2f} is asked for")
        return Look(likeliest == self.language, said, likeliest)


class Script(Check):
    """The letters of the text are of one script."""

    check: Literal["script"]
    script: Literal["latin", "cyrillic", "greek", "arabic", "hebrew", "devanagari", "cjk", "hangul", "hiragana", "thai"]
    """The script; `cjk` are Chinese characters."""

    def look(self, text: str, help: Help) -> Look:
        letters = [c for c in text if c.isalpha()]
        if not letters:
            return Look(None, "there is no letter")
        other = [c for c in letters if not unicodedata.name(c, "").startswith(self.script.upper())]
        said = f"{len(other)} of {len(letters)} letters are of another script"
        return Look(not other, f"{said}: {clipped(''.join(dict.fromkeys(other)))}" if other else said, len(other))


MachineCheck = Json | Language | Script
