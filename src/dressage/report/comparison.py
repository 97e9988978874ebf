"""Builds the page over several runs: their headlines side by side, what differs, and the pooled rate of seeds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from markupsafe import Markup

from dressage.maths.rates import rate_of
from dressage.records import Battle, GateResult, Measure, content_hash
from dressage.report.forest import Interval, Mark, forest
from dressage.report.headline import EVEN, RATE, ends, games, guards_in_short
from dressage.report.page import render
from dressage.report.reading import Round, Run, read_run
from dressage.report.wording import clipped, counted, number, percent, plain
from dressage.store import StoreError, commit_text

Pooled = Literal["seeds", "never"]
DIFFERENCES_AT_MOST = 40
GROK = Mark(0.6478, "64.78 %: Grok 4.1 vs its predecessor", "grok")


def write_comparison(runs: Sequence[Path], out: Path, *, pooled: Pooled = "seeds") -> Path:
    """Writes the page `out` over the run folders `runs`.

    With `pooled="seeds"`, runs whose configs differ in name and seed only are also taken together: all their
    battles, with the prompt as the cluster, so that a prompt met under five seeds is no five prompts.

    Raises:
        StoreError: where no run was given, a folder holds no run, or a finished stage in it is damaged.
    """
    if not runs:
        raise StoreError("a comparison needs at least one run; give folders such as runs/demo runs/demo-seed-2")
    read = [Entry.of(read_run(path)) for path in runs]
    commit_text(out, render("compare.html", _page(read, pooled)))
    return out


@dataclass(frozen=True)
class Entry:
    """A run with what its last evaluated round says; empty where there is none, or where it is of another training."""

    run: Run
    measures: Sequence[Measure]
    gates: Sequence[GateResult]
    battles: Sequence[Battle]

    @classmethod
    def of(cls, run: Run) -> "Entry":
        last: Round | None = next((r for r in reversed(run.rounds) if "evaluate" in r.manifests), None)
        if last is None or last.outdated:
            return cls(run, [], [], [])
        rows = last.rows
        return cls(run, rows("evaluate", Measure), rows("evaluate", GateResult), rows("evaluate", Battle))

    @property
    def same(self) -> str:
        """Equal for runs whose configs differ in name and seed only."""
        return content_hash({key: value for key, value in self.run.config.raw.items() if key not in ("name", "seed")})

    def rates(self) -> list[Measure]:
        return [m for m in self.measures if (m.name, m.of) == (RATE, "policy")]


@dataclass(frozen=True)
class ByJudge:
    """What one judge says of all runs, and of seeds of one config together."""

    judge: str
    chart: Markup
    pooled: tuple[str, ...]


def _page(entries: Sequence[Entry], pooled: Pooled) -> dict[str, Any]:
    judges = list(dict.fromkeys(m.by for entry in entries for m in entry.rates()))
    differing = [(key, values) for key, values in differences([e.run for e in entries]) if key != "name"]
    return {
        "names": [entry.run.name for entry in entries],
        "configs": len({entry.same for entry in entries}),
        "judges": [_by_judge(entries, judge, pooled) for judge in judges],
        "rows": [row for entry in entries for row in _rows(entry)],
        "differing": differing[:DIFFERENCES_AT_MOST],
        "more": max(len(differing) - DIFFERENCES_AT_MOST, 0),
    }


def _by_judge(entries: Sequence[Entry], judge: str, pooled: Pooled) -> ByJudge:
    """Runs of one config stand together, their pooled rate below them."""
    rows, told = [], []
    for same in dict.fromkeys(entry.same for entry in entries):
        seeds = [(e, m) for e in entries if e.same == same for m in e.rates() if m.by == judge]
        rows += [Interval(e.run.name, m.value, m.low, m.high, _words(m.value, m.low, m.high)) for e, m in seeds]
        together = _pooled([e for e, _ in seeds], judge) if pooled == "seeds" and len(seeds) > 1 else None
        if together is not None:
            rows.append(together)
            values = [m.value for _, m in seeds]
            told.append(
                f"{', '.join(e.run.name for e, _ in seeds)} pooled: preferred over the predecessor in {together.text} "
                f"by {judge}; one by one between {percent(min(values))} and {percent(max(values))}"
            )
    chart = forest(rows, [GROK, EVEN], title=f"Preference rates by {judge} with their 95 % intervals")
    return ByJudge(judge, chart, tuple(told))


def _words(value: float, low: float | None, high: float | None) -> str:
    return f"{percent(value)} {ends(low, high)}"


def _pooled(entries: Sequence[Entry], judge: str) -> Interval | None:
    """The rate over the battles of all runs, prompts as clusters."""
    rate = rate_of([game for e in entries for game in games(e.battles, judge=judge)], failures_as_losses=True)
    if rate is None:
        return None
    found = rate.estimate
    label = f"{counted(len(entries), 'seed', 'seeds')} pooled, {counted(found.clusters, 'prompt', 'prompts')}"
    return Interval(label, found.value, found.low, found.high, _words(found.value, found.low, found.high), "pooled")


def _baselines(entry: Entry, judge: str) -> str:
    found = [m for m in entry.measures if m.name == RATE and m.of != "policy" and m.by == judge]
    return "; ".join(f"{plain(m.of)}: {_words(m.value, m.low, m.high)}" for m in found) or "–"


def _rows(entry: Entry) -> Iterator[dict[str, str]]:
    """The table's rows: one a judge, or one that says there is nothing yet."""
    seed = str(entry.run.config.raw["seed"]) if "seed" in entry.run.config.raw else "–"
    told = {"run": entry.run.name, "seed": seed, "guards": guards_in_short(entry.gates) or "–"}
    for m in entry.rates():
        own = {"judge": m.by, "rate": _words(m.value, m.low, m.high), "n": number(m.n)}
        yield {**told, **own, "baselines": _baselines(entry, m.by)}
    if not entry.rates():
        judge = "not evaluated" if entry.run.config.has("evaluate") else "no evaluate in this run"
        yield {**told, "judge": judge, "rate": "–", "n": "–", "baselines": "–"}


def differences(runs: Sequence[Run]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The keys of the configs that are not the same in all runs, each with every run's value."""
    flat = [dict(_flat(run.config.raw)) for run in runs]
    for key in dict.fromkeys(key for one in flat for key in one):
        values = [one.get(key, "(not set)") for one in flat]
        if len(set(values)) > 1:
            yield key, tuple(clipped(value, 120) for value in values)


def _flat(raw: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in raw.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", str(value)
