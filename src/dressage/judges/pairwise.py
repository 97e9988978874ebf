"""A model compares two replies: by the probabilities of two letters, or by a verdict line in its words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field

from dressage.judges import _fences as fences
from dressage.judges._verdicts import label_shares, reads_by_labels, verdict_line
from dressage.protocols import Answer, Chat, Choice, JudgeSettings, JudgeTools, Labels, Question
from dressage.records import Ballot, Message

HELPFUL_HARMLESS_HONEST = (
    "The better reply does what the user needs, does no harm to anyone, and is honest: it claims nothing "
    "false, hides nothing that matters and does not flatter."
)
MARGINS = {"first": 1.0, "second": -1.0, "tie": 0.0}
LETTERS = ("A", "B", "C")


class Settings(JudgeSettings):
    """A model is shown both replies and says which is better; the engine asks in both orders."""

    compares: ClassVar[bool] = True

    kind: Literal["pairwise"] = "pairwise"
    model: str
    """Who judges, a name in `models:`."""
    criterion: str = Field(HELPFUL_HARMLESS_HONEST, min_length=1)
    """What makes a reply the better one, in a sentence or two; one for your task beats a general one."""
    how: Literal["auto", "logprobs", "text"] = "auto"
    """`logprobs` reads letters in one forward pass, `text` parses words; `auto`: the first if it can."""
    ties: bool = False
    """Whether the judge may call the replies equally good."""
    reasoning: bool = False
    """With `text`: have it think before its verdict line."""
    reference: bool = False
    """Show the prompt's reference answer; a prompt that has none is then not judged."""
    max_new_tokens: int = Field(512, ge=8, le=32768)
    """With `text`: the longest answer; one that is cut off is unreadable."""
    min_mass: float = Field(0.5, gt=0, le=1)
    """With `logprobs`: the least probability the labels hold together; less is unreadable."""
    shown_chars: int = Field(20_000, ge=100)
    """Characters shown of each text; the rest is replaced by [cut]."""

    def models_asked(self) -> tuple[str, ...]:
        return (self.model,)

    def asking(self, *, by_labels: bool) -> tuple[int, int]:
        return 1, 1 if by_labels and self.how != "text" else self.max_new_tokens

    def content(self) -> object:
        used = ("pairwise", "pairwise_labels", "pairwise_words")
        return {"settings": super().content(), "templates": [fences.template(name) for name in used]}


@dataclass
class Pairwise:
    """Asks one question about a ballot of two; `by_labels` decides how it is asked and read."""

    settings: Settings
    secret: str
    by_labels: bool
    compares: bool = True

    def ask(self, ballot: Ballot) -> tuple[Question, ...]:
        s = self.settings
        if fences.lacks_reference(ballot, s.reference):
            return ()
        nonce = fences.nonce_of(ballot, self.secret)
        names = ("REPLY A", "REPLY B") if self.by_labels else ("FIRST REPLY", "SECOND REPLY")
        text = fences.fill(
            fences.template("pairwise"),
            criterion=s.criterion,
            how=self._how(nonce),
            **fences.material(ballot, names, nonce, limit=s.shown_chars, with_reference=s.reference),
        )
        asked = Message(role="user", content=text)
        if self.by_labels:
            begun = Message(role="assistant", content="Verdict:")
            return (Labels(model=s.model, messages=(asked, begun), labels=self._labels()),)
        return (Chat(model=s.model, messages=(asked,), max_new_tokens=s.max_new_tokens),)

    def read(self, ballot: Ballot, answers: Sequence[Answer]) -> Choice:
        s = self.settings
        fences.check_reference(ballot, s.reference)
        (answer,) = answers
        if self.by_labels:
            shares, evidence = label_shares(answer, self._labels(), s.min_mass)
            return Choice(margin=shares[0] - shares[1], evidence=(evidence,))
        nonce = fences.nonce_of(ballot, self.secret)
        return Choice(margin=MARGINS[verdict_line(answer, "VERDICT", nonce, self._options())])

    def _how(self, nonce: str) -> str:
        if self.by_labels:
            tie = ", C if they are equally good" if self.settings.ties else ""
            return fences.fill(fences.template("pairwise_labels"), tie=tie)
        think = fences.THINK_FIRST if self.settings.reasoning else fences.ANSWER_ONLY
        options = " or ".join(self._options())
        return fences.fill(fences.template("pairwise_words"), think=think, nonce=nonce, options=options)

    def _labels(self) -> tuple[str, ...]:
        return LETTERS if self.settings.ties else LETTERS[:2]

    def _options(self) -> tuple[str, ...]:
        return tuple(MARGINS) if self.settings.ties else tuple(MARGINS)[:2]


def open(settings: Settings, *, tools: JudgeTools) -> Pairwise:
    by_labels = reads_by_labels(settings.how, settings.model, tools)
    return Pairwise(settings, tools.secret, by_labels)
