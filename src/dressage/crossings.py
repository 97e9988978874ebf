"""What no single key of a config can know: names that point nowhere, live judges, judges that overlap."""

from collections.abc import Iterator
from typing import Literal
from urllib.parse import urlsplit

from dressage.at_hand import at_hand
from dressage.plugins import meant
from dressage.practising import practice
from dressage.protocols import ModelSettings
from dressage.records import content_hash
from dressage.settings import RunSettings
from dressage.strict_yaml import KeyPath


def crossings(run: RunSettings) -> Iterator[tuple[KeyPath, str]]:
    """What no single key can know: names that point nowhere, live judges, judges that overlap."""
    named = list(_model_names(run)) + list(_judge_models(run))
    for where, name in named:
        if name not in run.models:
            yield where, f"{name!r} is not in `models:`{meant(name, list(run.models))}"
    judged = list(_judge_names(run))
    for where, name in judged:
        if name not in run.judges:
            yield where, f"{name!r} is not in `judges:`{meant(name, list(run.judges))}"
    called = list(_tool_names(run))
    for where, name in called:
        if name not in run.tools:
            yield where, f"{name!r} is not in `tools:`{meant(name, list(run.tools))}"
    if not all(n in run.models for _, n in named) or not all(n in run.judges for _, n in judged):
        return
    if cycle := _member_cycle(run):
        yield ("judges", cycle), "is a member of itself"
        return
    yield from _twice(run)
    yield from _entries(run)
    yield from practice(run)
    yield from _drawn_elsewhere(run)
    yield from at_hand(run)
    unable = list(_capabilities(run))
    yield from unable
    if not unable:
        yield from _overlaps(run)


def _model_names(run: RunSettings) -> Iterator[tuple[KeyPath, str]]:
    yield ("policy",), run.policy
    if run.data:
        yield from ((("data", "also", i), name) for i, name in enumerate(run.data.also))
    if run.evaluate:
        if run.evaluate.policy != "trained":
            yield ("evaluate", "policy"), run.evaluate.policy
        if run.evaluate.predecessor:
            yield ("evaluate", "predecessor"), run.evaluate.predecessor
        yield from ((("evaluate", "baselines", i), name) for i, name in enumerate(run.evaluate.baselines))


def _judge_models(run: RunSettings) -> Iterator[tuple[KeyPath, str]]:
    for name, judge in run.judges.items():
        yield from ((("judges", name), asked) for asked in judge.models_asked() if asked not in LIVE)


def _tool_names(run: RunSettings) -> Iterator[tuple[KeyPath, str]]:
    for name, judge in run.judges.items():
        yield from ((("judges", name, "tools", i), tool) for i, tool in enumerate(judge.tools_called()))


def _judge_names(run: RunSettings) -> Iterator[tuple[KeyPath, str]]:
    for role, names in roles(run).items():
        section, _, key = role.partition(".")
        yield from (((section, key), name) for name in names)
    if run.judge:
        yield from ((("judge", "beside", i), name) for i, name in enumerate(run.judge.beside))
    for name, judge in run.judges.items():
        yield from ((("judges", name), member) for member in judge.members())


OWN_WORDS = ("trained", "policy", "predecessor")
"""What evaluate calls its sides; a model under such a name could not be told from them."""


def _twice(run: RunSettings) -> Iterator[tuple[KeyPath, str]]:
    """Names that would draw, judge or meet twice, and names that mean something else already."""
    lists: list[tuple[KeyPath, tuple[str, ...]]] = []
    if run.data:
        lists.append((("data", "also"), (run.policy, *run.data.also)))
    if run.judge:
        lists.append((("judge", "beside"), (run.judge.by, *run.judge.beside)))
    if run.evaluate:
        lists.append((("evaluate", "by"), run.evaluate.by))
        lists.append((("evaluate", "baselines"), run.evaluate.baselines))
        taken = (*OWN_WORDS, f"best_of_{run.evaluate.best_of}")
        yield from (
            (("evaluate", "baselines", i), f"{name!r} is what evaluate calls a side of its own; rename the model")
            for i, name in enumerate(run.evaluate.baselines)
            if name in taken
        )
        if "trained" in run.models:
            yield ("models", "trained"), "`trained` means what this run trains; rename the model"
    for where, names in lists:
        if again := sorted({n for n in names if names.count(n) > 1}):
            yield where, f"{', '.join(again)} stands twice (the policy, or judge.by, counts as one); leave it out"


LIVE = ("trained", "live", "policy")
"""Words for the adapter in training; a judge may not follow it. (A model in `models:` is frozen.)"""


def roles(run: RunSettings) -> dict[str, tuple[str, ...]]:
    """The three roles that may not be one judge: who rewards, who watches, who decides the battles."""
    return {
        "judge.by": (run.judge.by,) if run.judge else (),
        "train.watch": (run.train.watch,) if run.train and run.train.watch else (),
        "evaluate.by": run.evaluate.by if run.evaluate else (),
    }


def _member_cycle(run: RunSettings) -> str | None:
    def reaches(name: str, goal: str, seen: frozenset[str]) -> bool:
        members = run.judges[name].members()
        return goal in members or any(reaches(m, goal, seen | {m}) for m in members if m not in seen)

    return next((name for name in run.judges if reaches(name, name, frozenset({name}))), None)


