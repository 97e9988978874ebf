"""Runs a Python file of the user's own, which may import what lies beside it."""

import runpy
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any


def run_file(file: Path, *, name: str) -> dict[str, Any]:
    """What the file defines. Its folder is on sys.path while it runs, as if it had been started there.

    Afterwards the path is as before and what was imported from the folder is forgotten, so that `import helper` in
    two files of two folders means two modules; who imports inside a function finds nothing there any more.

    Raises:
        ValueError: it cannot be run; says where and why.
    """
    folder = file.resolve().parent
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        return runpy.run_path(str(file), run_name=name)
    except Exception as error:
        raise ValueError(f"{_where(file, error)}: {type(error).__name__}: {error}; mend it, then run again") from error
    finally:
        sys.path.remove(str(folder))
        new = set(sys.modules) - before
        beside = {module for module in new if _lies_in(sys.modules[module], folder)}
        for module in new:
            if module.partition(".")[0] in beside:
                del sys.modules[module]


def _where(file: Path, error: Exception) -> str:
    """The file with the line that raised, where one of its own did."""
    if isinstance(error, SyntaxError):
        return f"{error.filename or file}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f"{file}:{lines[-1]}" if lines else str(file)


def _lies_in(module: ModuleType, folder: Path) -> bool:
    """Whether it is `folder/name.py` or the package `folder/name/`; not what merely lies deeper (a .venv)."""
    file = getattr(module, "__file__", None)
    if file is None:
        return False
    path = Path(file).resolve()
    return (path.parent.parent if path.name == "__init__.py" else path.parent) == folder
