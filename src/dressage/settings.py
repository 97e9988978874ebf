"""The sections of a run's YAML: what may be set, within which limits, in one sentence each."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from dressage.plugins import OnShelf
from dressage.protocols import JudgeSettings, ModelSettings, Sampling, SourceSettings, TrainerSettings
from dressage.records import Frozen, Split
from dressage.toolbox import ToolSettings

AnyModel = Annotated[ModelSettings, OnShelf("models")]
AnySource = Annotated[SourceSettings, OnShelf("sources")]
AnyJudge = Annotated[JudgeSettings, OnShelf("judges")]
AnyTrainer = Annotated[TrainerSettings, OnShelf("trainers")]
AnyTool = Annotated[ToolSettings, OnShelf("tools")]


def _to_learn_from(source: SourceSettings) -> SourceSettings:
    """Records somebody brings to learn from are all of the train split, unless the YAML or a column says otherwise:
    the shares that make three splits of prompts would leave a third of them unused."""
    if "split" in type(source).model_fields and "split" not in source.model_fields_set:
        return source.model_copy(update={"split": "train"})
    return source


OwnRecords = Annotated[AnySource, AfterValidator(_to_learn_from)]

Share = Annotated[float, Field(ge=0, le=1)]


class DataSection(Frozen):
    """Where prompts come from and how candidates are drawn from the policy."""

    source: AnySource
    """Where the prompts come from."""
    system: str | None = Field(None, min_length=1)
    """A system message put before every prompt that has none of its own; splits do not depend on it."""
    per_prompt: int = Field(4, ge=0, le=256)
    """Candidates drawn per training prompt; 0 only prepares prompts."""
    sampling: Sampling = Sampling()
    """How the policy and the models in `also` draw."""
    also: tuple[str, ...] = ()
    """Other models (names in `models:`) that draw as many candidates for the same prompts."""
    at_most: dict[Split, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """Caps on prompts per split, e.g. {train: 200, dev: 60, test: 150}; which ones stay is decided by id."""
    max_failures: Share = 0.1
    """A larger share of draws that give no reply stops the stage."""
    shard_prompts: int = Field(32, ge=1, le=100_000)
    """Prompts per shard: what a crash can cost, and what shares a batch."""


class Floors(Frozen):
    """What a judge must be worth before its labels are: the bad end of each 95 % interval has to clear its floor, so a
    few pairs clear none; null asks for nothing."""

    pairs: OwnRecords | None = None
    """Pairs that people have labelled: columns chosen and rejected, or two replies and who won; ties are allowed."""
    at_most: int = Field(200, ge=1)
    """So many of them are asked about; which ones is decided by their content."""
    agreement: Share | None = 0.5
    """The judge says what people say in more than this share of the pairs; its ties count ½, and guessing gives ½."""
    kappa: float | None = Field(None, ge=-1, lt=1)
    """Cohen's κ with the labels is above this; guessing gives 0."""
    consistency: Share | None = 0.5
    """Both orders name the same winner in more than this share of the pairs; for judges that compare."""
    failures: Share | None = 0.1
    """It fails on less than this share of the pairs."""
    worst_tactic: float | None = Field(0.25, ge=0, le=1)
    """No tactic of the red team gains this much, in units of the grade or of p(first) − p(second)."""


class JudgeSection(Frozen):
    """Who labels the candidates, and how labels become preferences."""

    by: str
    """The training judge, a name in `judges:`."""
    beside: tuple[str, ...] = ()
    """Judges that are asked as well and recorded, but make no preference."""
    beside_prompts: int | None = Field(None, ge=1)
    """Ask `beside` on the first so many prompts only; null: on all."""
    input: OwnRecords | None = None
    """Candidates of your own instead of this run's data stage; all are of the train split unless `split:` or a column
    says otherwise, and only those of the train split make preferences."""
    pairing: Literal["best_worst", "all_pairs"] = "best_worst"
    """Which candidates of a prompt make pairs."""
    min_margin: Share = 0.0
    """A pair must differ by more than this, in units of the grade or of p(first) − p(second)."""
    max_failures: Share = 0.1
    """A larger share of failed judgements stops the stage."""
    broken_response: Literal["lowest", "worst_of_prompt"] = "lowest"
    """The grade of an empty, garbled or over-long response, which no judge is asked about: 0, or the lowest
    grade any other candidate of its prompt got."""
    max_chars: int = Field(20_000, ge=1)
    """A response over this many characters counts as broken."""
    floors: Floors | None = None
    """What the judge must clear before it labels anything (and what `dressage audit` says of it); null: nothing."""
    shard_prompts: int = Field(32, ge=1, le=100_000)
    """Prompts per shard."""


