"""What a kind is handed and what it must answer to: the typed callables between the rooms of the house."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from pydantic import Field

from dressage.bases import JudgeSettings, ModelSettings, Settings, SourceSettings, TrainerSettings
from dressage.marks import Choice, Rating, Unreadable
from dressage.questions import (
    SCORE_HEAD,
    SCORE_SCALE,
    Answer,
    Chat,
    Completion,
    Distribution,
    Embed,
    Labels,
    Question,
    Scalar,
    Score,
    ScoreScale,
    Trouble,
    Vector,
)
from dressage.records import Ballot, Candidate, Failure, Frozen, Grade, Message, Prompt

if TYPE_CHECKING:
    from dressage.toolbox import Tool

__all__ = [  # what is written down in bases.py, questions.py and marks.py and belongs to the protocols
    "SCORE_HEAD",
    "SCORE_SCALE",
    "Answer",
    "Chat",
    "Choice",
    "Completion",
    "Distribution",
    "Embed",
    "JudgeSettings",
    "Labels",
    "ModelSettings",
    "Question",
    "Rating",
    "Scalar",
    "Score",
    "ScoreScale",
    "Settings",
    "SourceSettings",
    "TrainerSettings",
    "Trouble",
    "Unreadable",
    "Vector",
]

Conversation = Sequence[Message]

# ---------------------------------------------------------------- models


class Sampling(Frozen):
    """How replies are drawn."""

    temperature: float = Field(0.7, ge=0, le=2)
    """0 is greedy."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Draw from the likeliest tokens that hold this much probability together; 1: from all."""
    max_new_tokens: int = Field(96, ge=1, le=32768)
    """The longest reply; a longer one is cut there, and said to have reached its limit."""


Done = Callable[[int, Any], None]
"""Called with (index, answer) as soon as one answer is there: the journal and the progress bar hang on it."""


class Model(Protocol):
    """An opened model. Answers come in the order of what was asked; a Trouble stands for a failed one."""

    fingerprint: str
    paid: bool
    """True where an answer costs money or cannot be had again: such answers are journalled."""

    def complete(
        self, conversations: Sequence[Conversation], *, sampling: Sampling, seeds: Sequence[int], done: Done
    ) -> list[Completion | Trouble]: ...

    def label_probabilities(
        self, conversations: Sequence[Conversation], labels: Sequence[tuple[str, ...]], *, done: Done
    ) -> list[Distribution | Trouble]: ...

    def embed(self, texts: Sequence[str], *, done: Done) -> list[Vector | Trouble]: ...

    def prompt_tokens(self, conversation: Conversation) -> int | None:
        """Length of the rendered prompt in tokens; null where the model cannot tell."""
        ...

    def context(self) -> int | None:
        """The longest prompt plus reply in tokens; null where the model cannot tell."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Scores(Protocol):
    """A model that can wear a reward model: an adapter with a score head on its own frozen weights."""

    def scalars(self, conversations: Sequence[Conversation], adapter: str, *, done: Done) -> list[Score | Trouble]: ...


class Backbone(Protocol):
    """An opened local model as a trainer sees it."""

    fingerprint: str
    module: Any
    """The frozen transformers module, without any adapter."""
    tokenizer: Any
    adapter: Path | None
    """The adapter to start from, or null for the plain base."""


# ---------------------------------------------------------------- sources


class Row(NamedTuple):
    """A row of a source before anyone has said what its columns mean."""

    place: str
    """Where a person finds it, e.g. `prompts.jsonl:17`."""
    fields: dict[str, Any]


class Source(Protocol):
    """An opened source; `dressage.sources._columns` turns its rows into records."""

    def rows(self) -> Iterator[Row]:
        """All rows in the source's own order, from the top at each call."""
        ...


# ---------------------------------------------------------------- judges


class Judge(Protocol):
    """Two pure functions: what to ask, and how to read the answers. Everything else is in engines.judging."""

    compares: bool

    def ask(self, ballot: Ballot) -> tuple[Question, ...]:
        """The questions this ballot needs; none for a judge that computes by itself."""
        ...

    def read(self, ballot: Ballot, answers: Sequence[Answer]) -> Rating | Choice:
        """The mark, from one answer a question in the order asked.

        Raises:
            Unreadable: where the answers hold no verdict that was offered.
        """
        ...


