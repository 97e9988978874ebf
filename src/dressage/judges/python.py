"""Your own judge: a function in a file of yours that rates one reply, without touching this package.

    # my_judge.py
    def brief(prompt, reply, reference):
        return max(0.0, 1 - len(reply) / 1000)

`prompt` is a list of {"role", "content"}, `reply` the raw text, `reference` a string or None. Return a number
in [0, 1], or {"score": 0.7, "criteria": {"tone": 0.9}}, or None where there is nothing to say. The file is run
when the judge is opened, and may then import what lies beside it.

What the function raises, NaN and None are one judgement that failed, and never a score. A function that owes something
else (a list, a coroutine, grades on another scale) is stopped at its first answer: of such a scale the numbers that
happen to lie in [0, 1] would be kept, and the best or the worst replies left out.
"""

import ast
import hashlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Real
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from dressage.own_code import run_file
from dressage.protocols import Answer, JudgeSettings, JudgeTools, Question, Rating, Unreadable
from dressage.records import Ballot

Scorer = Callable[[list[dict[str, str]], str, str | None], Any]
ROUNDING = 1e-6
"""How far outside [0, 1] a number is rounding: float32 sums end there."""


class Misused(RuntimeError):
    """The function answers by another protocol than ours, so no answer of it can be trusted."""


class Settings(JudgeSettings):
    """A Python function rates the replies."""

    code_version = 2

    kind: Literal["python"] = "python"
    path: str = Field(pattern=r"^.+\.py:[A-Za-z_]\w*$")
    """The file and the function in it: `my.py:function`, from the folder the run is started in."""

    def file(self) -> Path:
        """The file, which is there.

        Raises:
            FileNotFoundError: it is not.
        """
        path = Path(self.path.rpartition(":")[0]).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"judge `path: {self.path}` names the file {path.absolute()}, which is not there")
        return path

    def function(self) -> str:
        return self.path.rpartition(":")[2]

    def source_hash(self) -> str:
        """sha256 of the file; what it imports in turn is not seen."""
        return hashlib.sha256(self.file().read_bytes()).hexdigest()

    def substance(self) -> frozenset[str]:
        there = Path(self.path.rpartition(":")[0]).expanduser().is_file()
        return frozenset({f"python:{self.source_hash()[:16]}:{self.function()}" if there else f"python:{self.path}"})

    def content(self) -> object:
        return {"settings": super().content(), "file": self.source_hash()}


@dataclass
class Python:
    """Asks nothing; calls the function."""

    name: str
    score: Scorer
    compares: bool = False

    def ask(self, ballot: Ballot) -> tuple[Question, ...]:
        return ()

    def read(self, ballot: Ballot, answers: Sequence[Answer]) -> Rating:
        (reply,) = ballot.texts
        prompt = [{"role": m.role, "content": m.content} for m in ballot.messages]
        try:
            given = self.score(prompt, reply, ballot.reference)
        except Exception as error:
            raise Unreadable(f"{self.name} raised {type(error).__name__}: {error}") from error
        return self._rating(given)

    def _rating(self, given: object) -> Rating:
        if not isinstance(given, Mapping):
            return Rating(score=self._number(given, "score"))
        unknown = [str(key) for key in given if key not in ("score", "criteria")]
        if unknown or "score" not in given:
            raise Misused(f"{self.name} returned {list(given)}: a dict has `score`, and `criteria` if you like")
        criteria = given.get("criteria", {})
        if not isinstance(criteria, Mapping):
            raise Misused(f"{self.name} returned {type(criteria).__name__} as criteria, not a dict of numbers")
        parts = {str(key): self._number(value, str(key)) for key, value in criteria.items()}
        return Rating(score=self._number(given["score"], "score"), criteria=parts)

    def _number(self, value: object, of: str) -> float:
        if value is None:
            raise Unreadable(f"{self.name} returned no {of} (None)")
        if not isinstance(value, Real):
            raise Misused(
                f"{self.name} returned {type(value).__name__} {str(value)[:80]!r} as {of}, not a number. It is called "
                "once for each reply, and owes one number in [0, 1], or None where it has nothing to say; mend it"
            )
        number = float(value)
        if not math.isfinite(number):
            raise Unreadable(f"{self.name} returned {number} as {of}, which is no number in [0, 1]")
        if not -ROUNDING <= number <= 1 + ROUNDING:
            raise Misused(
                f"{self.name} returned {number} as {of}, outside [0, 1]. Bring the whole scale into [0, 1] there, e.g. "
                "(x - lowest) / (highest - lowest); return None for a reply that it cannot grade"
            )
        return min(max(number, 0.0), 1.0)


def open(settings: Settings, *, tools: JudgeTools) -> Python:
    path, name = settings.file(), settings.function()
    found = run_file(path, name=f"dressage_judge_{path.stem}")
    if name not in found or not callable(found[name]):
        raise LookupError(f"{path} has no function {name!r}{_meant(path, name)}")
    _called_as_we_call(settings.path, found[name])
    return Python(settings.path, found[name])


def _called_as_we_call(name: str, function: Callable[..., Any]) -> None:
    """What can be known of a function without calling it.

    Raises:
        ValueError: it does not take what it is given, or would not answer with a value.
    """
    owed = "write def NAME(prompt, reply, reference) -> float: it is called once for each reply"
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise ValueError(f"judge `path: {name}` names a function that is async or yields; {owed}, and is not awaited")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a function written in C may not say
        return
    try:
        signature.bind([], "", None)
    except TypeError as error:
        raise ValueError(
            f"judge `path: {name}` names a function that takes {signature}, and is given a prompt, a reply and a "
            f"reference: {error}; {owed}"
        ) from error


def _meant(path: Path, name: str) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    there = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    near = get_close_matches(name, there, n=1)
    return (f"; did you mean {near[0]!r}?" if near else "") + f" (there is: {', '.join(there) or 'none'})"
