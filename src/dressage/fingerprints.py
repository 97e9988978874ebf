"""What a stage's output depends on: settings, seed, inputs, code and library versions, files by content."""

import json
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, get_args

from pydantic import JsonValue

from dressage.protocols import Settings
from dressage.settings import RunSettings
from dressage.store import Manifest

Stage = Literal["data", "judge", "train", "evaluate"]
STAGES: tuple[Stage, ...] = get_args(Stage)

CODE: Mapping[Stage, int] = {"data": 1, "judge": 2, "train": 2, "evaluate": 3}
"""Raised when the meaning of a stage changes; editing a comment does not redo a week of labelling."""

LIBRARIES: Mapping[Stage, tuple[str, ...]] = {
    "data": ("torch", "transformers"),
    "judge": ("torch", "transformers"),
    "train": ("torch", "transformers", "peft", "trl", "accelerate"),
    "evaluate": ("torch", "transformers", "peft"),
}
"""The libraries whose version may change a stage's numbers, where it runs a model of ours."""

WITHOUT_TORCH = frozenset({"endpoint", "scripted"})
"""Kinds of models that no library here computes: labels bought from an endpoint outlive an upgrade of torch."""

QUIET = frozenset({"max_failures", "max_unfit", "floors", "shown", "report_to", "save_every"})
"""Settings that change no row: how much may fail, what a judge must be worth, what a report shows, where metrics also
go, how often is saved."""


def inputs_of(settings: RunSettings, stage: Stage) -> tuple[Stage, ...]:
    """The stages whose output a stage reads."""
    match stage:
        case "data":
            return ()
        case "judge":
            return ("data",) if settings.judge and settings.judge.input is None else ()
        case "train":
            assert settings.train is not None
            needed: list[Stage] = []
            if settings.data:  # also where rows are the user's own: what is held out is not learnt from
                needed.append("data")
            labelled = settings.train.input is None and settings.train.trainer.learns_from != "prompts"
            return (*needed, *(("judge",) if labelled else ()))
        case "evaluate":
            assert settings.evaluate is not None
            return ("data", *(("train",) if settings.evaluate.policy == "trained" else ()))


def parts_of(settings: RunSettings, stage: Stage, inputs: Mapping[Stage, Manifest]) -> dict[str, JsonValue]:
    """Everything the stage's output is a function of, as plain JSON; its hash is the fingerprint."""
    models = sorted(models_of(settings, stage))
    ours = [name for name in models if settings.models[name].kind not in WITHOUT_TORCH]
    judges = sorted(_judges(settings, stage))
    called = sorted({tool for name in judges for tool in settings.judges[name].tools_called()})
    return {
        "stage": stage,
        "code": CODE[stage],
        "seed": settings.seed,
        "round": 0,
        "settings": _section(settings, stage),
        "models": {n: _content(settings.models[n]) for n in models},
        "judges": {n: _content(settings.judges[n]) for n in judges},
        **({"tools": {n: _content(settings.tools[n]) for n in called}} if called else {}),
        "inputs": {name: manifest.rows_hash for name, manifest in inputs.items()},
        "libraries": {name: _version(name) for name in LIBRARIES[stage]} if ours else {},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _section(settings: RunSettings, stage: Stage) -> dict[str, JsonValue]:
    section = getattr(settings, stage)
    found: dict[str, JsonValue] = _plain(section.model_dump(mode="json"))
    for key in ("source", "input", "trainer"):
        kind = getattr(section, key, None)
        if isinstance(kind, Settings):
            found[key] = _plain(_content(kind))
    if stage == "evaluate" and settings.data:
        found["sampling"] = found["sampling"] or settings.data.sampling.model_dump(mode="json")
        found["policy"] = [found["policy"], settings.policy]
    if stage == "evaluate" and settings.judge:  # grades both sides and chooses the best of n
        found["reward"] = {"by": settings.judge.by, "broken_response": settings.judge.broken_response}
    if stage == "judge" and settings.judge and settings.judge.input is not None:
        found["preferences_from"] = "train"
    if stage == "train" and settings.train and settings.data and (settings.train.watch or _practises(settings)):
        found["sampling"] = settings.data.sampling.model_dump(mode="json")
    if stage == "train" and settings.judge and _practises(settings):
        graded = settings.judge
        found["reward"] = {
            "by": graded.by,
            "broken_response": graded.broken_response,
            "max_chars": graded.max_chars,
        }
    if stage in ("data", "train"):
        found["policy"] = settings.policy
    return found


def _practises(settings: RunSettings) -> bool:
    """Whether the trainer draws for itself, and its draws are graded by judge.by."""
    return settings.train is not None and settings.train.trainer.learns_from == "prompts"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if k not in QUIET}
    return value


def _content(kind: Settings) -> Any:
    content = getattr(kind, "content", None)
    body = content() if content else kind.model_dump(mode="json")
    return {"code": type(kind).code_version, "content": json.loads(json.dumps(body))}


def _judges(settings: RunSettings, stage: Stage) -> set[str]:
    named: list[str] = []
    if stage == "judge" and settings.judge:
        named = [settings.judge.by, *settings.judge.beside]
    if stage == "train" and settings.train:
        named = [settings.train.watch] if settings.train.watch else []
        named += [settings.judge.by] if settings.judge and _practises(settings) else []
    if stage == "evaluate" and settings.evaluate:
        named = [*settings.evaluate.by, *([settings.judge.by] if settings.judge else [])]
    return set(with_members(settings, named))


def with_members(settings: RunSettings, names: list[str]) -> Iterator[str]:
    """Judges and whoever they are made of."""
    for name in names:
        yield name
        yield from with_members(settings, list(settings.judges[name].members()))


def models_of(settings: RunSettings, stage: Stage) -> set[str]:
    """The names of the models that a stage uses, those that its judges ask included."""
    asked = {m for judge in _judges(settings, stage) for m in settings.judges[judge].models_asked()}
    match stage:
        case "data":
            return asked | {settings.policy, *(settings.data.also if settings.data else ())}
        case "judge":
            return asked
        case "train":
            return asked | {settings.policy}
        case "evaluate":
            assert settings.evaluate is not None
            chosen = settings.evaluate
            names = {settings.policy, chosen.policy, chosen.predecessor, *chosen.baselines}
            return asked | {n for n in names if n and n != "trained"}


def changed_keys(before: Any, now: Any, path: str = "") -> list[str]:
    """The dotted keys at which two plain structures differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = list(dict.fromkeys([*before, *now]))
        missing = object()
        pairs = [(k, before.get(k, missing), now.get(k, missing)) for k in keys]
        return [c for k, b, n in pairs for c in changed_keys(b, n, f"{path}.{k}" if path else str(k))]
    return [] if before == now else [path or "(top)"]
