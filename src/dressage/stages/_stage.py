"""What every stage is given: its folder, its key, the cast of models and judges, and the loop over shards."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from pydantic import JsonValue

from dressage.accounts import Accounts
from dressage.clock import spending
from dressage.engines.asking import Asker
from dressage.engines.hearing import Bench
from dressage.plugins import open_kind
from dressage.protocols import Judge, JudgeSettings, JudgeTools, Model, ModelSettings, Progress, Settings
from dressage.records import Record, content_hash
from dressage.seeds import seed_for
from dressage.store import Journal, Shard, commit_shard, shard_done
from dressage.toolbox import Tool, Toolbox, ToolSettings

T = TypeVar("T")
Tables = Mapping[type[Record], Sequence[Record]]


OF_MODEL = "model: "
"""How a fact begins that a model told of itself."""


class StageError(RuntimeError):
    """A stage cannot go on; says what, where and the way out."""


@contextmanager
def whole_files(what: str, kinds: Iterable[Settings] = ()) -> Iterator[None]:
    """Says in words which weights could not be read or written: safetensors raises an error of its own, a bare
    Exception, for a file that is cut short and for a disk that is full. `kinds` may name the folders it was read from.
    """
    try:
        yield
    except Exception as error:
        if type(error).__name__ != "SafetensorError":
            raise
        named = [Path(getattr(k, key, None) or "") for k in kinds for key in ("path", "adapter")]
        if short := next((file for folder in named if folder.name for file in _cut_short(folder)), None):
            raise StageError(f"{what}: {short} is damaged or cut short ({error}); fetch or copy it again") from error
        raise StageError(
            f"{what}: a safetensors file could not be read or written ({error}); make room if the disk is full, then "
            "run the same command again: what was committed is kept"
        ) from error


def _cut_short(folder: Path) -> Iterator[Path]:
    """The weights in a folder that safetensors cannot open."""
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.expanduser().glob("*.safetensors")):
        try:
            with safe_open(file, framework="np"):
                pass
        except SafetensorError:
            yield file


class Cast:
    """The models, judges and tools of a run, each opened when first asked for, models and tools once."""

    def __init__(
        self,
        models: Mapping[str, ModelSettings],
        judges: Mapping[str, JudgeSettings],
        *,
        seed: int,
        accounts: Accounts,
        tools: Mapping[str, ToolSettings] = MappingProxyType({}),
    ) -> None:
        self._models, self._judges, self._seed, self._accounts = models, judges, seed, accounts
        self._tools = tools
        self._open: dict[str, Model] = {}
        self._open_tools: dict[str, Tool] = {}

    def model(self, name: str) -> Any:
        if name not in self._open:
            settings = self._models[name]
            spends = getattr(settings, "spends", False)
            handed = {"account": self._accounts.of(settings.identity())} if spends else {}
            with spending("loading"), whole_files(f"model {name!r}", [settings]):
                self._open[name] = open_kind(settings, **handed)
        return self._open[name]

    def toolbox(self, judge: str) -> Toolbox:
        """The tools that a judge, or a member of it, may call."""
        settings = self._judges[judge]
        found = {name: self._tool(name) for name in settings.tools_called()}
        for member in settings.members():
            found |= self.toolbox(member).tools
        return Toolbox(found)

    def _tool(self, name: str) -> Tool:
        if name not in self._open_tools:
            self._open_tools[name] = open_kind(self._tools[name], name=name)
        return self._open_tools[name]

    def judge(self, name: str) -> Judge:
        """The judge of that name, its members opened with it."""
        settings = self._judges[name]
        tools = JudgeTools(
            secret=f"{seed_for(self._seed, 'nonce')}",
            members={member: self.judge(member) for member in settings.members()},
            reads_labels=lambda model: self._models[model].gives_labels(),
            toolbox=self.toolbox(name).tools,
        )
        opened: Judge = open_kind(settings, tools=tools)
        return opened

    def compares(self, name: str) -> bool:
        """Whether a judge decides between two texts rather than grading one; panels are as their members."""
        return self.judge(name).compares

    def asked_by(self, name: str) -> tuple[str, ...]:
        """Every model a judge asks, its members' included."""
        settings = self._judges[name]
        return tuple(
            dict.fromkeys(
                [
                    *settings.models_asked(),
                    *(m for member in settings.members() for m in self.asked_by(member)),
                ]
            )
        )

    def bench(self, name: str, *, journal: Journal, max_chars: int, advance: Callable[[int], None]) -> Bench:
        models = {asked: self.model(asked) for asked in self.asked_by(name)}
        asker = Asker(models, journal=journal, seed=self._seed, toolbox=self.toolbox(name))
        return Bench(name, self.judge(name), asker, max_chars, advance)

    def facts(self) -> dict[str, JsonValue]:
        """What the opened models say of themselves: device, dtype, threads; which a machine decides."""
        told = {name: getattr(model, "facts", None) for name, model in self._open.items()}
        return {f"{OF_MODEL}{name}": dict(facts) for name, facts in told.items() if facts}

    def close(self) -> None:
        for model in self._open.values():
            model.close()
        self._open.clear()


