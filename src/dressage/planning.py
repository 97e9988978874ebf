"""What a run would do: stages done or to do, prompts, draws, judgements, tokens, time and money. Opens no model."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dressage.crossings import compares
from dressage.plugins import open_kind
from dressage.records import Prompt, Split
from dressage.settings import RunSettings
from dressage.sources._columns import prompt_of
from dressage.sources._rows import deduplicated, read
from dressage.standing import configured, standings

CHARS_PER_TOKEN = 4.0
"""A rule of thumb for English: no tokenizer is opened here."""
SPEED = (60.0, 600.0)
"""Tokens a second a local model of ~100M parameters writes on two CPU cores; a GPU does far more."""
READ_SPEED = (400.0, 4000.0)
"""Tokens a second it reads in one forward pass."""


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


@dataclass(frozen=True)
class Plan:
    """The stages with their standing and their work."""

    stages: list[tuple[str, str, Work]] = field(default_factory=list)
    prompts: dict[Split, int] = field(default_factory=dict)

    def seconds(self) -> tuple[float, float]:
        """A range for the local work that is still to be done."""
        waiting = [w for _, state, w in self.stages if state != "done"]
        fast = sum(w.written / SPEED[1] + w.read / READ_SPEED[1] for w in waiting)
        slow = sum(w.written / SPEED[0] + w.read / READ_SPEED[0] for w in waiting)
        return fast, slow


def plan(settings: RunSettings, root: Path) -> Plan:
    """Reads the source, counts, and says where each stage stands."""
    prompts = _prompts(settings)
    found = Plan(prompts=dict(Counter(p.split for p in prompts)))
    state = {s.stage: s.state for s in standings(settings, root)}
    work = {
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


def _tokens(prompts: list[Prompt]) -> int:
    return int(sum(len(m.content) for p in prompts for m in p.messages) / CHARS_PER_TOKEN) + 20 * len(prompts)


def _of(prompts: list[Prompt], split: Split) -> list[Prompt]:
    return [p for p in prompts if p.split == split]


def _data(settings: RunSettings, prompts: list[Prompt]) -> Work:
    assert settings.data is not None
    training = _of(prompts, "train")
    each = settings.data.per_prompt * (1 + len(settings.data.also))
    draws = len(training) * each
    return Work(draws=draws, read=_tokens(training) * (each > 0), written=draws * settings.data.sampling.max_new_tokens)


def _judged(settings: RunSettings, name: str, items: int, tokens_each: float, work: Work) -> None:
    """Adds what a judge costs on so many judgements."""
    work.judgements += items
    asked = list(_asked(settings, name))
    orders = 2 if compares(settings, name) else 1
    work.calls += items * orders * len(asked)
    work.read += int(items * orders * len(asked) * tokens_each)
    for model in asked:
        price = getattr(settings.models[model], "price", None)
        if price is not None:
            read_cost = items * orders * tokens_each * price.read / 1e6
            most = items * orders * 512 * price.written / 1e6
            work.cost = (work.cost[0] + read_cost, work.cost[1] + read_cost + most)


def _asked(settings: RunSettings, name: str) -> Iterator[str]:
    judge = settings.judges[name]
    yield from judge.models_asked()
    for member in judge.members():
        yield from _asked(settings, member)


def _judge(settings: RunSettings, prompts: list[Prompt]) -> Work:
    assert settings.judge is not None
    work = Work()
    if settings.data is None or settings.judge.input is not None:
        return work
    training = _of(prompts, "train")
    per = settings.data.per_prompt * (1 + len(settings.data.also))
    each = _tokens(training) / max(1, len(training)) + settings.data.sampling.max_new_tokens + 80
    for name in (settings.judge.by, *settings.judge.beside):
        some = (
            len(training)
            if name == settings.judge.by
            else min(len(training), settings.judge.beside_prompts or len(training))
        )
        pairs = per * (per - 1) // 2 if compares(settings, name) else per
        _judged(settings, name, some * pairs, each, work)
    return work


def _train(settings: RunSettings, prompts: list[Prompt]) -> Work:
    """At most one pair a prompt for best against worst, every pair of candidates otherwise."""
    if settings.data is None or settings.judge is None:
        return Work()
    assert settings.train is not None
    training = _of(prompts, "train")
    if settings.train.trainer.learns_from == "prompts":
        return _practised(settings, training)
    per = settings.data.per_prompt
    pairs = len(training) * (1 if settings.judge.pairing == "best_worst" else per * (per - 1) // 2)
    each = _tokens(training) / max(1, len(training)) + settings.data.sampling.max_new_tokens
    epochs = getattr(settings.train and settings.train.trainer, "epochs", 1)
    # a pair is two sequences; forward, reference and backward weigh about four readings
    return Work(read=int(pairs * 2 * each * 4 * epochs))


def _practised(settings: RunSettings, training: list[Prompt]) -> Work:
    """A trainer that draws for itself: its draws, their grades, and about four readings of each for learning."""
    assert settings.data is not None
    assert settings.judge is not None
    assert settings.train is not None
    draws, reply = settings.train.trainer.draws(), settings.data.sampling.max_new_tokens
    prompt = _tokens(training) / max(1, len(training))
    epochs = getattr(settings.train.trainer, "epochs", 1)
    work = Work(draws=draws, written=draws * reply, read=int(draws * (prompt + reply) * (1 + 3 * epochs)))
    _judged(settings, settings.judge.by, draws, prompt + reply + 80, work)
    return work


def _evaluate(settings: RunSettings, prompts: list[Prompt]) -> Work:
    assert settings.evaluate is not None
    chosen = settings.evaluate
    held = _of(prompts, chosen.split)
    sampling = chosen.sampling or (settings.data.sampling if settings.data else None)
    assert sampling is not None
    best_of = chosen.best_of if settings.judge else 0
    turns = len(held) * chosen.per_prompt
    challengers = 1 + len(chosen.baselines) + (best_of > 0)
    draws = turns * (challengers + 1 - (best_of > 0) + best_of)
    work = Work(draws=draws, written=draws * sampling.max_new_tokens, read=_tokens(held) * (challengers + 1))
    each = _tokens(held) / max(1, len(held)) + sampling.max_new_tokens + 80
    for name in chosen.by:
        # one that grades looks at each side's reply, the predecessor's included
        _judged(settings, name, turns * (challengers + (not compares(settings, name))), each, work)
    if settings.judge:  # grades both sides, and finds the best of n
        pairs, singles = best_of * (best_of - 1) // 2, best_of + 2
        asked = pairs if compares(settings, settings.judge.by) else singles
        _judged(settings, settings.judge.by, turns * asked, each, work)
    return work
