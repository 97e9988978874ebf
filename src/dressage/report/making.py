"""What made a run: its judges and their settings, looks at the test split, failures, stages and facts."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dressage.leftovers import counted_rows
from dressage.records import Failure, Grade, Usage, Verdict
from dressage.report.reading import STAGES, Config, Round, Run
from dressage.report.wording import clipped, counted, duration, number, plain, trimmed

SETTING_CHARS = 240
EMPTY: tuple[object, ...] = (None, "", [], {})


@dataclass(frozen=True)
class Judge:
    name: str
    kind: str
    roles: tuple[str, ...]
    settings: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def judges(run: Run) -> list[Judge]:
    """Every judge of the config with its roles, settings, and what a reader must know of it."""
    config, usage, roles = run.config, _usage(run), _roles(run.config)
    found = []
    for name, settings in config.section("judges").items():
        told = {key: value for key, value in settings.items() if key != "kind" and value not in EMPTY}
        words = tuple((plain(key), words) for key, value in told.items() if (words := _words(value)))
        notes = [*_own_base(run, name), *([usage[name]] if name in usage else [])]
        found.append(Judge(name, str(settings["kind"]), tuple(roles.get(name, ())), words, tuple(notes)))
    return found


def _words(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return clipped(_group(value), SETTING_CHARS)
    if isinstance(value, list):
        nested = any(isinstance(v, dict) for v in value)  # each in a line of its own
        return "\n".join(map(_words, value)) if nested else clipped(", ".join(map(_words, value)), SETTING_CHARS)
    if isinstance(value, int | float):
        return trimmed(value)
    return clipped(str(value), SETTING_CHARS)


def _group(settings: Mapping[str, Any]) -> str:
    """`length_window: unit=characters, most=120`: settings under their name, what is not set left out."""
    flat = dict(_inner(settings))
    names = [str(flat.pop(key)) for key in ("name", "rule", "kind") if key in flat]
    name = names[0] + "".join(f" ({other})" for other in names[1:]) if names else ""
    words = ", ".join(f"{key}={_words(value)}" for key, value in flat.items())
    return ": ".join(part for part in (name, words) if part)


def _inner(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What is set, groups within groups opened."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _inner(value)
        elif value not in EMPTY:
            yield key, value


def _roles(config: Config) -> dict[str, list[str]]:
    """Judge → what it did in this run."""
    judge, train, evaluate = (config.section(name) for name in ("judge", "train", "evaluate"))
    made = "graded the draws" if config.practises else "made the preferences"
    named = [
        *((made, name) for name in _names(judge, "by")),
        *(("recorded beside", name) for name in _names(judge, "beside")),
        *(("watched training", name) for name in _names(train, "watch")),
        *(("decided the battles", name) for name in _names(evaluate, "by")),
    ]
    found: dict[str, list[str]] = {}
    for role, name in named:
        found.setdefault(name, []).append(role)
    return found


def _names(section: Mapping[str, Any], key: str) -> list[str]:
    value = section.get(key, None)
    return [str(v) for v in value] if isinstance(value, list) else [str(value)] if value else []


def _own_base(run: Run, judge: str) -> Iterator[str]:
    """Whether a judge asks the very weights that the policy started from."""
    config = run.config
    if config.settings is None or judge not in config.settings.judges:
        return
    own = _weights(run, config.settings.policy)
    if own is not None and any(_weights(run, asked) == own for asked in _asked(config, judge)):
        yield "judged by its own base: this judge asks the model that the policy started from"


def _asked(config: Config, judge: str) -> Iterator[str]:
    """The models a judge asks, its members' included."""
    if config.settings is not None and judge in config.settings.judges:
        yield from config.settings.judges[judge].models_asked()
        for member in config.settings.judges[judge].members():
            if member != judge:
                yield from _asked(config, member)


def _weights(run: Run, model: str) -> object | None:
    """The hashes of a model's weights as a stage wrote them down, so that a copy is the same model; before any stage
    has, path and revision. Null for a model that has no files."""
    for content in _recorded(run, model):
        found = {file: digest for file, digest in content.items() if file.endswith(".safetensors")}
        return found or content  # of a hub name it is the commit
    models = run.config.section("models")
    if model not in models or "path" not in models[model]:
        return None
    revision = models[model].get("revision", None)
    return str(models[model]["path"]), str(revision)


def _recorded(run: Run, model: str) -> Iterator[Mapping[str, Any]]:
    """What the stages of a run were made from: the weights of a model, by content."""
    for round_ in run.rounds:
        for manifest in round_.manifests.values():
            models: Any = manifest.parts.get("models", {})
            content = models[model]["content"] if model in models else {}
            if "weights" in content:
                yield content["weights"]


