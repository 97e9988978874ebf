"""The rules of the house: who imports whom, settings that somebody reads, sizes, names, errors that pass through."""

import ast
import inspect
import itertools
import json
import re
import subprocess
import sys
import types
import typing
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel

from dressage.plugins import SHELVES, kinds, settings_of
from dressage.settings import RunSettings

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "src" / "dressage"
FILES = sorted(HOUSE.rglob("*.py"))
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
EVERYTHING = [*FILES, *sorted((ROOT / "tests").rglob("*.py")), *SCRIPTS]


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


# ---------------------------------------------------------------- who imports whom

GROUND = {
    "bases",
    "records",
    "questions",
    "marks",
    "protocols",
    "store",
    "checkpoints",
    "company",
    "seeds",
    "tokens",
    "plugins",
    "settings",
    "clock",
    "accounts",
    "leftovers",
    "doubts",
    "own_code",
    "extras",
    "toolbox",
    "cards",
    "floors",
}
READING = {"strict_yaml", "slips", "crossings", "practising", "at_hand", "config", "fingerprints"}
VIEWS = {"report", "harmless", "terminal", "reading", "comparing", "showing", "doctor"}
FRAME = {"standing", "handover", "pipeline", "assisting", "planning", "auditing"}
VERBS = {"cli", "audit_verb"}
FOUNDATION = {"maths"} | GROUND
MAY_IMPORT: dict[str, set[str]] = {
    "maths": {"maths"},
    **dict.fromkeys(GROUND, FOUNDATION),
    **{shelf: {shelf} | FOUNDATION - {"plugins", "settings"} for shelf in SHELVES},
    "engines": {"engines"} | FOUNDATION,
    "stages": {"stages", "engines", "sources"} | FOUNDATION,
    **dict.fromkeys(VIEWS, VIEWS | FOUNDATION),
    **dict.fromkeys(READING, READING | FOUNDATION),
    **dict.fromkeys(FRAME, FRAME | READING | {"stages", "sources"} | FOUNDATION),
    **dict.fromkeys(VERBS, VERBS | FRAME | READING | VIEWS | FOUNDATION),
}
SHARED_SOURCES = {"sources._columns", "sources._rows"}
"""What of the sources shelf a stage and the plan may use: how rows become records."""