@runtime_checkable
class Investigates(Protocol):
    """A Judge that asks in rounds, because what it asks next hangs on what it was answered."""

    rounds: int
    """How many rounds it may take; of one alone it is known beforehand what it asks."""

    def more(self, ballot: Ballot, answers: Sequence[Answer]) -> tuple[Question, ...]:
        """What to ask after all that was asked so far was answered; nothing once the answers can be read, or never will
        be. A pure function: with the same answers (after a crash, from the journal) it asks the same."""
        ...


@dataclass(frozen=True)
class JudgeTools:
    """What a judge kind is handed when it is opened."""

    secret: str
    """Nonces are derived from it; the policy never sees it."""
    members: Mapping[str, Judge]
    reads_labels: Callable[[str], bool]
    """Whether the model of that name gives next-token probabilities (else its words are parsed)."""
    toolbox: "Mapping[str, Tool]" = field(default_factory=dict)
    """The tools that it may call, by their names in the YAML: what they are for; calling is done by who asks."""


# ---------------------------------------------------------------- trainers and progress


@dataclass(frozen=True)
class Pair:
    """A preference with what it names."""

    prompt: Prompt
    chosen: Candidate
    rejected: Candidate
    margin: float


@dataclass(frozen=True)
class Example:
    """A prompt with the reply to imitate."""

    prompt: Prompt
    reply: Candidate


class Progress(Protocol):
    """Where long steps say how far they are: a bar on a terminal, plain lines elsewhere."""

    def task(self, name: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Opens a task of `total` units; what it yields is called with the number of units just done."""
        ...

    def say(self, line: str) -> None: ...


class Kept(Protocol):
    """The checkpoints of a training (dressage.checkpoints): whole folders, damaged ones set aside."""

    def newest(self) -> tuple[int, Path] | None: ...

    def commit(self, step: int, write: Callable[[Path], None]) -> None: ...


@dataclass(frozen=True)
class Workplace:
    """Where a trainer may write and to whom it reports."""

    folder: Path
    seed: int
    log: Callable[[Mapping[str, float | int | str]], None]
    """Appends one JSON line to the run's metrics; `step` counts optimizer steps or updates from 1."""
    progress: Progress
    checkpoints: Kept
    rewind: Callable[[int], None]
    """Drops the lines logged after this step: training goes on from there."""
    name: str = "training"
    """What the run is called, for trackers beside it."""
    trackers: Path | None = None
    """Where trackers leave files that outlive the training; null: in the folder, which is cleared after it."""

    def resume(self) -> tuple[int, Path] | None:
        """The checkpoint to go on from, or null for a start; what was logged after it is dropped."""
        found = self.checkpoints.newest()
        self.rewind(found[0] if found else 0)
        return found


Graded = Grade | Failure
"""A judge's answer about one reply; a failure is never a score."""


@dataclass(frozen=True)
class Practice:
    """What an on-policy trainer is handed: it knows neither judges nor engines."""

    sampling: Sampling
    """How `draw` draws; a trainer scores at the same temperature."""
    draw: Callable[[Sequence[Prompt], int, int], list[Candidate]]
    """(prompts, replies a prompt, update) → replies of the policy as it is now, prompt by prompt."""
    reward: Callable[[Sequence[Prompt], Sequence[Candidate]], list[Graded]]
    """(the prompt of each candidate, candidates) → one answer a candidate, in order."""
    kept: Callable[[int], list[tuple[Candidate, Graded]] | None]
    """What an earlier attempt at this training drew in that update and how it was graded; null: nothing whole."""
    keep: Callable[[int, Sequence[tuple[Candidate, Graded]]], None]
    """Commits an update's replies and grades: labels that were paid for are not paid for again."""
    watch: Callable[[int], float | None] | None = None
    """(update) → how often the watch judge prefers the policy to its start on dev prompts; null: nobody watches."""


@dataclass(frozen=True)
class Trained:
    """What a trainer leaves: an adapter folder that plain peft loads, and what must be said about it."""

    adapter: Path
    step: int
    facts: dict[str, float | int | str]


class Trainer(Protocol):
    """What `open(settings)` gives; a kind that learns from prompts is opened with `practice` too."""

    def tokens(self, row: Any, backbone: Backbone) -> int:
        """How long a row is, for the share of rows that do not fit."""
        ...

    def limit(self, backbone: Backbone) -> int | None:
        """The longest row that fits; null where nothing limits it."""
        ...

    def train(self, data: Sequence[Any], backbone: Backbone, workplace: Workplace) -> Trained:
        """Learns from pairs, examples or prompts (`learns_from`), leaves a peft adapter in the workplace's folder.

        Killed at any moment and called again with the same things, it goes on from `workplace.resume()`.
        """
        ...
