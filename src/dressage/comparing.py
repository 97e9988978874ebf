"""Several runs beside one another: headline numbers with intervals, and the pooled rate over seeds."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from rich.console import Console
from rich.text import Text

from dressage.maths.rates import Game, Rate, rate_of
from dressage.reading import last_round, tables_of, unfit
from dressage.records import Battle, Candidate, GateResult, content_hash
from dressage.store import StoreError
from dressage.terminal import bare_table, foreign, interval, number, results_console

POLICY, PREDECESSOR, BEST_OF = "policy", "predecessor", "best_of_"
"""How evaluate names the sides of its battles."""


@dataclass(frozen=True)
class Evaluated:
    """What a comparison needs of one run."""

    name: str
    seed: int
    same: str
    """Equal for runs that differ in name and seed only."""
    battles: tuple[Battle, ...]
    gates: tuple[GateResult, ...]
    tokens: dict[str, float]
    """Side → mean tokens of its replies, where the model counts them."""


class Line(NamedTuple):
    """A row of the comparison: one run (or several pooled) as one judge sees it."""

    run: str
    seed: str
    judge: str
    rate: Rate | None
    best_of: dict[str, Rate]
    guards: str
    tokens: str


def compare(runs: Sequence[Path], *, console: Console | None = None) -> None:
    """Prints a line for each run and judge, and for each judge the rate pooled over runs that differ in seed only.

    Raises:
        StoreError: where a folder is no run or is named twice, or its evaluation is missing, not finished, or of
            another training.
    """
    places = [run.resolve() for run in runs]
    if twice := [run for run, place in zip(runs, places, strict=True) if places.count(place) > 1]:
        raise StoreError(f"{twice[0]} is named {len(twice)} times, and a run says nothing beside itself; name it once")
    console = console or results_console()
    evaluated = [evaluated_run(run) for run in runs]
    lines = [line for run in evaluated for line in lines_of_run(run)]
    columns = ("run", "seed", "judge", "policy preferred [95 %]", "best of n", "prompts", "guards", "tokens")
    table = bare_table(*columns)
    for line in (*lines, *pooled(evaluated)):
        table.add_row(*map(foreign, _cells(line)))
    console.print(table)
    remarks = ["Preferred over the predecessor; ties count ½, a reply broken on one side loses; prompts are clusters."]
    left_out = sum(line.rate.left_out for line in lines if line.rate)
    if left_out:
        battles = "1 battle is" if left_out == 1 else f"{left_out:,} battles are"
        remarks.append(f"{battles} left out: undecided, or broken on both sides.")
    if len({frozenset(b.prompt_id for b in run.battles) for run in evaluated}) > 1:
        remarks.append("The runs were not evaluated on the same prompts: their rates differ for that too.")
    for remark in remarks:
        console.print(Text(remark, style="dim"))


def evaluated_run(run: Path) -> Evaluated:
    """Reads what a run's last round measured."""
    of = last_round(run)
    config = _config(of.parent / "config.yaml")
    if "evaluate" in config and config["evaluate"] is None:
        raise StoreError(f"{run} has nothing to compare: its YAML has no `evaluate:`, so no battles were played")
    if why := unfit(of, "evaluate"):
        raise StoreError(
            f"{run} has no result to compare: {why}; bring the run to its end first (`dressage run`, or "
            "`dressage evaluate --redo` where its inputs have changed)"
        )
    battles = tuple(row for table in tables_of(of / "evaluate", Battle) for row in table)
    if not battles:
        raise StoreError(f"{of / 'evaluate'} has no battles; run its evaluate stage first")
    lengths = {c.id: len(c.token_ids) for table in tables_of(of / "evaluate", Candidate) for c in table if c.token_ids}
    return Evaluated(
        name=str(config["name"]),
        seed=int(config["seed"]),
        same=content_hash({key: value for key, value in config.items() if key not in ("name", "seed")}),
        battles=battles,
        gates=tuple(row for table in tables_of(of / "evaluate", GateResult) for row in table),
        tokens=dict(_mean_lengths(battles, lengths)),
    )


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise StoreError(f"{path} is not there, so {path.parent} is no run; name the folder of a run")
    config = yaml.safe_load(path.read_text("utf-8"))
    if not isinstance(config, dict) or not {"name", "seed"} <= set(config):
        raise StoreError(f"{path} holds no name and seed; it is not the resolved config of a run")
    return config


