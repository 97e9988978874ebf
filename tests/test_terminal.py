"""The terminal: foreign text is harmless, progress is quiet where nobody watches, tables lose nothing."""

import io
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from dressage.records import GateResult, Measure
from dressage.terminal import (
    TerminalProgress,
    clean,
    draws_bars,
    duration,
    foreign,
    interval,
    number,
    plain,
    results_console,
    stages_table,
    summary_table,
    words_console,
)


def console(*, terminal=False, width=120):
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, highlight=False, emoji=False, markup=False)


def written(to):
    return to.file.getvalue()


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(
    ("foul", "fair"),
    [
        ("a\x1b[31mred\x1b[0m", "ared"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]52;c;never ended", "52;c;never ended"),
        ("\x9b2Jcleared", "cleared"),
        ("one\rtwo\b\x00\x7f", "onetwo"),
        ("lines\r\nand\ttabs\n", "lines\nand\ttabs\n"),
        ("\u202eevil\u2066x\u200f", "evilx"),
        ("\x1bcreset \x1b(0", "reset "),
        ("\x1b", ""),
        ("half \ud83d", "half \ufffd"),
        ("ä 漢字 👩‍🚀 [b]", "ä 漢字 👩‍🚀 [b]"),
    ],
)
def test_text_that_would_steer_the_terminal(foul, fair):
    assert plain(foul) == fair


steering = st.text(st.one_of(st.characters(max_codepoint=0x2100), st.sampled_from("\x1b[]\\;mm/a:=#")))


@given(steering)
def test_nothing_that_steers_is_left(text):
    left = plain(text)
    assert not any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 for c in left)
    assert plain(left) == left


@given(steering)
def test_clean_text_holds_no_markup(text):
    rendered = Text.from_markup(clean(text), emoji=False)
    assert not rendered.spans


@given(st.text("[]/bold red=#:\\smile ", max_size=30))
def test_foreign_text_is_shown_to_the_letter(text):
    to = console(width=200)
    to.print(foreign(text), soft_wrap=True)
    assert written(to) == text + "\n"


def test_long_clean_text_takes_no_time():
    assert plain("\x1b]" * 50_000) == ""
    assert plain("\x1b[" * 50_000) == ""


def test_bars_only_where_somebody_watches():
    assert draws_bars(console(terminal=True), {})
    assert not draws_bars(console(), {})
    assert not draws_bars(console(terminal=True), {"NO_COLOR": "1"})
    assert not draws_bars(console(terminal=True), {"CI": "true"})


def test_plain_progress_line_by_line():
    to, clock = console(), Clock()
    progress = TerminalProgress(to, clock=clock)
    with progress.task("judging [b]", 200) as advance:
        for _ in range(50):  # 25 s, a line every ten
            clock.now += 0.5
            advance(2)
        progress.say("half \x1b[31mway")
        clock.now += 5
        advance(100)
    assert written(to).splitlines() == [
        "judging [b]: 200 to do",
        "judging [b]: 40 of 200, 20 %, 4.0/s, 0:40 left",
        "judging [b]: 80 of 200, 40 %, 4.0/s, 0:30 left",
        "half way",
        "judging [b]: done: 200 of 200 in 0:30",
    ]


def test_plain_progress_that_breaks_off_says_so_and_lets_the_error_pass():
    to, clock = console(), Clock()

    def breaks_off():
        with TerminalProgress(to, clock=clock).task("x", 3) as advance:
            advance(1)
            clock.now += 3700
            raise KeyError

    with pytest.raises(KeyError):
        breaks_off()
    assert written(to).splitlines()[-1] == "x: stopped after 1 of 3 in 1:01:40"


def test_inner_tasks_are_quiet_where_nobody_watches():
    to = console()
    progress = TerminalProgress(to, clock=Clock())
    with progress.task("outer", 1) as outer:
        for _ in range(100):
            with progress.task("inner", 1) as advance:
                advance(1)
        outer(1)
    assert len(written(to).splitlines()) == 2


@pytest.mark.parametrize("bars", [True, False])
def test_nothing_to_do_is_not_told(bars):
    to = console(terminal=bars)
    with TerminalProgress(to, bars=bars).task("nothing", 0) as advance:
        advance(0)
    assert written(to) == ""


def test_bars_show_count_and_inner_tasks_go_when_done():
    to = console(terminal=True)
    progress = TerminalProgress(to, bars=True)
    with progress.task("outer [b]", 4) as outer:
        with progress.task("inner", 2) as advance:
            advance(2)
        progress.say("a remark")
        outer(4)
    last = written(to).rsplit("\x1b[1A\x1b[2K", 1)[1]  # what was drawn after the last line was taken back
    assert "outer [b]" in last
    assert "4/4" in last
    assert "inner" not in last
    with progress.task("again", 1) as advance:
        advance(1)
    assert "1/1" in written(to)


@pytest.mark.parametrize("bars", [True, False])
def test_progress_may_be_told_from_many_threads(bars):
    to = console(terminal=bars)
    with TerminalProgress(to, bars=bars).task("x", 800) as advance:
        threads = [threading.Thread(target=lambda: [advance(1) for _ in range(100)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert "800/800" in written(to) or "800 of 800" in written(to)


def test_words_go_to_stderr_and_results_to_stdout(capsys):
    words_console().print("word")
    results_console().print("result " + "long " * 25)
    streams = capsys.readouterr()
    assert streams.err == "word\n"
    assert streams.out.count("\n") == 1


def test_what_goes_to_a_file_ends_with_its_last_word(capsys):
    stages_table([("data", "20 prompts", ""), ("judge", "1 grade", "2 × ties")], title="demo")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert [line for line in lines if line != line.rstrip()] == []


def test_numbers_and_durations():
    assert [number(x) for x in (0.64780, 0.05, 85.312, 12345.6, -2, None)] == [
        "0.6478",
        "0.05",
        "85.31",
        "12,346",
        "-2",
        "–",
    ]
    assert interval(0.6478, 0.602, 0.69) == "0.6478 [0.602, 0.69]"
    assert interval(0.6478, 0.602, 0.69, percent=True) == "64.8 % [60.2, 69.0]"
    assert interval(0.5, None, None, percent=True) == "50.0 %"
    assert [duration(s) for s in (0, 59.6, 3661)] == ["0:00", "1:00", "1:01:01"]


def test_the_summary_shows_every_number():
    to = console()
    summary_table(
        [Measure(name="preference_rate", of="policy", by="j2 [red]", value=0.6478, low=0.6, high=0.69, n=1500)],
        [
            GateResult(metric="length", value=93.1, baseline=88, limit="within 25 %", decision="held"),
            GateResult(metric="kl", value=9.0, limit="at most 8", decision="broken"),
        ],
        title="smoke",
        console=to,
    )
    lines = [line.split() for line in written(to).splitlines()]
    assert lines[0] == ["smoke"]
    assert ["preference_rate", "policy", "j2", "[red]", "0.6478", "[0.6,", "0.69]", "1,500"] in lines
    assert ["length", "93.1", "88", "within", "25", "%", "held"] in lines
    assert ["kl", "9", "–", "at", "most", "8", "broken"] in lines
