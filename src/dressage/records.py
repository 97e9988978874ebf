"""The frozen records that stages hand to one another; every boundary of a run is one of these."""

import hashlib
import json
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Role = Literal["system", "user", "assistant"]
Split = Literal["train", "dev", "test"]
Finish = Literal["stop", "length"]
Winner = Literal["first", "second", "tie"]
Side = Literal["infrastructure", "response"]
Outcome = Literal["a", "b", "tie"]


def content_hash(content: object) -> str:
    """Sixteen hex digits that name `content`: sha256 over its canonical JSON (sorted keys, no blanks)."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Frozen(BaseModel):
    """The base of every record and every setting: immutable, and a field it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Record(Frozen):
    """A row of a parquet table in a run's folder; `table` is the stem of its files."""

    table: ClassVar[str]
    unhashed: ClassVar[frozenset[str]] = frozenset()
    """Fields that may differ between two equal runs (time, money), so no hash looks at them."""

    version: Literal[1] = 1

    def row_hash(self) -> str:
        return content_hash(self.model_dump(mode="json", exclude=set(self.unhashed)))


class Message(Frozen):
    role: Role
    content: str


class Usage(Frozen):
    """Tokens read and written, and what they cost in the currency of the price table."""

    read: int = 0
    written: int = 0
    cost: float = 0.0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(read=self.read + other.read, written=self.written + other.written, cost=self.cost + other.cost)


class Prompt(Record):
    """What the policy is asked. Made by data, read by all. The id is the hash of its messages."""

    table: ClassVar[str] = "prompts"

    id: str
    messages: tuple[Message, ...]
    source: str
    split: Split
    tags: tuple[str, ...] = ()
    reference: str | None = None
    extra: dict[str, JsonValue] = Field(default_factory=dict)

    @classmethod
    def of(cls, messages: tuple[Message, ...], **fields: Any) -> Self:
        """A prompt under the id its messages give it."""
        return cls(id=content_hash([m.model_dump() for m in messages]), messages=messages, **fields)


class Candidate(Record):
    """One response to a prompt. Made by data and evaluate, read by judge and train.

    `logprobs` are those of `token_ids` under the distribution they were drawn from (temperature and top-p
    applied), `logprobs_at_1` at temperature 1 from the same logits, in nats; both null where a model
    gives none, and a trainer that needs them then refuses. `mask` is True where the policy wrote the token.
    """

    table: ClassVar[str] = "candidates"

    id: str
    prompt_id: str
    messages: tuple[Message, ...]
    token_ids: tuple[int, ...] = ()
    mask: tuple[bool, ...] = ()
    logprobs: tuple[float, ...] | None = None
    logprobs_at_1: tuple[float, ...] | None = None
    model: str
    """Fingerprint of the model that wrote it, or `given` where a user brought it."""
    index: int = 0
    seed: int = 0
    temperature: float | None = None
    top_p: float | None = None
    finish: Finish | None = None

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """A candidate under the id that its prompt, text and origin give it."""
        named = ("prompt_id", "model", "index", "seed", "temperature", "top_p")
        texts = [m.content for m in fields["messages"]]
        return cls(id=content_hash([texts, *(fields.get(name) for name in named)]), **fields)

    @property
    def text(self) -> str:
        return self.messages[-1].content


class Ballot(Frozen):
    """What a judge is shown. No field could hold a model's name: blindness is a type."""

    messages: tuple[Message, ...]
    texts: tuple[str, ...]
    reference: str | None = None

    def swapped(self) -> "Ballot":
        return self.model_copy(update={"texts": self.texts[::-1]})


class Vote(Frozen):
    """One reading of one judge: `margin` is p(first) − p(second) in the order of the verdict."""

    margin: float = Field(ge=-1, le=1)
    shown: Literal["as given", "swapped"]
    words: str = ""

    def swapped(self) -> "Vote":
        other: Literal["as given", "swapped"] = "swapped" if self.shown == "as given" else "as given"
        return self.model_copy(update={"margin": -self.margin, "shown": other})


class Checked(Frozen):
    """One call of a tool that a judge made."""

    claim: str
    """What it was to decide, in the judge's words."""
    tool: str
    arguments: str
    """A JSON object; `@first`, `@second` and `@reply` stand for the texts in the order shown, `@prompt` for the last
    user message."""
    result: str
    failed: str | None = None
    """Why it gave nothing, and is evidence for neither side."""
    cited: bool = False
    """Whether the judge named it among what its verdict rests on."""
    seconds: float = 0.0


class Evidence(Record):
    """One call of a tool behind a label: see Checked. Made by judge and evaluate, read by people."""

    table: ClassVar[str] = "evidence"
    unhashed: ClassVar[frozenset[str]] = frozenset({"seconds"})

    prompt_id: str
    candidate_ids: tuple[str, ...]
    """Those that were judged, in the order in which the judge saw them."""
    judge: str
    number: int
    """Its place among the calls of this judgement, from 1."""
    claim: str
    tool: str
    arguments: str
    result: str
    failed: str | None = None
    cited: bool = False
    seconds: float = 0.0


