"""What a judge is told of its tools: name, use, and the arguments in a short notation instead of a JSON schema.

A schema with a dozen sorts of checks takes thousands of tokens, and an agent reads them again in every round.
"""

import json
from collections.abc import Mapping
from typing import Any

from dressage.toolbox import Tool

Schema = Mapping[str, Any]


def told(tools: Mapping[str, Tool]) -> str:
    """All tools: `name: description` and their arguments; `?` marks what may be left out."""
    return "\n\n".join(f"{name}: {tool.description}\n{_arguments(tool.schema)}" for name, tool in tools.items())


def _arguments(schema: Schema) -> str:
    notation = _Notation(schema.get("$defs", {}))
    lines = [f"ARGUMENTS: {notation.of(schema)}"]
    for name, inner in schema.get("properties", {}).items():
        if said := inner.get("description", ""):
            lines.append(f"  {name}: {said}")
    for name, variants in notation.variants.items():
        lines += [f"  {name} is one of:", *(f"    {one}" for one in variants)]
    return "\n".join(lines)


class _Notation:
    """Writes a schema's types; objects of several sorts are named and told below (`variants`)."""

    def __init__(self, definitions: Schema) -> None:
        self._definitions = definitions
        self.variants: dict[str, list[str]] = {}

    def of(self, schema: Schema) -> str:
        if "$ref" in schema:
            return self.of(self._resolved(schema))
        if "const" in schema:
            return json.dumps(schema["const"])
        if "enum" in schema:
            return " | ".join(json.dumps(value) for value in schema["enum"])
        if several := schema.get("oneOf") or schema.get("anyOf"):
            return self._several([self._resolved(one) for one in several])
        if schema.get("type") == "array":
            return f"[{self.of(schema.get('items', {}))}, …]"
        if "properties" in schema:
            return self._object(schema)
        return str(schema.get("type", "any"))

    def _object(self, schema: Schema) -> str:
        required = schema.get("required", [])
        properties = schema["properties"].items()
        fixed = [f'"{n}": {self.of(inner)}' for n, inner in properties if n in required or "const" in inner]
        free = [f'"{n}"?: {self.of(inner)}' for n, inner in properties if n not in required and "const" not in inner]
        return "{" + ", ".join([*fixed, *free]) + "}"

    def _several(self, schemas: list[Schema]) -> str:
        if len(schemas) > 2 and all("properties" in one for one in schemas):
            name = f"ONE{len(self.variants) + 1 if self.variants else ''}"
            self.variants[name] = []  # its number is taken before what lies inside takes one
            self.variants[name] += [f"{self._object(one)} {one.get('description', '')}".strip() for one in schemas]
            return name
        return " | ".join(self.of(one) for one in schemas if one.get("type") != "null")

    def _resolved(self, schema: Schema) -> Schema:
        if "$ref" not in schema:
            return schema
        found: Schema = self._definitions[schema["$ref"].rpartition("/")[2]]
        return found