class TrainSection(Frozen):
    """What learns from the preferences."""

    trainer: AnyTrainer
    """What learns, and how fast."""
    input: OwnRecords | None = None
    """Pairs (or examples) of your own instead of this run's judge stage; all are of the train split unless `split:` or
    a column says otherwise, and only those of the train split are learnt from."""
    opponent: Literal["reference"] | None = None
    """With a judge that compares and a trainer that draws for itself: the grade of a reply is the probability that
    it beats one of the policy training starts from."""
    watch: str | None = None
    """A judge that looks on during training to notice over-optimisation; it never rewards."""
    watch_prompts: int = Field(32, ge=1)
    """How many dev prompts the watch judge sees, each time it looks."""
    max_failures: Share = 0.1
    """A larger share of the watch judge's failed judgements, in any look, stops the stage; so does a larger share of
    draws that came to nothing, over a training that draws for itself."""
    max_unfit: Share = 0.05
    """A larger share of rows that do not fit the context stops the stage; none is ever cut."""


class Guards(Frozen):
    """What must not get worse while the preference rate rises; null leaves a guard out."""

    length_within: float | None = Field(0.25, ge=0)
    """Mean reply length in tokens (in characters, where replies of a side have none) may change by at most this share,
    either way."""
    eos_may_fall_by: float | None = Field(0.0, ge=0, le=1)
    """The share of replies that end by themselves may fall by at most this."""
    distinct_2_at_least: float | None = Field(0.85, ge=0)
    """Distinct bigrams over all bigrams, as a share of the predecessor's."""
    opener_may_rise_by: float | None = Field(0.15, ge=0, le=1)
    """The commonest five-word opener may be in at most this much more of the replies."""
    kl_at_most: float | None = Field(None, gt=0)
    """KL(policy ‖ base) in nats per reply, on the policy's own replies."""
    nll_within: tuple[float, float] | None = None
    """Relative change of the mean NLL per token under the base: (lowest, highest), e.g. [-0.2, 0.1]."""

    @model_validator(mode="after")
    def _ends_in_order(self) -> Self:
        if self.nll_within is not None and self.nll_within[0] > self.nll_within[1]:
            low, high = self.nll_within
            raise ValueError(f"nll_within is (lowest, highest), and {low:g} is above {high:g}; swap them")
        return self


class EvaluateSection(Frozen):
    """Who meets whom in blind battles, on which prompts, and who decides."""

    by: Annotated[tuple[str, ...], Field(min_length=1)]
    """The test judges, names in `judges:`; each decides every battle, none is pooled with another."""
    policy: str = "trained"
    """`trained`: what this run trained. Or a name in `models:`."""
    predecessor: str | None = None
    """A name in `models:`; null: the model this run started from."""
    baselines: tuple[str, ...] = ()
    """Further models (names in `models:`) that meet the predecessor."""
    best_of: int = Field(4, ge=0, le=64)
    """Best of n replies of the predecessor by the training judge, as a baseline; 0 leaves it out."""
    split: Split = "test"
    """Whose prompts are played on: choose settings on dev, and look at test in final runs only."""
    per_prompt: int = Field(1, ge=1, le=64)
    """Replies each side draws per prompt; they meet in pairs."""
    sampling: Sampling | None = None
    """The same for every side; null: as in `data`."""
    tie_margin: Share = 0.0
    """Grades that differ by no more than this are a tie."""
    guards: Guards = Guards()
    """What must not get worse."""
    max_failures: Share = 0.1
    """A larger share of failed judgements stops the stage."""
    max_chars: int = Field(20_000, ge=1)
    """A response over this many characters counts as broken."""
    shown: int = Field(6, ge=0)
    """Sample battles drawn by seed for the report."""
    shard_prompts: int = Field(32, ge=1, le=100_000)
    """Prompts per shard."""


class RunSettings(Frozen):
    """One YAML file: one run."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")
    """The name of the run's folder."""
    seed: int = Field(0, ge=0)
    """Every draw's seed is made from this one and from names."""
    policy: str
    """The model that learns, a name in `models:`."""
    models: dict[str, AnyModel]
    """Name → model; whoever needs one names it."""
    tools: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")], AnyTool] = Field(default_factory=dict)
    """Name → tool; agentic judges name those that they may call."""
    judges: dict[str, AnyJudge] = Field(default_factory=dict)
    """Name → judge; three of them have a role: judge.by, train.watch, evaluate.by."""
    data: DataSection | None = None
    """Prompts and candidates; null: this run brings its own."""
    judge: JudgeSection | None = None
    """Labels and preferences; null: nothing is labelled."""
    train: TrainSection | None = None
    """What learns; null: nothing does."""
    evaluate: EvaluateSection | None = None
    """Blind battles; null: none."""
    allow_shared_judges: str | None = None
    """Why train, watch and test judges may overlap; shown in the report."""