def _usage(run: Run) -> dict[str, str]:
    """What each judge was asked in all, in words."""
    total: dict[str, Usage] = {}
    asked: Counter[str] = Counter()
    for round_ in run.rounds:
        for stage in ("judge", "train", "evaluate"):
            rows: list[Grade | Verdict] = [*round_.rows(stage, Grade), *round_.rows(stage, Verdict)]
            for row in rows:
                asked[row.judge] += 1
                total[row.judge] = (total[row.judge] if row.judge in total else Usage()) + row.usage
    return {name: _spent(asked[name], used) for name, used in total.items()}


def _spent(times: int, used: Usage) -> str:
    parts = [counted(times, "judgement", "judgements")]
    if used.read or used.written:
        parts.append(f"{number(used.read)} tokens read, {number(used.written)} written")
    if used.cost:
        parts.append(f"cost {number(round(used.cost, 4))}")
    return ", ".join(parts)


@dataclass(frozen=True)
class Remark:
    text: str
    warns: bool


def remarks(run: Run) -> list[Remark]:
    """Sentences a reader of the headline must not miss."""
    found = [Remark(doubt, warns=True) for round_ in run.rounds for doubt in round_.doubts]
    if run.config.raw and run.config.settings is None:
        unread = "This version of dressage cannot read the run's config, so overlaps of judges are not told."
        found.append(Remark(unread, warns=True))
    if reason := run.config.raw.get("allow_shared_judges"):
        overlap = f"Judges that train and judges that test overlap, allowed because: “{reason}”"
        found.append(Remark(overlap, warns=True))
    looks = Counter(split for round_ in run.rounds for split in round_.looks)
    for split, n in looks.items():
        again = ": what is chosen by looking at it, it no longer tests" if n > 1 and split == "test" else ""
        text = f"The {split} split was looked at {counted(n, 'time', 'times')} in this run{again}."
        found.append(Remark(text, warns=bool(again)))
    return found


# ---------------------------------------------------------------- failures, stages, facts


@dataclass(frozen=True)
class Failed:
    stage: str
    side: str
    reason: str
    judge: str
    count: int
    example: str


def failures(round_: Round) -> list[Failed]:
    """Failures by stage, side, reason and judge, the commonest first."""
    rows = [(stage, failure) for stage in STAGES for failure in round_.rows(stage, Failure)]
    examples: dict[tuple[str, str, str, str], str] = {}
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for stage, failure in rows:
        key = (stage, failure.side, failure.reason, failure.judge)
        counts[key] += 1
        examples.setdefault(key, clipped(failure.detail, 160))
    return [Failed(s, side, plain(r), j, n, examples[s, side, r, j]) for (s, side, r, j), n in counts.most_common()]


@dataclass(frozen=True)
class StageRow:
    name: str
    state: str
    rows: str = "–"
    shards: str = "–"
    took: str = "–"
    fingerprint: str = "–"
    rows_hash: str = "–"


def stages(round_: Round, config: Config) -> list[StageRow]:
    """What each stage left and what names it."""
    found = []
    for name in STAGES:
        if name not in round_.manifests:
            waits = "begun, not finished" if name in round_.begun else "not run"
            found.append(StageRow(name, waits if config.has(name) else "not part of this run"))
            continue
        manifest = round_.manifests[name]
        rows: Counter[str] = Counter()
        for shard in manifest.shards:
            rows.update(shard.rows)
        found.append(
            StageRow(
                name,
                "done",
                " · ".join(counted_rows(plain(table), n) for table, n in rows.items()) or "none",
                number(len(manifest.shards)),
                duration(manifest.times["seconds"]) if "seconds" in manifest.times else "–",
                manifest.fingerprint,
                manifest.rows_hash,
            )
        )
    return found


def facts(round_: Round) -> list[tuple[str, list[tuple[str, str]]]]:
    """What each stage says of itself, nested facts under joined names."""
    told = [(stage, list(_flat(round_.facts(stage)))) for stage in STAGES]
    return [(stage, lines) for stage, lines in told if lines]


def _flat(found: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in found.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{plain(key)} · ")
        elif value not in EMPTY and not _is_hash(value):
            yield f"{above}{plain(key)}", number(value) if isinstance(value, int | float) else _words(value)


def _is_hash(value: object) -> bool:
    """A name for machines, or a list of such."""
    words = value if isinstance(value, list) else [value]
    return all(isinstance(word, str) and re.fullmatch(r"[0-9a-f]{16,64}", word) for word in words)