@dataclass(frozen=True)
class Here:
    """Where a stage stands in its run."""

    folder: Path
    inputs: Mapping[str, Path]
    """The folders of the finished stages before it."""
    key: str
    """The stage's fingerprint; it enters the key of every shard."""
    seed: int
    round: int
    cast: Cast
    progress: Progress
    log: Callable[[Mapping[str, float | int | str]], None]
    """Appends a line to the run's metrics."""
    forget: Callable[[int], None]
    """Drops what an unfinished attempt at this stage has logged after that step; 0: all of it."""

    note: Callable[[], None]
    """Told as work is done, so that what the stage takes is kept over attempts."""

    def journal(self) -> Journal:
        """The paid answers of this stage that are in no shard yet."""
        return Journal(self.folder / "journal.jsonl")


@dataclass(frozen=True)
class Outcome:
    """What a stage leaves: its committed shards, and facts about them for people."""

    shards: tuple[Shard, ...]
    facts: dict[str, JsonValue]


def sharded(
    here: Here,
    groups: Sequence[Sequence[T]],
    *,
    ids: Callable[[T], str],
    work: Callable[[Sequence[T]], Tables],
) -> tuple[Shard, ...]:
    """Commits one shard a group, skipping those that are already whole.

    A shard is the unit of determinism: its content fixes its order and its batches.
    """
    shards = []
    for number, group in enumerate(groups):
        name, key = _named(here, number, group, ids)
        shard = shard_done(here.folder, name, key=key)
        if shard is None:
            shard = commit_shard(here.folder, name, key=key, tables=work(group))
            here.note()
        shards.append(shard)
    return tuple(shards)


@dataclass(frozen=True)
class Split(Generic[T]):
    """What `sharded` finds done and what it has still to work on."""

    done: list[Shard]
    waiting: list[Sequence[T]]


def split(here: Here, groups: Sequence[Sequence[T]], *, ids: Callable[[T], str]) -> Split[T]:
    found: Split[T] = Split([], [])
    for number, group in enumerate(groups):
        name, key = _named(here, number, group, ids)
        if shard := shard_done(here.folder, name, key=key):
            found.done.append(shard)
        else:
            found.waiting.append(group)
    return found


def _named(here: Here, number: int, group: Sequence[T], ids: Callable[[T], str]) -> tuple[str, str]:
    """A shard's name, and its key: what it is made from."""
    return f"{number:05d}", content_hash([here.key, [ids(item) for item in group]])


def in_groups(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def drawn_by_seed(items: Sequence[T], n: int, *names: object) -> list[T]:
    """`n` of the items, chosen by named seed, in their order."""
    chosen = random.Random(seed_for(*names)).sample(range(len(items)), min(n, len(items)))
    return [items[i] for i in sorted(chosen)]
