"""Your own judge: a function in a file of yours that rates one reply, without touching this package.

    # my_judge.py
    def brief(prompt, reply, reference):
        return max(0.0, 1 - len(reply) / 1000)

`prompt` is a list of {"role", "content"}, `reply` the raw text, `reference` a string or None. Return a number
in [0, 1], or {"score": 0.7, "criteria": {"tone": 0.9}}, or None where there is nothing to say. The file is run
when the judge is opened, and may then import what lies beside it. What the function raises, and any other number,
is an unreadable judgement and never a score.
"""

import ast
import hashlib
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


class Settings(JudgeSettings):
    """A Python function rates the replies."""

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
            raise Unreadable(f"{self.name} returned {list(given)}: a dict has `score`, and `criteria` if you like")
        criteria = given.get("criteria", {})
        if not isinstance(criteria, Mapping):
            raise Unreadable(f"{self.name} returned {type(criteria).__name__} as criteria, not a dict of numbers")
        parts = {str(key): self._number(value, str(key)) for key, value in criteria.items()}
        return Rating(score=self._number(given["score"], "score"), criteria=parts)

    def _number(self, value: object, of: str) -> float:
        if value is None:
            raise Unreadable(f"{self.name} returned no {of} (None)")
        if not isinstance(value, Real):
            raise Unreadable(f"{self.name} returned {type(value).__name__} {str(value)[:80]!r} as {of}, not a number")
        number = float(value)
        if not 0 <= number <= 1:  # NaN too: every comparison with it is false
            raise Unreadable(f"{self.name} returned {number} as {of}, outside [0, 1]")
        return number


def open(settings: Settings, *, tools: JudgeTools) -> Python:
    path, name = settings.file(), settings.function()
    found = run_file(path, name=f"dressage_judge_{path.stem}")
    if name not in found or not callable(found[name]):
        raise LookupError(f"{path} has no function {name!r}{_meant(path, name)}")
    return Python(settings.path, found[name])


def _meant(path: Path, name: str) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    there = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    near = get_close_matches(name, there, n=1)
    return (f"; did you mean {near[0]!r}?" if near else "") + f" (there is: {', '.join(there) or 'none'})"
