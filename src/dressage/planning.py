"""What a run would do: stages done or to do, prompts, draws, judgements, tokens, time and money. Opens no model."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dressage.plugins import open_kind
from dressage.practising import compares, enough
from dressage.protocols import Sampling
from dressage.records import Candidate, Prompt, Split
from dressage.settings import RunSettings
from dressage.sources._columns import candidate_of, example_of, pair_of, prompt_of
from dressage.sources._rows import deduplicated, read
from dressage.standing import configured, foreseen

CHARS_PER_TOKEN = 4.0
"""A rule of thumb for English: no tokenizer is opened here."""
SPEED = (60.0, 600.0)
"""Tokens a second a local model of ~100M parameters writes on two CPU cores; a GPU does far more."""
READ_SPEED = (400.0, 4000.0)
"""Tokens a second it reads in one forward pass."""
AROUND = 80
"""Tokens of a judge's own words around what it is shown."""
LEARNING = 4
"""Readings that a pass of learning weighs: forward, reference and backward."""


@dataclass
class Work:
    """What a stage would ask for: (lowest, highest) where the answer depends on what is drawn."""

    draws: int = 0
    judgements: int = 0
    calls: int = 0
    """Questions to judge models; rules and Python functions ask none."""
    read: int = 0
    written: int = 0
    cost: tuple[float, float] = (0.0, 0.0)
    seconds: tuple[float, float] = (0.0, 0.0)
    """Fastest and slowest, of what this machine computes: another's answers are waited for, not computed."""

    def add(self, settings: RunSettings, model: str, *, read: float, written: float) -> None:
        """Tokens that a model reads, and writes at most; at its price, or in time where it runs here."""
        self.read += int(read)
        self.written += int(written)
        if "price" not in type(settings.models[model]).model_fields:
            fast, slow = (written / SPEED[i] + read / READ_SPEED[i] for i in (1, 0))
            self.seconds = (self.seconds[0] + fast, self.seconds[1] + slow)
        elif (price := getattr(settings.models[model], "price", None)) is not None:
            least, most = price.read * read / 1e6, (price.read * read + price.written * written) / 1e6
            self.cost = (self.cost[0] + least, self.cost[1] + most)


@dataclass(frozen=True)
class Plan:
    """The stages with their standing and their work."""

    stages: list[tuple[str, str, Work]] = field(default_factory=list)
    prompts: dict[Split, int] = field(default_factory=dict)

    def seconds(self) -> tuple[float, float]:
        """A range for the local work that is still to be done."""
        waiting = [w for _, state, w in self.stages if state != "done"]
        return sum(w.seconds[0] for w in waiting), sum(w.seconds[1] for w in waiting)


def plan(settings: RunSettings, root: Path) -> Plan:
    """Reads the sources, counts, and says where each stage stands."""
    for judge in settings.judges.values():
        judge.content()  # a file that is not there is said now
    prompts = _prompts(settings)
    found = Plan(prompts=dict(Counter(p.split for p in prompts)))
    enough(settings, found.prompts)
    state = {s.stage: s.state for s in foreseen(settings, root)}
    work: dict[str, Callable[[], Work]] = {
        "data": lambda: _data(settings, prompts),
        "judge": lambda: _judge(settings, prompts),
        "train": lambda: _train(settings, prompts),
        "evaluate": lambda: _evaluate(settings, prompts),
    }
    found.stages.extend((stage, state[stage], work[stage]()) for stage in configured(settings))
    return found


def _prompts(settings: RunSettings) -> list[Prompt]:
    if settings.data is None:
        return []
    made, _ = deduplicated(read(settings.data.source, open_kind(settings.data.source), convert=prompt_of).made)
    taken: Counter[str] = Counter()
    kept = []
    for prompt in sorted(made, key=lambda p: p.id):
        if taken[prompt.split] < settings.data.at_most.get(prompt.split, len(made)):
            taken[prompt.split] += 1
            kept.append(prompt)
    return kept


# ---------------------------------------------------------------- tokens


