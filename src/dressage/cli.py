"""The verbs: run, data, judge, train, evaluate, audit, plan, report, show, compare, doctor; heavy imports wait."""

import json
import os
import signal
import sys
import warnings
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dressage import audit_verb
from dressage.company import Ended, company, processes, started_alone

if TYPE_CHECKING:
    from dressage.settings import RunSettings

# Quiet and offline-safe before any library reads them.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve whatever shares the cores
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # else a page of frames where a launcher is gone

app = typer.Typer(
    name="dressage",
    help="Learns from judges: data → judge → train → evaluate, one YAML file a run.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        import dressage

        typer.echo(f"dressage {dressage.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """What stands before the verb."""


class StageName(StrEnum):
    data = "data"
    judge = "judge"
    train = "train"
    evaluate = "evaluate"


class Table(StrEnum):
    candidates = "candidates"
    grades = "grades"
    verdicts = "verdicts"
    preferences = "preferences"
    evidence = "evidence"
    failures = "failures"
    battles = "battles"


def _one_of(words: type[StrEnum]) -> Callable[[str], StrEnum]:
    """Reads a word of a fixed vocabulary; another is an error with a did-you-mean."""

    def read(word: str) -> StrEnum:
        from dressage.plugins import meant

        known = [one.value for one in words]
        if word not in known:
            raise typer.BadParameter(f"there is no {word!r}{meant(word, known)}")
        return words(word)

    return read


def _choices(words: type[StrEnum]) -> str:
    return "|".join(one.value for one in words)


Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="A run's YAML file, e.g. configs/smoke.yaml")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a key of the YAML; may be repeated.")
]
Root = Annotated[Path, typer.Option("--runs", help="The folder that holds runs.")]
Name = Annotated[str | None, typer.Option("--name", help="The run's name, instead of the YAML's.")]
From = Annotated[
    str | None, typer.Option("--from", metavar="OLD", help="Take over every stage of this run that still fits.")
]
OneStage = {"parser": _one_of(StageName), "metavar": _choices(StageName)}
Redo = Annotated[
    StageName | None, typer.Option("--redo", help="Do this stage again; its old output is moved aside.", **OneStage)
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or its name below --runs.")]


class Stopped(SystemExit):
    """Somebody asked the process to end: Ctrl-C, or a scheduler."""


def _stop(number: int, frame: object) -> None:
    raise Stopped(128 + number)


def main() -> None:
    """Runs the verb; a known error is one clear line and exit code 1, not a traceback. Of several processes the first
    runs it, and the others wait to be called to a training (see assisting)."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # of libraries about themselves: no user can act on one
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    if processes() == 1:
        if started_alone():
            typer.echo(ALONE, err=True)
        code, _ = _ending(lambda: app(standalone_mode=True))
        sys.exit(code)
    code, why = 1, "by an error of dressage's own"
    try:
        code, why = _ending(_in_company)
    finally:
        if company.cache_info().currsize:
            company().leave(code, why)
    sys.exit(code)


ALONE = (
    "note: accelerate launch was asked for several processes and started one, as it does without --multi_gpu; "
    "`torchrun --nproc_per_node N -m dressage.cli …` starts several, on a CPU too"
)


def _in_company() -> None:
    """This process's part, as one of several."""
    if company().leads:
        app(standalone_mode=True)
    else:
        from dressage.assisting import assist

        assist(company())


def _ending(work: Callable[[], None]) -> tuple[int, str]:
    """Does the work, and says how it ended: the exit code, and for the other processes why, if it is an error."""
    follows = os.environ.get("RANK", "0") != "0"
    try:
        work()
    except Stopped as stopped:
        ended = processes() > 1 and stopped.code == 128 + signal.SIGTERM
        why = " by the launcher, as it does when one of its processes has ended" if ended else ""
        if not follows:
            typer.echo(f"stopped{why}; what was committed is kept, and the same command goes on from here", err=True)
        return int(str(stopped.code)), "it was stopped"
    except SystemExit as done:  # typer's
        return int(str(done.code or 0)), "its command line was wrong"
    except (ValueError, RuntimeError, OSError, LookupError) as error:
        if os.environ.get("DRESSAGE_TRACEBACK"):
            raise
        from dressage.harmless import plain

        why = plain(str(error)) or type(error).__name__
        typer.echo(f"process {os.environ['RANK']}: {why}" if follows else f"error: {why}", err=True)
        return error.code if isinstance(error, Ended) else 1, why
    return 0, ""


def _settings(config: Path, sets: list[str] | None, name: str | None) -> "RunSettings":
    from dressage import config as reader

    return reader.load(config, [*(sets or []), *([f"name={json.dumps(name)}"] if name else [])])


def _folder(run: Path, root: Path) -> Path:
    """A run named by its folder or by its name."""
    from dressage.store import StoreError

    for folder in (run, root / run):
        if (folder / "config.yaml").exists():
            return folder
    there = sorted(p.parent.name for p in root.glob("*/config.yaml"))
    raise StoreError(f"no run at {run} or {root / run}; there is: {', '.join(there) or 'none yet'}")


def _go(config: Path, sets: list[str] | None, name: str | None, runs: Path, **job: Any) -> Path:
    """One run (or a stage of it: see standing.Job), its report and its summary."""
    settings = _settings(config, sets, name)  # first: an error in it must not wait for imports
    from dressage import pipeline
    from dressage.standing import Job
    from dressage.terminal import TerminalProgress

    progress = TerminalProgress()
    call = _call(config, sets, name, runs)
    folder = pipeline.run(settings, Job(runs, call=call, **job), progress=progress)
    if job.get("only") is None:
        _report(folder, progress.say)
    _summary(folder)
    _time(folder)
    return folder


def _call(config: Path, sets: list[str] | None, name: str | None, runs: Path) -> str:
    """What of the command line names this run, to be repeated in hints."""
    import shlex

    words = [str(config), *(word for text in sets or [] for word in ("--set", text))]
    words += ["--name", name] if name else []
    words += ["--runs", str(runs)] if runs != Path("runs") else []
    return shlex.join(words)


def _time(folder: Path) -> None:
    """Writes down what this command took from the start of the process on, if a stage was worked on."""
    from dressage.clock import lap
    from dressage.store import append_line

    took = lap()
    if "stages" in took:
        append_line(folder / "times.jsonl", {name: round(seconds, 3) for name, seconds in took.items()})


def _report(folder: Path, say: Callable[[str], None]) -> None:
    from dressage.report.page import write_report

    say(f"report: {write_report(folder)}")


def _summary(folder: Path) -> None:
    """What each stage has left and left out; then the headline measures and the guards, or, where the run has no
    battles, what its training came to."""
    from dressage.leftovers import left_out, rows_left
    from dressage.reading import STAGES, last_round, unfit
    from dressage.records import GateResult, Measure
    from dressage.report.learnt import learnt
    from dressage.store import manifest_of, rows_of
    from dressage.terminal import facts_table, stages_table, summary_table

    of = last_round(folder)
    done = {stage: manifest for stage in STAGES if (manifest := manifest_of(of / stage))}
    rows = [(stage, rows_left(manifest.shards), left_out(manifest.facts) or "") for stage, manifest in done.items()]
    stages_table(rows, title=folder.name)
    if "evaluate" in done:
        why = unfit(of, "evaluate")
        title = f"not the result of this run: {why}" if why else ""
        summary_table(list(rows_of(of / "evaluate", Measure)), list(rows_of(of / "evaluate", GateResult)), title=title)
    elif "train" in done and (lines := learnt(done["train"].facts)):
        facts_table(lines, title="training")


@app.command()
def run(
    config: Config,
    sets: Sets = None,
    seeds: Annotated[
        str | None, typer.Option(help="e.g. 0,1,2: one run per seed, named NAME-seed-0 …, and a summary over them.")
    ] = None,
    name: Name = None,
    origin: From = None,
    redo: Redo = None,
    runs: Root = Path("runs"),
) -> None:
    """Run every stage of CONFIG that is not done yet; running again resumes, or does nothing."""
    chosen = redo.value if redo else None
    if seeds is None:
        _go(config, sets, name, runs, redo=chosen, origin=origin)
        return
    words = [word.strip() for word in seeds.split(",")]
    if not all(word.isascii() and word.isdecimal() for word in words):
        raise typer.BadParameter(f"--seeds {seeds!r}: give whole numbers, e.g. --seeds 0,1,2")
    numbers = [int(word) for word in words]
    if (twice := next((n for n in numbers if numbers.count(n) > 1), None)) is not None:
        raise typer.BadParameter(f"--seeds {seeds!r}: {twice} stands twice, and the same seed gives the same run")
    settings = _settings(config, sets, name)
    base, folders = settings.name, []
    for n in numbers:
        its = f"{origin}-seed-{n}" if origin and (runs / f"{origin}-seed-{n}" / "config.yaml").exists() else origin
        folders.append(_go(config, [*(sets or []), f"seed={n}"], f"{base}-seed-{n}", runs, redo=chosen, origin=its))
    if settings.evaluate is None:
        typer.echo("the YAML has no `evaluate:`, so there is nothing to compare over the seeds", err=True)
    else:
        compare(folders, runs=runs, out=runs / f"{base}-seeds.html")


def _one_stage(stage: StageName) -> None:
    """Makes the verb of one stage."""
    does = {
        "data": "Prepare prompts and draw candidates.",
        "judge": "Label candidates and make preferences.",
        "train": "Fine-tune the policy on the preferences.",
        "evaluate": "Play blind battles and measure.",
    }

    def verb(
        config: Config,
        sets: Sets = None,
        name: Name = None,
        origin: From = None,
        redo: Annotated[bool, typer.Option("--redo", help="Do it again; the old output is moved aside.")] = False,
        runs: Root = Path("runs"),
    ) -> None:
        _go(config, sets, name, runs, only=stage.value, redo=stage.value if redo else None, origin=origin)

    app.command(stage.value, help=f"{does[stage.value]} One stage of a run; what it reads must be done.")(verb)


for _stage in StageName:
    _one_stage(_stage)


app.command("audit")(audit_verb.verb)


@app.command()
def plan(config: Config, sets: Sets = None, name: Name = None, runs: Root = Path("runs")) -> None:
    """Say what would run: resolved config, stages, prompts, draws, judge calls, tokens, time, cost; opens no model."""
    from dressage import config as reader
    from dressage.planning import plan as planned
    from dressage.terminal import duration

    settings = _settings(config, sets, name)
    found = planned(settings, runs)
    typer.echo(reader.dump(settings))
    if found.prompts:
        typer.echo("prompts: " + ", ".join(f"{n} {split}" for split, n in found.prompts.items()))
    for stage, state, work in found.stages:
        counts = f"{work.draws} draws, {work.judgements} judgements, {work.calls} judge calls"
        typer.echo(f"{stage:9} {state:6} {counts}; up to {work.written:,} tokens written, about {work.read:,} read")
    fast, slow = found.seconds()
    low, high = (sum(w.cost[i] for _, s, w in found.stages if s != "done") for i in (0, 1))
    typer.echo(f"time for a ~100M-parameter model on two CPU cores: {duration(fast)} … {duration(slow)}")
    typer.echo(f"cost: {low:.2f} … {high:.2f} (by the price tables in `models:`)")


@app.command()
def report(run: RunFolder, runs: Root = Path("runs")) -> None:
    """Write RUN's report/index.html."""
    _report(_folder(run, runs), lambda line: typer.echo(line))


@app.command()
def show(
    run: RunFolder,
    what: Annotated[
        Table, typer.Argument(help="Which rows.", parser=_one_of(Table), metavar="WHAT")
    ] = Table.candidates,
    limit: Annotated[int, typer.Option(min=1, help="How many prompts.")] = 10,
    stage: Annotated[StageName | None, typer.Option(help="From this stage only.", **OneStage)] = None,
    prompt: Annotated[str | None, typer.Option(help="Prompts whose id starts with this, or that contain it.")] = None,
    runs: Root = Path("runs"),
) -> None:
    """Show candidates, grades, verdicts, preferences, failures or battles side by side."""
    from dressage import showing

    showing.show(_folder(run, runs), what.value, limit=limit, stage=stage.value if stage else None, matching=prompt)


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN RUN…", help="Folders or names of runs.")],
    runs: Root = Path("runs"),
    out: Annotated[Path | None, typer.Option(help="Also write an HTML page here.")] = None,
) -> None:
    """Show the headline numbers of several runs with their intervals, pooled where only the seed differs."""
    from dressage import showing

    found = [_folder(folder, runs) for folder in folders]
    showing.compare(found)
    if out is not None:
        from dressage.report.comparison import write_comparison

        typer.echo(f"report: {write_comparison(found, out)}", err=True)


@app.command()
def doctor() -> None:
    """Show versions, devices, what is missing and how to get it."""
    from dressage.doctor import examine

    raise typer.Exit(examine())


if __name__ == "__main__":
    main()
