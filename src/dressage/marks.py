"""What a judge makes of a ballot: a rating, a choice, or the reason why its answers give neither."""

from pydantic import Field

from dressage.records import Checked, Frozen


class Rating(Frozen):
    """What a grading judge read: a score in [0, 1], its parts, and its own number before normalising."""

    score: float = Field(ge=0, le=1)
    criteria: dict[str, float] = Field(default_factory=dict)
    raw: float | None = None
    normalised: str = ""
    evidence: tuple[str, ...] = ()
    checked: tuple[Checked, ...] = ()
    """The calls of tools it made."""


class Choice(Frozen):
    """What a comparing judge read: `margin` is p(first text) − p(second text)."""

    margin: float = Field(ge=-1, le=1)
    evidence: tuple[str, ...] = ()
    checked: tuple[Checked, ...] = ()
    """The calls of tools it made."""


class Unreadable(ValueError):
    """A judge's answer holds no offered verdict. Becomes a Failure, never a score."""

    def __init__(self, detail: str, *, reason: str = "unreadable") -> None:
        super().__init__(detail)
        self.reason = reason


class OverBudget(Unreadable):
    """What a judgement may use up is used up before it came to a verdict: a Failure that asking again would repeat."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, reason="over budget")
