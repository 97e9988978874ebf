"""The bases of the settings of a kind, one for each shelf: what every kind on it can be asked without opening it."""

from pathlib import Path
from typing import ClassVar, Literal

from dressage.records import Frozen, content_hash


class Settings(Frozen):
    """The settings of one kind on a shelf; `code_version` is raised when the meaning of the kind changes."""

    shelf: ClassVar[str]
    code_version: ClassVar[int] = 1

    kind: str

    def usable(self) -> None:
        """Called before a run computes anything: refuses what is not installed here. Imports no torch.

        Raises:
            ValueError: what is missing, and how to get it.
        """


class ModelSettings(Settings):
    """The base of every model's settings; the class variables say what a model can do."""

    shelf: ClassVar[str] = "models"
    chats: ClassVar[bool] = False
    reads_labels: ClassVar[bool] = False
    embeds: ClassVar[bool] = False
    scores: ClassVar[bool] = False
    trains: ClassVar[bool] = False

    def at_hand(self) -> tuple[Path | None, Path | None]:
        """The folders of its weights and of the adapter it wears, where they lie on this machine; asks no hub."""
        return None, None

    def gives_labels(self) -> bool:
        """Whether next-token probabilities of labels can be had; where not, a judge's words are parsed."""
        return self.reads_labels

    def identity(self) -> str:
        """What makes it the same model whatever the template: its weights, or its address and name."""
        return f"{self.kind}:{content_hash(self.content())}"

    def content(self) -> object:
        """What enters a fingerprint: settings, and by content what is not ours (a local folder's files)."""
        return self.model_dump(mode="json")


class SourceSettings(Settings):
    """The base of every source's settings."""

    shelf: ClassVar[str] = "sources"

    def content(self) -> object:
        """What enters a fingerprint: settings, and by content the files they name."""
        return self.model_dump(mode="json")


class JudgeSettings(Settings):
    """The base of every judge's settings."""

    shelf: ClassVar[str] = "judges"
    compares: ClassVar[bool] = False
    """True where a ballot holds two texts and the answer is a choice, False where it is a rating of one."""
    asks_for: ClassVar[Literal["words", "embeddings", "scores"]] = "words"
    """What its models must be able to give: words (or their probabilities), embeddings, or a reward model's scores."""

    def models_asked(self) -> tuple[str, ...]:
        """Names in `models:` that it asks."""
        return ()

    def two_at_once(self) -> bool:
        """Whether a ballot holds two texts: as `compares`, unless the kind does both and its settings say which."""
        return self.compares

    def tools_called(self) -> tuple[str, ...]:
        """Names in `tools:` that it may call."""
        return ()

    def asking(self, *, by_labels: bool) -> tuple[int, int]:
        """What a ballot costs its models, for `plan`: how many questions, and the most tokens that each answer writes;
        `by_labels`: whether they give the probabilities of labels."""
        return len(self.models_asked()), 0

    def members(self) -> tuple[str, ...]:
        """Names in `judges:` that it is made of."""
        return ()

    def substance(self) -> frozenset[str]:
        """What it decides by besides models and members (`rule:length`, `lexicon:warmth`); overlap is refused."""
        return frozenset()

    def content(self) -> object:
        """What enters a fingerprint: settings, and by content the files they name."""
        return self.model_dump(mode="json")


class TrainerSettings(Settings):
    """The base of every trainer's settings."""

    shelf: ClassVar[str] = "trainers"
    learns_from: ClassVar[Literal["pairs", "examples", "prompts"]] = "pairs"
    """Judged pairs; replies to imitate; or prompts, to which it draws replies itself and has them graded."""
    shared: ClassVar[bool] = False
    """Whether several processes can share a training of this kind."""

    def draws(self) -> int:
        """Replies that a trainer which learns from prompts draws in all, for `plan` and the limit on failures."""
        return 0

    def rounds(self) -> int:
        """How often it draws, which is how often its alarms are looked at."""
        return 0

    def prompts_at_once(self) -> int:
        """The fewest prompts that it can be given."""
        return 1