def _tokens(prompts: Sequence[Prompt]) -> int:
    return int(sum(len(m.content) for p in prompts for m in p.messages) / CHARS_PER_TOKEN) + 20 * len(prompts)


def _mean(prompts: Sequence[Prompt]) -> float:
    return _tokens(prompts) / max(1, len(prompts))


def _reply(reply: Candidate) -> float:
    return len(reply.text) / CHARS_PER_TOKEN


def _of(prompts: Sequence[Prompt], split: Split) -> list[Prompt]:
    return [p for p in prompts if p.split == split]


def _sampling(settings: RunSettings) -> Sampling:
    return settings.data.sampling if settings.data else Sampling()


# ---------------------------------------------------------------- draws and judgements


def _draw(
    work: Work, settings: RunSettings, model: str, prompts: Sequence[Prompt], each: int, *, sampling: Sampling
) -> None:
    """`each` replies of a model to every prompt; a model of this machine reads a prompt once for all of them."""
    local = "price" not in type(settings.models[model]).model_fields
    draws = len(prompts) * each
    work.draws += draws
    readings = min(each, 1) if local else each
    work.add(settings, model, read=_tokens(prompts) * readings, written=draws * sampling.max_new_tokens)


def _ask(work: Work, settings: RunSettings, name: str, items: int, tokens_each: float) -> None:
    """What a judge and its members ask on so many judgements; a comparing one in both orders."""
    work.judgements += items
    orders = 2 if compares(settings, name) else 1
    for judge in _with_members(settings, name):
        for model in settings.judges[judge].models_asked():
            gives = settings.models[model].gives_labels()
            questions, words = settings.judges[judge].asking(by_labels=gives)
            calls = items * orders * questions
            work.calls += calls
            work.add(settings, model, read=calls * tokens_each, written=calls * words)


def _with_members(settings: RunSettings, name: str) -> list[str]:
    return [name, *(m for member in settings.judges[name].members() for m in _with_members(settings, member))]


def _pairs(n: int) -> int:
    return n * (n - 1) // 2


# ---------------------------------------------------------------- stage by stage


def _data(settings: RunSettings, prompts: Sequence[Prompt]) -> Work:
    assert settings.data is not None
    work, training = Work(), _of(prompts, "train")
    for model in (settings.policy, *settings.data.also):
        _draw(work, settings, model, training, settings.data.per_prompt, sampling=settings.data.sampling)
    return work


def _judge(settings: RunSettings, prompts: Sequence[Prompt]) -> Work:
    """Every candidate graded, or every pair of one prompt compared; the judges beside on the first prompts."""
    assert settings.judge is not None
    work, chosen = Work(), settings.judge
    counts, each = _candidates(settings, prompts)
    for name in (chosen.by, *chosen.beside):
        some = counts if name == chosen.by else counts[: chosen.beside_prompts]
        items = sum(_pairs(n) if compares(settings, name) else n for n in some)
        _ask(work, settings, name, items, each + AROUND)
    return work


def _candidates(settings: RunSettings, prompts: Sequence[Prompt]) -> tuple[list[int], float]:
    """How many candidates each prompt has, and the tokens of a prompt with one of them."""
    assert settings.judge is not None
    if settings.judge.input is not None:
        made = read(settings.judge.input, open_kind(settings.judge.input), convert=candidate_of).made
        rows = list({candidate.id: (prompt, candidate) for prompt, candidate in made}.values())
        each = sum(_mean([prompt]) + _reply(candidate) for prompt, candidate in rows) / len(rows)
        return list(Counter(prompt.id for prompt, _ in rows).values()), each
    if settings.data is None:
        return [], 0.0
    training, per = _of(prompts, "train"), settings.data.per_prompt * (1 + len(settings.data.also))
    return [per] * len(training) if per else [], _mean(training) + settings.data.sampling.max_new_tokens


