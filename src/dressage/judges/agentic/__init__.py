"""Settings of the judge that checks before it decides: it calls tools, keeps what they gave, then says its verdict."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from dressage.judges import _fences as fences
from dressage.protocols import JudgeSettings

TRUE_AND_KEPT = (
    "The better reply is right in what can be checked (numbers, dates, counts, facts, and every condition that the "
    "user set), and it does what the user needs without harm or pretence."
)
TEMPLATES = ("agentic", "agentic_pairwise", "agentic_pointwise", "agentic_tools", "agentic_principles")


class Settings(JudgeSettings):
    """A model plans what must be checked, has tools check it, and decides on what they gave; off unless you name it."""

    compares: ClassVar[bool] = True

    kind: Literal["agentic"] = "agentic"
    model: str
    """Who judges, a name in `models:`; any that chats (the calls are lines of text, not the server's tool calling)."""
    tools: tuple[str, ...] = ()
    """What it may call, names in `tools:`; none: it only thinks."""
    mode: Literal["pairwise", "pointwise"] = "pairwise"
    """Compare two replies, in both orders; or rate one from 1 to 10."""
    criterion: str = Field(TRUE_AND_KEPT, min_length=1)
    """What makes a reply good, in a sentence or two; one for your task beats a general one."""
    principles: bool = False
    """Have the judge first write the criteria for each prompt, before it sees a reply: one question more a prompt."""
    ties: bool = False
    """With `pairwise`: whether it may call the replies equally good."""
    calls: int = Field(6, ge=0, le=64)
    """Calls of tools for one judgement (a reply in one order); unreadable ones count. After the last it must decide."""
    tokens: int = Field(24_000, ge=100, le=10_000_000)
    """Tokens that its model reads and writes for one judgement, as the model counts them; each round reads all before
    it again. Over it with no verdict is a failure."""
    seconds: float = Field(120.0, gt=0, le=86_400)
    """Seconds that its tools and (where the model tells: endpoints do) its answers may take for one judgement; looked
    at between rounds, and over it with no verdict is a failure."""
    max_new_tokens: int = Field(1024, ge=16, le=32768)
    """The longest answer of a round; one that is cut off is unreadable."""
    temperature: float = Field(0.0, ge=0, le=2)
    """0 is greedy; one that cannot be read is asked for again above 0."""
    shown_chars: int = Field(20_000, ge=100)
    """Characters shown of each text; the rest is replaced by [cut]. Tools get the whole."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if len(set(self.tools)) < len(self.tools):
            raise ValueError(f"a tool stands twice in [{', '.join(self.tools)}]; leave it out once")
        if self.tools and self.calls == 0:
            raise ValueError("`calls: 0` lets it call none of its `tools`; leave them out, or raise `calls`")
        if self.ties and self.mode == "pointwise":
            raise ValueError("`ties` is for `mode: pairwise`; ratings are equal when they are")
        return self

    def two_at_once(self) -> bool:
        return self.mode == "pairwise"

    def models_asked(self) -> tuple[str, ...]:
        return (self.model,)

    def tools_called(self) -> tuple[str, ...]:
        return self.tools

    def asking(self, *, by_labels: bool) -> tuple[int, int]:
        return self.principles + (self.calls if self.tools else 0) + 1, self.max_new_tokens

    def content(self) -> object:
        return {"settings": super().content(), "templates": [fences.template(name) for name in TEMPLATES]}