def _capabilities(run: RunSettings) -> Iterator[tuple[KeyPath, str]]:
    for name, judge in run.judges.items():
        for asked in judge.models_asked():
            if asked in LIVE and asked not in run.models:
                yield (
                    ("judges", name),
                    f"asks {asked!r}, the live adapter: it would grade itself. "
                    f"Name a frozen model in `models:` (the base may judge; the report says so)",
                )
            elif unable := _unable(judge.asks_for, run.models[asked]):
                yield ("judges", name), f"asks {asked!r} ({run.models[asked].kind}){unable}"
    if run.train and not run.models[run.policy].trains:
        yield (
            ("policy",),
            f"{run.policy!r} is kind {run.models[run.policy].kind!r}, which cannot be trained; use kind: local",
        )


def _unable(asks_for: Literal["words", "embeddings", "scores"], model: ModelSettings) -> str | None:
    """What a model cannot give to a judge that asks for it, as the end of a sentence."""
    match asks_for:
        case "words":
            return None if model.chats else ", which cannot chat"
        case "embeddings":
            return None if model.embeds else " for an embedding; use kind: embedder"
        case "scores":
            return None if model.scores else " to wear a reward model, which only kind: local can"


def _entries(run: RunSettings) -> Iterator[tuple[KeyPath, str]]:
    """Each stage needs its input from somewhere."""
    if run.data is None and run.judge is not None and run.judge.input is None:
        yield ("judge",), "has no candidates: add `data:` or judge.input"
    draws = run.data is not None and run.data.per_prompt > 0
    practises = run.train is not None and run.train.trainer.learns_from == "prompts"
    if run.judge is not None and run.judge.input is None and not draws and not practises and run.data is not None:
        yield ("judge",), "has no candidates: raise data.per_prompt above 0, or give judge.input"
    if run.train is not None and run.train.input is None and run.judge is None and not practises:
        yield ("train",), "has nothing to learn from: add `judge:` or train.input"
    if run.train is not None and run.train.watch and run.data is None:
        yield ("train", "watch"), "looks at dev prompts: add `data:` with a source (per_prompt: 0 draws nothing)"
    if run.evaluate is not None and run.data is None:
        yield ("evaluate",), "has no prompts: add `data:` with a source (per_prompt: 0 draws nothing)"
    if run.evaluate is not None and run.evaluate.policy == "trained" and run.train is None:
        yield ("evaluate", "policy"), "is `trained`, but nothing trains: add `train:` or name a model"
    if not any((run.data, run.judge, run.train, run.evaluate)):
        yield (), "no stage: add at least one of data:, judge:, train:, evaluate:"


def _drawn_elsewhere(run: RunSettings) -> Iterator[tuple[KeyPath, str]]:
    """What cannot be had of a policy whose replies a server draws: log-probabilities that are this machine's own."""
    if run.train is None or getattr(run.models[run.policy], "sampler", None) is None:
        return
    if getattr(run.train.trainer, "reference", None) == "sampled":
        yield (
            ("train", "trainer", "reference"),
            f"is sampled, and the replies of {run.policy!r} are drawn by its sampler, another engine, whose "
            "log-probabilities are no reference; set reference: computed",
        )


def substance(run: RunSettings, name: str) -> frozenset[str]:
    """What a judge decides by, its models and members included. A reward model is other weights than its base."""
    judge = run.judges[name]
    bare = judge.models_asked() if judge.asks_for != "scores" else ()
    models = {f"model:{_identity(run.models[asked])}" for asked in bare}
    return frozenset().union(judge.substance(), models, *(substance(run, m) for m in judge.members()))


def _identity(model: ModelSettings) -> str:
    """Where the weights are not on this machine (yet), the settings stand for them: a config can be read before
    its models are fetched, and whoever needs them says what is missing."""
    try:
        found = model.identity()
    except (ValueError, OSError):
        return content_hash(model.model_dump(mode="json"))
    written = getattr(model, "base_url", None)
    return found if written is None else found.replace(written, _address(written), 1)


def _address(url: str) -> str:
    """One server however its address is written: hosts have no case, and some ports and a last slash go without
    saying."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{parts.hostname}:{port}{parts.path.rstrip('/')}"


def _overlaps(run: RunSettings) -> Iterator[tuple[KeyPath, str]]:
    if run.allow_shared_judges:
        return
    held = {role: {n: substance(run, n) for n in names} for role, names in roles(run).items()}
    pairs = [("judge.by", "train.watch"), ("judge.by", "evaluate.by"), ("train.watch", "evaluate.by")]
    for one, other in pairs:
        for a, has_a in held[one].items():
            for b, has_b in held[other].items():
                shared = sorted(has_a & has_b) or ([a] if a == b else [])
                if shared:
                    section, _, key = other.partition(".")
                    yield (
                        (section, key),
                        f"{b!r} shares {', '.join(shared)} with {one} {a!r}: what rewards may not also decide. "
                        'Take another, or write allow_shared_judges: "reason" (the report shows it)',
                    )