def _mean_lengths(battles: Iterable[Battle], lengths: dict[str, int]) -> Iterator[tuple[str, float]]:
    written: dict[str, set[str]] = {POLICY: set(), PREDECESSOR: set()}
    for b in battles:
        if (b.a, b.b) == (POLICY, PREDECESSOR):
            written[POLICY].add(b.candidate_a)
            written[PREDECESSOR].add(b.candidate_b)
    for side, ids in written.items():
        counted = [lengths[c] for c in ids if c in lengths]
        if counted:
            yield side, sum(counted) / len(counted)


def rate_by(battles: Iterable[Battle], *, judge: str, side: str = POLICY) -> Rate | None:
    """How often one judge prefers a side to the predecessor, its own broken replies counted as losses."""
    games = [
        Game(b.prompt_id, b.outcome, b.broken) for b in battles if (b.a, b.b, b.judge) == (side, PREDECESSOR, judge)
    ]
    return rate_of(games, failures_as_losses=True)


def lines_of_run(run: Evaluated) -> Iterator[Line]:
    """One line for each judge."""
    for judge in _judges(run.battles):
        sides = ", ".join(f"{number(run.tokens[s])} {s}" for s in (POLICY, PREDECESSOR) if s in run.tokens)
        best_of = _best_of(run.battles, judge)
        rate = rate_by(run.battles, judge=judge)
        yield Line(run.name, str(run.seed), judge, rate, best_of, guards(run.gates), sides or "–")


def pooled(runs: Sequence[Evaluated]) -> Iterator[Line]:
    """For each judge, the rate over all battles of the runs that differ in name and seed only.

    A prompt is one cluster however many runs met it, so more seeds do not pass for more prompts.
    """
    for same in dict.fromkeys(run.same for run in runs):
        group = [run for run in runs if run.same == same]
        if len(group) > 1:
            battles = [battle for run in group for battle in run.battles]
            seeds = ", ".join(str(run.seed) for run in group)
            for judge in _judges(battles):
                rate = rate_by(battles, judge=judge)
                yield Line(f"{len(group)} runs pooled", seeds, judge, rate, _best_of(battles, judge), "", "")


def _judges(battles: Iterable[Battle]) -> list[str]:
    return list(dict.fromkeys(b.judge for b in battles))


def _best_of(battles: Sequence[Battle], judge: str) -> dict[str, Rate]:
    sides = dict.fromkeys(b.a for b in battles if b.a.startswith(BEST_OF))
    rates = {side: rate_by(battles, judge=judge, side=side) for side in sides}
    return {side: rate for side, rate in rates.items() if rate}


def guards(gates: Sequence[GateResult]) -> str:
    """`5 held`, or which did not."""
    if not gates:
        return "none"
    parts = [
        f"{decision}: {', '.join(g.metric for g in gates if g.decision == decision)}"
        for decision in ("broken", "inconclusive")
        if any(g.decision == decision for g in gates)
    ]
    return "; ".join(parts) or f"{len(gates)} held"


def _cells(line: Line) -> Iterator[str]:
    yield from (line.run, line.seed, line.judge, _written(line.rate))
    yield "; ".join(f"{side.removeprefix(BEST_OF)}: {_written(rate)}" for side, rate in line.best_of.items())
    yield f"{line.rate.estimate.clusters:,}" if line.rate else "0"
    yield from (line.guards, line.tokens)


def _written(rate: Rate | None) -> str:
    if rate is None:
        return "–"
    return interval(rate.estimate.value, rate.estimate.low, rate.estimate.high, percent=True)