def imported(path: Path) -> Iterator[str]:
    """The modules of ours a file imports, without the package's name: `records`, `sources._rows`."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (a.name.removeprefix("dressage.") for a in node.names if a.name.startswith("dressage."))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{shown(path)}:{node.lineno}: relative import"
            if node.module == "dressage":
                yield from (a.name for a in node.names)
            elif node.module and node.module.startswith("dressage."):
                below = node.module.removeprefix("dressage.")
                folder = HOUSE / below.replace(".", "/")
                for a in node.names:
                    there = (folder / f"{a.name}.py").exists() or (folder / a.name).is_dir()
                    yield f"{below}.{a.name}" if there else below


def room(path: Path) -> str:
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


def wrong_imports(path: Path, modules: Iterable[str]) -> list[str]:
    """Those of `modules` that the file at `path` may not import."""
    here = room(path)
    wrong = []
    for module in modules:
        there, _, below = module.partition(".")
        if there not in MAY_IMPORT[here]:
            wrong.append(module)
        elif there == "sources" and here not in SHELVES:
            shared = any(module == s or module.startswith(f"{s}.") for s in SHARED_SOURCES)
            wrong += [] if shared else [module]
        elif there == "stages" and here == "stages" and not below.startswith("_"):
            wrong.append(module)
        elif there == here and here in SHELVES:
            mine = path.relative_to(HOUSE).parts[1].removesuffix(".py")
            other = below.partition(".")[0]
            wrong += [] if other.startswith("_") or other == mine else [module]
    return wrong


@pytest.mark.parametrize("path", [p for p in FILES if p.parent != HOUSE or p.stem != "__init__"], ids=shown)
def test_imports_go_only_downwards(path: Path) -> None:
    assert wrong_imports(path, imported(path)) == []


def test_the_import_rule_can_fail() -> None:
    judge, stage = HOUSE / "judges" / "rules.py", HOUSE / "stages" / "judge.py"
    assert wrong_imports(judge, ["records", "judges._checks", "maths.text"]) == []
    forbidden = ["models.scripted", "judges.panel", "engines.judging", "plugins", "pipeline"]
    assert wrong_imports(judge, forbidden) == forbidden
    assert wrong_imports(stage, ["engines.judging", "stages._stage", "sources._rows"]) == []
    assert wrong_imports(stage, ["stages.data", "sources.jsonl", "report.page"]) == [
        "stages.data",
        "sources.jsonl",
        "report.page",
    ]
    assert wrong_imports(HOUSE / "maths" / "stats.py", ["records"]) == ["records"]


def test_every_file_lives_in_a_room_that_has_a_rule() -> None:
    assert {room(p) for p in FILES} - {"__init__"} <= set(MAY_IMPORT)


def test_only_plugins_imports_by_name() -> None:
    names = {"importlib.import_module", "__import__"}
    found = {
        shown(path)
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in names | {"import_module"}
    }
    assert found == {"src/dressage/plugins.py"}


# ---------------------------------------------------------------- settings

SETTINGS = [settings_of(shelf, kind) for shelf in SHELVES for kind in kinds(shelf)]


def groups(settings: type[BaseModel], seen: set[type[BaseModel]] | None = None) -> set[type[BaseModel]]:
    """A settings class and every settings class inside it."""
    seen = set() if seen is None else seen
    if settings not in seen:
        seen.add(settings)
        for field in settings.model_fields.values():
            for inner in _classes(field.annotation):
                groups(inner, seen)
    return seen


def _classes(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _classes(part)


ALL_SETTINGS = sorted(
    set().union(*(groups(s) for s in [*SETTINGS, RunSettings])), key=lambda c: (c.__module__, c.__qualname__)
)


def reads(module: ast.Module) -> set[str]:
    """The attributes a file reads (`x.name`, `getattr(x, "name")`), but not those that only validators look at."""
    names: set[str] = set()
    pending: list[ast.AST] = [module]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef) and any("validator" in ast.unparse(d) for d in node.decorator_list):
            continue
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            names.add(node.attr)
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) == "getattr"
            and isinstance(node.args[1], ast.Constant)
        ):
            names.add(str(node.args[1].value))
        pending += ast.iter_child_nodes(node)
    return names


def readers(settings: type[BaseModel]) -> list[Path]:
    """The files in which a class's settings should be read: those of its shelf, or any for a section of the YAML."""
    shelf = settings.__module__.split(".")[1]
    return sorted((HOUSE / shelf).rglob("*.py")) if shelf in SHELVES else FILES


def dead(settings: type[BaseModel], files: Iterable[ast.Module]) -> set[str]:
    return set(settings.model_fields) - set().union(*(reads(f) for f in files)) - {"kind", "rule"}


@pytest.mark.parametrize("settings", ALL_SETTINGS, ids=lambda c: f"{c.__module__}.{c.__name__}")
def test_every_setting_has_a_reader(settings: type[BaseModel]) -> None:
    assert not dead(settings, map(tree, readers(settings)))


def test_the_reader_rule_can_fail() -> None:
    class Knobs(BaseModel):
        used: int = 1
        unused: int = 1
        validated: int = 1

    source = """
class Knobs:
    @field_validator("validated")
    def _fine(self):
        return self.validated

def open(knobs):
    knobs.unused = 3
    return knobs.used
"""
    assert dead(Knobs, [ast.parse(source)]) == {"unused", "validated"}


@pytest.mark.parametrize("settings", ALL_SETTINGS, ids=lambda c: f"{c.__module__}.{c.__name__}")
def test_every_setting_has_a_sentence_and_numbers_have_limits(settings: type[BaseModel]) -> None:
    plain = set(settings.model_fields) - {"kind", "rule"}
    assert not plain - sentences(settings)
    assert not {name for name in plain if _unlimited(settings.model_fields[name])}
    assert settings.__doc__


def sentences(settings: type[BaseModel]) -> set[str]:
    """The fields of a class, and of what it inherits from, that have a docstring below them."""
    ours = [base for base in settings.__mro__ if base.__module__.startswith("dressage.")]
    found = {_class(base) for base in ours}
    lines = [pair for node in found for pair in itertools.pairwise(node.body)]
    return {ast.unparse(a.target) for a, b in lines if isinstance(a, ast.AnnAssign) and _is_docstring(b)}


