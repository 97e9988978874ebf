"""What is asked and what comes back: of a model words, label probabilities, vectors, scores; of a tool its result."""

from typing import Literal

from pydantic import Field, JsonValue

from dressage.records import Finish, Frozen, Message, Usage


class Chat(Frozen):
    """Ask a model for words."""

    model: str
    messages: tuple[Message, ...]
    max_new_tokens: int = 512
    temperature: float = 0.0
    sample: int = 0


class Labels(Frozen):
    """Ask a model for the next-token probabilities of labels: one forward pass."""

    model: str
    messages: tuple[Message, ...]
    labels: tuple[str, ...]


class Embed(Frozen):
    """Ask an embedding model for a vector."""

    model: str
    text: str


class Scalar(Frozen):
    """Ask for the score of a reply by a reward model on these weights: one forward pass."""

    model: str
    messages: tuple[Message, ...]
    """The prompt, then the reply as the assistant's turn."""
    adapter: str
    """The folder of the reward model: an adapter with its score head."""


class Call(Frozen):
    """Ask a tool of the run; no model takes part."""

    tool: str
    """Its name in `tools:`."""
    arguments: str
    """A JSON object."""


Question = Chat | Labels | Embed | Scalar | Call


class Completion(Frozen):
    """A model's reply. Log-probabilities in nats, one for each token id (see records.Candidate)."""

    text: str
    finish: Finish
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] | None = None
    logprobs_at_1: tuple[float, ...] | None = None
    usage: Usage = Usage()
    seconds: float = 0.0
    """Wall time from the question to the last byte, further attempts included, where the model tells; else 0."""


class Distribution(Frozen):
    """Next-token probabilities of the offered labels, summed over spellings, not renormalised."""

    probabilities: dict[str, float]
    usage: Usage = Usage()

    @property
    def mass(self) -> float:
        """How much of the distribution the labels hold; a small mass is an unreadable answer."""
        return sum(self.probabilities.values())


class Vector(Frozen):
    """An embedding of unit length."""

    values: tuple[float, ...]


SCORE_HEAD, SCORE_SCALE = "score_head.safetensors", "score_scale.json"
"""What makes an adapter folder a reward model: `weight` and `bias` of its linear head, and a ScoreScale."""


class ScoreScale(Frozen):
    """How far the scores of a reward model spread; their mean is 0, by its head's bias."""

    deviation: float = Field(gt=0)
    """Standard deviation over the replies it was trained on: logistic(score / deviation) lies in (0, 1)."""
    replies: int = Field(ge=1)
    """How many those were."""


class Score(Frozen):
    """What a reward model makes of a reply, centred on its training replies, and by what to divide it."""

    raw: float
    deviation: float
    usage: Usage = Usage()


class Trouble(Frozen):
    """Why a model gave no answer; whoever asked makes a Failure of it."""

    reason: str
    detail: str = ""


Why = Literal["arguments", "unknown tool", "impossible", "refused", "deadline", "flood", "program", "crashed"]
"""Why a call gave nothing: bad arguments; a tool that is not there; a thing that cannot be computed (1/0); no safe
place to run it; out of time; too much output; the program that was run raised or was killed; our own bug."""


class Result(Frozen):
    """What a call came to. One that failed is evidence of nothing, for neither side."""

    text: str
    """What a reader is shown; of a call that failed, what went wrong and what to do."""
    data: dict[str, JsonValue] = Field(default_factory=dict)
    """The same for a program: numbers, places, what held."""
    seconds: float = 0.0
    """Wall time; two equal calls differ in nothing else."""
    truncated: bool = False
    """True where `text` is not all there was."""
    failed: Why | None = None


Answer = Completion | Distribution | Vector | Score | Result