def _train(settings: RunSettings, prompts: Sequence[Prompt]) -> Work:
    assert settings.train is not None
    work, trainer = Work(), settings.train.trainer
    epochs = getattr(trainer, "epochs", 1)
    if trainer.learns_from == "prompts":
        _practise(work, settings, _of(prompts, "train"))
    else:
        work.add(settings, settings.policy, read=_lessons(settings, prompts) * LEARNING * epochs, written=0)
    if settings.train.watch:
        dev = _of(prompts, "dev")[: settings.train.watch_prompts]
        looks = 1 + _looks(settings)
        _draw(work, settings, settings.policy, dev, 1 + looks, sampling=_sampling(settings))
        sides = 1 if compares(settings, settings.train.watch) else 2
        each = _mean(dev) + _sampling(settings).max_new_tokens + AROUND
        _ask(work, settings, settings.train.watch, len(dev) * looks * sides, each)
    return work


def _looks(settings: RunSettings) -> int:
    """How often the watch judge looks while a trainer that draws for itself learns."""
    assert settings.train is not None
    alarms = getattr(settings.train.trainer, "alarms", None)
    return int(settings.train.trainer.rounds() // alarms.watch_every) if alarms else 0


def _lessons(settings: RunSettings, prompts: Sequence[Prompt]) -> float:
    """Tokens of one pass over what is learnt from: rows of the user's own, or at most a pair a prompt for best
    against worst, every pair of candidates otherwise; a pair is two sequences."""
    assert settings.train is not None
    if (own := settings.train.input) is not None:
        if settings.train.trainer.learns_from == "pairs":
            pairs = read(own, open_kind(own), convert=pair_of).made
            return sum(2 * _mean([prompt]) + _reply(won) + _reply(lost) for prompt, won, lost, _ in pairs)
        examples = read(own, open_kind(own), convert=example_of).made
        return sum(_mean([prompt]) + _reply(reply) for prompt, reply in examples)
    if settings.judge is None:
        return 0.0
    counts, each = _candidates(settings, prompts)
    return sum(2 * each * (_pairs(n) if settings.judge.pairing == "all_pairs" else min(1, _pairs(n))) for n in counts)


def _practise(work: Work, settings: RunSettings, training: Sequence[Prompt]) -> None:
    """A trainer that draws for itself: its draws, their grades, and what learning from each of them reads."""
    assert settings.data is not None
    assert settings.judge is not None
    assert settings.train is not None
    draws, reply = settings.train.trainer.draws(), settings.data.sampling.max_new_tokens
    whole = _mean(training) + reply
    epochs = getattr(settings.train.trainer, "epochs", 1)
    work.draws += draws
    work.add(settings, settings.policy, read=draws * whole * (1 + (LEARNING - 1) * epochs), written=draws * reply)
    _ask(work, settings, settings.judge.by, draws, whole + AROUND)


def _evaluate(settings: RunSettings, prompts: Sequence[Prompt]) -> Work:
    assert settings.evaluate is not None
    work, chosen = Work(), settings.evaluate
    held, sampling = _of(prompts, chosen.split), chosen.sampling or _sampling(settings)
    predecessor = chosen.predecessor or settings.policy
    best_of = chosen.best_of if settings.judge else 0
    policy = settings.policy if chosen.policy == "trained" else chosen.policy
    for model, n in (*((side, 1) for side in (policy, predecessor, *chosen.baselines)), (predecessor, best_of)):
        _draw(work, settings, model, held, n * chosen.per_prompt, sampling=sampling)
    turns, challengers = len(held) * chosen.per_prompt, 1 + len(chosen.baselines) + (best_of > 0)
    each = _mean(held) + sampling.max_new_tokens + AROUND
    for name in chosen.by:
        # one that grades looks at each side's reply, the predecessor's included
        _ask(work, settings, name, turns * (challengers + (not compares(settings, name))), each)
    if settings.judge:  # grades both sides, and finds the best of n
        asked = _pairs(best_of) if compares(settings, settings.judge.by) else best_of + 2
        _ask(work, settings, settings.judge.by, turns * asked, each)
    return work