def _class(settings: type) -> ast.ClassDef:
    nodes = ast.walk(tree(Path(inspect.getfile(settings))))
    return next(n for n in nodes if isinstance(n, ast.ClassDef) and n.name == settings.__qualname__)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _unlimited(field: typing.Any) -> bool:
    union = typing.get_origin(field.annotation) in (typing.Union, types.UnionType)
    inner = list(typing.get_args(field.annotation)) if union else [field.annotation]
    notes = [*field.metadata, *(m for a in inner for m in getattr(a, "__metadata__", ()))]
    bounds = any(isinstance(n, Ge | Gt | Le | Lt) for note in notes for n in (note, *getattr(note, "metadata", ())))
    return any(a in (int, float) for a in inner) and not bounds


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda c: c.__module__)
def test_a_kind_is_called_like_its_file_and_can_be_opened(settings: type[BaseModel]) -> None:
    _, shelf, kind = settings.__module__.split(".")[:3]
    assert settings.model_fields["kind"].default == kind
    assert typing.get_args(settings.model_fields["kind"].annotation) == (kind,)
    assert settings.shelf == shelf
    folder = HOUSE / shelf / kind
    file = folder / f"{SHELVES[shelf]}.py" if folder.is_dir() else folder.with_suffix(".py")
    assert any(isinstance(n, ast.FunctionDef) and n.name == "open" for n in tree(file).body)


def test_settings_of_every_kind_import_nothing_heavy() -> None:
    code = (
        "import json, sys\n"
        "from dressage.plugins import SHELVES, kinds, settings_of\n"
        "found = [settings_of(shelf, kind) for shelf in SHELVES for kind in kinds(shelf)]\n"
        "print(json.dumps([len(found), sorted({name.partition('.')[0] for name in sys.modules})]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "src", capture_output=True, text=True, check=True)
    number, there = json.loads(done.stdout)
    assert number == len(SETTINGS)
    heavy = {"torch", "transformers", "trl", "peft", "datasets", "numpy", "scipy", "pyarrow", "openai"}
    assert not heavy & set(there)


# ---------------------------------------------------------------- sizes, names, errors


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (n for n in ast.walk(tree(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("path", [*FILES, *SCRIPTS], ids=shown)
def test_files_and_functions_are_small(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 400
    for f in functions(path):
        assert f.end_lineno is not None
        assert f.end_lineno - f.lineno + 1 <= 80, f"{shown(path)}:{f.lineno}: {f.name} has over 80 lines"
        names = [a.arg for a in (*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs)]
        counted = names[1:] if names[:1] in (["self"], ["cls"]) else names
        is_verb = any(ast.unparse(d).startswith("app.") for d in f.decorator_list) or f.name == "verb"
        assert len(counted) <= 6 or is_verb, f"{shown(path)}:{f.lineno}: {f.name} has {len(counted)} parameters"


@pytest.mark.parametrize("path", EVERYTHING, ids=shown)
def test_the_first_line_says_what_a_file_is_for(path: Path) -> None:
    text = ast.get_docstring(tree(path), clean=False)
    assert text, f"{shown(path)} has no docstring"
    assert text.split("\n")[0].strip()


def test_no_file_is_a_drawer_for_everything() -> None:
    assert not [shown(p) for p in EVERYTHING if p.stem.strip("_") in {"utils", "util", "helpers", "common", "misc"}]


@pytest.mark.parametrize("path", EVERYTHING, ids=shown)
def test_no_error_is_swallowed(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else None
            assert caught is not None, f"{shown(path)}:{node.lineno}: bare except"
            passes = all(isinstance(s, ast.Pass) for s in node.body)
            assert not (passes and caught in {"Exception", "BaseException"}), f"{shown(path)}:{node.lineno}"
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"suppress", "contextlib.suppress"}:
            assert "Exception" not in {ast.unparse(a) for a in node.args}, f"{shown(path)}:{node.lineno}"


MACHINE = re.compile(r"(?<![\w.~}>])/(?:" + "|".join(("home", "root", "Users", "work", "tmp", "mnt")) + r")/\w")


def test_nothing_mentions_the_paths_of_one_machine() -> None:
    suffixes = {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".html", ".css", ".cfg", ".sh", ""}
    folders = [ROOT / f for f in ("src", "tests", "scripts", "configs", ".ci")]
    texts = [p for f in folders for p in f.rglob("*") if p.is_file() and p.suffix in suffixes]
    texts += [p for p in ROOT.iterdir() if p.is_file() and p.suffix in suffixes and not p.name.startswith(".")]
    found = [
        f"{shown(p)}:{i}"
        for p in texts
        for i, line in enumerate(p.read_text("utf-8").split("\n"), 1)
        if MACHINE.search(line)
    ]
    assert not found
