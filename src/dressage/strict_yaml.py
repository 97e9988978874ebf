"""A YAML file read strictly: no key twice, 1e-5 a number, `no` a word, few aliases; every key knows its line."""

import re
from dataclasses import dataclass, field
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
    overrides: dict[KeyPath, str] = field(default_factory=dict)
    """Keys that `--set` gave a value, with its text: an error about one names that instead of a line."""


class _Loader(yaml.SafeLoader):
    """SafeLoader for which 1e-5 is a number (YAML 1.2), and `no`, `on`, `1:30` and `010` are words."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._aliases = 0
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Counts aliases and depth while reading, before a bomb can go off."""
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        self._aliases += bool(self.check_event(yaml.AliasEvent))
        if self._aliases > MAX_ALIASES:
            raise _Slip(f"more than {MAX_ALIASES} aliases; write the values out", mark.line + 1)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _Slip(f"nested deeper than {MAX_DEPTH} levels; write it plainly", mark.line + 1)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag not in _REPLACED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    for _REPLACED in [tuple(f"tag:yaml.org,2002:{t}" for t in ("float", "int", "bool", "timestamp", "merge", "value"))]
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789"))
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
    lines: dict[KeyPath, int] = {}
    try:
        loader = _Loader(text)  # already refuses control characters
        node = loader.get_single_node()
        value = _value(loader, node, (), lines) if node is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError(f"{path}:{line}: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise ConfigError(
            f"{path}:{line}: the control character {chr(error.character)!r} may not stand here"
        ) from error
    except _Slip as error:
        raise ConfigError(f"{path}:{error.line}: {error}") from None
    if not isinstance(value, dict):
        what = "empty" if value is None else f"a {type(value).__name__}"
        raise ConfigError(f"{path}:1: a run is a mapping (name:, models:, data: …), this is {what}")
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
    if not isinstance(node, yaml.ScalarNode) and node.tag not in ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
        raise _Slip(f"{dotted(path)}: the tag {node.tag!r} means nothing here; leave it out", line)
    if isinstance(node, yaml.MappingNode):
        return _mapping(loader, node, path, lines)
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, child, (*path, i), lines) for i, child in enumerate(node.value)]
    try:
        return loader.construct_object(node)
    except ValueError as error:
        raise _Slip(f"{dotted(path)}: {error}", line) from error


def _mapping(loader: _Loader, node: yaml.MappingNode, path: KeyPath, lines: dict[KeyPath, int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = loader.construct_object(key_node) if isinstance(key_node, yaml.ScalarNode) else None
        if not isinstance(key, str) or key == "<<":
            way = "write out what it would bring" if key == "<<" else "put it in quotes"
            raise _Slip(f"{dotted(path)}: keys are plain words, not {_name(key_node)}; {way}", line)
        if key in found:
            raise _Slip(f"{dotted((*path, key))} stands here twice (first in line {lines[(*path, key)]})", line)
        lines[(*path, key)] = line
        found[key] = _value(loader, value_node, (*path, key), lines)
    return found


def _name(node: yaml.Node) -> str:
    return repr(node.value) if isinstance(node, yaml.ScalarNode) else "lists or mappings"


def override(read: Read, text: str) -> None:
    """Sets one key from `a.b=c`; the value is read as YAML is, and steps that are missing or null are made."""
    key, equals, word = text.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"--set {text!r}: write --set a.b=c")
    at: Any = read.value
    path: KeyPath = ()
    *above, last = key.split(".")
    for word_of_key in above:
        step = _step(at, word_of_key, f"--set {text!r}: {dotted(path) if path else 'the file'}")
        if isinstance(at, dict) and at.get(step) is None:
            at[step] = {}
        at, path = at[step], (*path, step)
    step = _step(at, last, f"--set {text!r}: {dotted(path) if path else 'the file'}")
    at[step] = _word(text, word)
    read.overrides[(*path, step)] = text


def _step(at: Any, word: str, place: str) -> str | int:
    """A step below `at`: a key of a mapping, which need not be there yet, or a place in a list."""
    if isinstance(at, dict):
        return word
    if not isinstance(at, list):
        raise ConfigError(f"{place} is a plain value, nothing lies below it")
    if not word.isdecimal() or int(word) >= len(at):
        raise ConfigError(f"{place} is a list with the entries {', '.join(map(str, range(len(at)))) or '(none)'}")
    return int(word)


def _word(text: str, word: str) -> Any:
    try:
        loader = _Loader(word)
        node = loader.get_single_node()
        return _value(loader, node, (), {}) if node is not None else None
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"--set {text!r}: {error.problem or error.context}") from error
    except (yaml.YAMLError, _Slip) as error:
        raise ConfigError(f"--set {text!r}: {' '.join(str(error).split())}") from error
