"""The terminal: progress as bars or plain lines, foreign text made harmless, tables of results.

Progress and words go to stderr, tables of results to stdout, so that `dressage … > results.txt` holds only those.
"""

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any, Literal, cast

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from dressage.harmless import plain
from dressage.records import GateResult, Measure

EVERY_SECONDS = 10.0
"""Plain progress says at most one line in this time."""
PLAIN_WIDTH = 160
"""Columns of a table that goes to a file or a pipe, unless COLUMNS says otherwise."""

# ---------------------------------------------------------------- foreign text


def clean(text: str) -> str:
    """`plain`, and escaped for where rich reads markup; `foreign` shows it to the letter without markup."""
    return escape(plain(text))


def foreign(text: str, style: str = "") -> Text:
    """Text from a model, a judge or a file as rich shows it: to the letter, whatever markup it holds."""
    return Text(plain(text), style=style)


# ---------------------------------------------------------------- consoles


def words_console() -> Console:
    """Where progress and remarks go: stderr."""
    return Console(stderr=True, highlight=False, emoji=False, markup=False)


def results_console() -> Console:
    """Where tables of results go: stdout, wide enough in a file that no cell is cut."""
    tall = sys.stdout.isatty() or "COLUMNS" in os.environ
    file = None if sys.stdout.isatty() else cast(IO[str], Unpadded(sys.stdout))
    return Console(file=file, highlight=False, emoji=False, markup=False, width=None if tall else PLAIN_WIDTH)


class Unpadded:
    """A text file whose lines end where their last word does: rich fills its tables with spaces."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(re.sub(r" +(?=\n)", "", text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def draws_bars(console: Console, environment: Mapping[str, str]) -> bool:
    """Whether somebody is there to watch a bar move: a terminal that may be coloured, and no CI job."""
    return console.is_terminal and not console.is_dumb_terminal and not {"NO_COLOR", "CI"} & set(environment)


# ---------------------------------------------------------------- progress


class TerminalProgress:
    """protocols.Progress for people: bars with rate and time left on a terminal, a line now and then elsewhere."""

    def __init__(
        self,
        console: Console | None = None,
        *,
        bars: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console or words_console()
        self._bars = draws_bars(self._console, os.environ) if bars is None else bars
        self._clock = clock
        self._lock = threading.RLock()
        self._open = 0
        self._spoke = clock()
        self._shown: Progress | None = None

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        """Opens a task of `total` units; call what it yields, from any thread, with the units just done.

        A task inside another is shown only while it runs, and one of nothing to do not at all.
        """
        if not total:
            yield lambda units: None
            return
        with self._lock:
            inner, self._open = self._open > 0, self._open + 1
        try:
            with (self._bar if self._bars else self._lines)(name, total, inner) as advance:
                yield advance
        finally:
            with self._lock:
                self._open -= 1

    def say(self, line: str) -> None:
        """One remark, above the bars where there are some."""
        with self._lock:
            self._console.print(foreign(line), soft_wrap=True)

    @contextmanager
    def _bar(self, name: str, total: int, inner: bool) -> Iterator[Callable[[int], None]]:
        with self._lock:
            if self._shown is None:
                self._shown = _bars(self._console)
                self._shown.start()
            shown = self._shown
            task = shown.add_task(plain(name), total=total)
        try:
            yield lambda units: shown.advance(task, units)
        finally:
            with self._lock:
                if inner:
                    shown.remove_task(task)
                if self._open == 1:
                    shown.stop()
                    self._shown = None

    @contextmanager
    def _lines(self, name: str, total: int, inner: bool) -> Iterator[Callable[[int], None]]:
        began, done = self._clock(), 0

        def advance(units: int) -> None:
            nonlocal done
            with self._lock:
                done += units
                now = self._clock()
                if now - self._spoke >= EVERY_SECONDS and done < total:
                    self._spoke = now
                    self.say(f"{name}: {_so_far(done, total, now - began)}")

        if not inner:
            self._spoke = began
            self.say(f"{name}: {total} to do")
        state = "stopped after"
        try:
            yield advance
            state = "done:"
        finally:
            if not inner:
                self.say(f"{name}: {state} {done} of {total} in {duration(self._clock() - began)}")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else _rate(speed), style="progress.data.speed")


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("left", style="dim"),
        TimeRemainingColumn(),
        console=console,
        speed_estimate_period=120,
    )


def _so_far(done: int, total: int, seconds: float) -> str:
    if not done or seconds <= 0:
        return f"{done} of {total}"
    speed = done / seconds
    left = duration((total - done) / speed)
    return f"{done} of {total}, {100 * done / total:.0f} %, {_rate(speed)}, {left} left"


def _rate(speed: float) -> str:
    return f"{speed:.1f}/s" if speed >= 0.1 else f"{60 * speed:.1f}/min"


def duration(seconds: float) -> str:
    """0:07, 12:34, 1:02:03."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


# ---------------------------------------------------------------- results


def number(value: float | None) -> str:
    """Four significant digits, and whole numbers from a thousand on."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def interval(value: float | None, low: float | None, high: float | None, *, percent: bool = False) -> str:
    """`0.648 [0.602, 0.694]`, or in percent with one decimal; without ends where there is no interval."""
    write = (lambda x: f"{100 * x:.1f}") if percent else number
    if value is None:
        return "–"
    text = write(value) + (" %" if percent else "")
    return text if low is None or high is None else f"{text} [{write(low)}, {write(high)}]"


DECISIONS: dict[Literal["held", "broken", "inconclusive"], str] = {
    "held": "green",
    "broken": "red",
    "inconclusive": "yellow",
}


def summary_table(
    measures: Sequence[Measure],
    gates: Sequence[GateResult],
    *,
    title: str = "",
    console: Console | None = None,
) -> None:
    """Prints a run's headline measures with their 95 % intervals, and its guards with what they decided."""
    console = console or results_console()
    if measures:
        table = bare_table("measure", "of", "by", "value [95 %]", "n", title=title)
        for m in measures:
            table.add_row(
                *map(foreign, (m.name, m.of, m.by, interval(m.value, m.low, m.high), f"{m.n:,}")),
            )
        console.print(table)
    if gates:
        table = bare_table("guard", "value", "baseline", "limit", "decision", title="" if measures else title)
        for g in gates:
            cells = (g.metric, number(g.value), number(g.baseline), g.limit)
            table.add_row(*map(foreign, cells), Text(g.decision, style=DECISIONS[g.decision]))
        console.print(table)


def stages_table(rows: Sequence[tuple[str, str, str]], *, title: str = "", console: Console | None = None) -> None:
    """Prints what each stage has left, and what it left out: (stage, rows, left out)."""
    table = bare_table("stage", "rows", "left out", title=title)
    for row in rows:
        table.add_row(*map(foreign, row))
    (console or results_console()).print(table)


def facts_table(rows: Sequence[tuple[str, str]], *, title: str, console: Console | None = None) -> None:
    """Prints a few named numbers: (name, value)."""
    table = bare_table(title, "")
    for row in rows:
        table.add_row(*map(foreign, row))
    (console or results_console()).print(table)


def bare_table(*columns: str, title: str = "") -> Table:
    """A table without frame, whose long cells go on in the next line and are never cut."""
    table = Table(title=foreign(title) if title else None, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(Text(column, style="bold"), overflow="fold")
    return table