class Verdict(Record):
    """A judge's choice between two candidates of one prompt. `margin` is p(first) − p(second).

    A margin rather than a probability, because −x is an exact involution in floating point and 1 − p is not.
    """

    table: ClassVar[str] = "verdicts"
    unhashed: ClassVar[frozenset[str]] = frozenset({"usage"})

    prompt_id: str
    first: str
    second: str
    judge: str
    winner: Winner
    margin: float = Field(ge=-1, le=1)
    votes: tuple[Vote, ...] = ()
    consistent: bool = True
    """False where the two orders disagree; such a verdict is a tie and makes no preference."""
    evidence: tuple[str, ...] = ()
    usage: Usage = Usage()

    @property
    def p(self) -> float:
        """Probability that the first is preferred."""
        return (1 + self.margin) / 2

    def swapped(self) -> "Verdict":
        other: dict[Winner, Winner] = {"first": "second", "second": "first", "tie": "tie"}
        return self.model_copy(
            update={
                "first": self.second,
                "second": self.first,
                "winner": other[self.winner],
                "margin": -self.margin,
                "votes": tuple(v.swapped() for v in self.votes),
            }
        )


class Grade(Record):
    """A judge's score of one candidate in [0, 1]; `raw` is the judge's own number, if it has one."""

    table: ClassVar[str] = "grades"
    unhashed: ClassVar[frozenset[str]] = frozenset({"usage"})

    prompt_id: str
    candidate_id: str
    judge: str
    score: float = Field(ge=0, le=1)
    criteria: dict[str, float] = Field(default_factory=dict)
    raw: float | None = None
    normalised: str = ""
    """How `raw` became `score`, or the named rule that graded a broken response."""
    words: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    usage: Usage = Usage()


class Failure(Record):
    """A judgement (or a draw) that gave no label: what was asked, why, and whose failure it is.

    `infrastructure` failures are left out. A `response` failure is the candidate's own: it gets the grade
    of a named rule and loses its pairs. Neither is ever a number from the judge.
    """

    table: ClassVar[str] = "failures"

    prompt_id: str
    candidate_ids: tuple[str, ...]
    judge: str
    side: Side
    reason: str
    detail: str = ""


class Preference(Record):
    """A pair to learn from: the ids of two candidates of one prompt. Made by judge, read by train."""

    table: ClassVar[str] = "preferences"

    prompt_id: str
    chosen: str
    rejected: str
    margin: float = Field(ge=0, le=1)
    votes: int = 1
    agreed: int = 1


class Checkpoint(Record):
    """A trained adapter: where it lies in the run's folder, what it stands on, the hash of every file.

    The files in `beside` name the run and the folder of the base, and `parent` is a path: a run of another name or
    place trains the same adapter.
    """

    table: ClassVar[str] = "checkpoints"
    unhashed: ClassVar[frozenset[str]] = frozenset({"parent", "beside"})

    adapter: str
    base: str
    parent: str | None = None
    step: int
    config: str = ""
    """The hash of peft's settings without the base's name."""
    files: dict[str, str]
    beside: dict[str, str] = Field(default_factory=dict)


class Battle(Record):
    """One blind comparison of two named sides on one prompt; `margin` is p(a) − p(b), null if unjudged.

    `broken` names the sides whose own response failed, so the rate can be shown with and without them.
    """

    table: ClassVar[str] = "battles"

    prompt_id: str
    a: str
    b: str
    candidate_a: str
    candidate_b: str
    judge: str
    outcome: Outcome | None
    margin: float | None = Field(default=None, ge=-1, le=1)
    broken: tuple[Literal["a", "b"], ...] = ()
    style: dict[str, float] = Field(default_factory=dict)


class Trace(Record):
    """What the frozen base thinks of a reply: summed log-probabilities in nats, by evaluate.

    `own` and `base` are under the writer and the base at the sampling temperature, both over the whole vocabulary by
    the same call (their difference, on the policy's own replies, estimates KL); null where there is none (greedy,
    endpoints). `base_at_1` is at temperature 1.
    """

    table: ClassVar[str] = "traces"

    candidate_id: str
    side: str
    tokens: int
    own: float | None = None
    base: float | None = None
    base_at_1: float


class Measure(Record):
    """A number with its uncertainty: a 95 % interval (null where not identified), over n units."""

    table: ClassVar[str] = "measures"

    name: str
    of: str
    """Whose number: `policy`, `predecessor`, `best_of_4`, a run's stage …"""
    by: str = ""
    """The judge, where one decided."""
    value: float
    low: float | None = None
    high: float | None = None
    n: int


class GateResult(Record):
    """A metric of both sides against its limit."""

    table: ClassVar[str] = "gates"

    metric: str
    value: float
    baseline: float | None = None
    limit: str
    decision: Literal["held", "broken", "inconclusive"]
