"""A YAML file read strictly: no key twice, 1e-5 a number, `no` a word, few aliases; every key knows its line."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 1_000_000
MAX_ALIASES = 50
MAX_DEPTH = 40

KeyPath = tuple[str | int, ...]


class ConfigError(ValueError):
    """The YAML cannot be a run; each line names the place, the key's path and the way out."""


@dataclass(frozen=True)
class Read:
    """The plain value of a file, and the line in which each of its keys stands."""

    value: Any
    lines: dict[KeyPath, int]


class _Loader(yaml.SafeLoader):
    """SafeLoader for which 1e-5 is a number (YAML 1.2), and `no`, `on` and friends are words."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag not in _REPLACED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    for _REPLACED in [("tag:yaml.org,2002:float", "tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")]
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
    list("-+.0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
# int must win over float for plain digits, so it is asked first
for _first, _resolvers in _Loader.yaml_implicit_resolvers.items():
    _resolvers.sort(key=lambda pair: pair[0] != "tag:yaml.org,2002:int")


def read_yaml(path: Path) -> Read:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; `dressage run configs/smoke.yaml` is one that is there")
    raw = path.read_bytes()
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}: {len(raw)} bytes are more than a config may have ({MAX_BYTES})")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 (byte {error.start}); save the file as UTF-8") from error
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if len(re.findall(r"(?m)(?:^|[\s\[,{:-])\*[\w-]+", text)) > MAX_ALIASES:
            raise ConfigError(f"{path}: more than {MAX_ALIASES} aliases; write the values out")
        lines: dict[KeyPath, int] = {}
        value = _value(loader, node, (), lines) if node is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError(f"{path}:{line}: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {error}") from error
    except _Slip as error:
        raise ConfigError(f"{path}:{error.line}: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}:1: a run is a mapping (name:, models:, data: …), this is {type(value).__name__}")
    return Read(value, lines)


def dotted(path: KeyPath) -> str:
    return ".".join(str(step) for step in path) or "(top)"


class _Slip(ValueError):
    def __init__(self, text: str, line: int) -> None:
        super().__init__(text)
        self.line = line


def _value(loader: _Loader, node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int]) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    if len(path) > MAX_DEPTH or len(lines) > 20_000:
        raise _Slip("nested too deep or too large once aliases are followed; write it plainly", line)
    if isinstance(node, yaml.MappingNode):
        return _mapping(loader, node, path, lines)
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, child, (*path, i), lines) for i, child in enumerate(node.value)]
    try:
        return loader.construct_object(node)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise _Slip(f"{dotted(path)}: {error}", line) from error


def _mapping(loader: _Loader, node: yaml.MappingNode, path: KeyPath, lines: dict[KeyPath, int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = loader.construct_object(key_node) if isinstance(key_node, yaml.ScalarNode) else None  # type: ignore[no-untyped-call]
        if not isinstance(key, str):
            raise _Slip(
                f"{dotted(path)}: keys are plain words, not {key_node.value!r} (merge keys are not used)",
                line,
            )
        if key in found:
            raise _Slip(f"{dotted((*path, key))} stands here twice (first in line {lines[(*path, key)]})", line)
        lines[(*path, key)] = line
        found[key] = _value(loader, value_node, (*path, key), lines)
    return found


def override(read: Read, text: str) -> None:
    """Sets one key from `a.b=c`; the value is read as YAML is."""
    key, equals, word = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {text!r}: write --set a.b=c")
    try:
        value = yaml.load(word, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text!r}: not a YAML value ({error})") from error
    at: Any = read.value
    *above, last = key.split(".")
    for depth, step in enumerate(above):
        if isinstance(at, dict):
            at = at.setdefault(step, {})
        elif isinstance(at, list) and step.isdigit() and int(step) < len(at):
            at = at[int(step)]
        if not isinstance(at, dict | list):
            raise ConfigError(f"--set {text!r}: {'.'.join(above[: depth + 1])} is a plain value, nothing lies below it")
    if isinstance(at, list):
        if not last.isdigit() or int(last) >= len(at):
            raise ConfigError(f"--set {text!r}: {'.'.join(above)} has the entries 0 … {len(at) - 1}")
        at[int(last)] = value
    else:
        at[last] = value
