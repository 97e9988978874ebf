"""Questions: each once, seeds by name, paid answers from the journal, failures asked again, bars that move."""

import json
from pathlib import Path
from typing import Any

from engine_parts import Bar, scripted

from dressage.engines.asking import Asker
from dressage.protocols import Chat, Completion, Distribution, Embed, Labels, Trouble, Vector
from dressage.records import Message
from dressage.store import Journal


def chat(text: str, **fields: Any) -> Chat:
    return Chat(model="m", messages=(Message(role="user", content=text),), **fields)


def labels(text: str) -> Labels:
    return Labels(model="m", messages=(Message(role="user", content=text),), labels=("A", "B"))


def asker(tmp_path: Path, seed: int = 0, **settings: Any) -> Asker:
    return Asker({"m": scripted(**settings)}, journal=Journal(tmp_path / "journal.jsonl"), seed=seed)


def asked(log: Path) -> list[str]:
    return [json.loads(line)["question"] for line in log.read_text().splitlines()] if log.exists() else []


def test_answers_come_in_the_order_of_the_questions_whatever_their_sort(tmp_path: Path) -> None:
    questions = [Embed(model="m", text="x"), chat("one"), labels("two"), chat("three", temperature=0.5), chat("one")]
    answers = asker(tmp_path, says="{user}!").answers(questions, advance=Bar())
    assert [type(a) for a in answers] == [Vector, Completion, Distribution, Completion, Completion]
    assert [a.text for a in answers if isinstance(a, Completion)] == ["one!", "three!", "one!"]


def test_a_question_asked_twice_is_asked_once_and_counted_twice(tmp_path: Path) -> None:
    bar, log = Bar(), tmp_path / "log.jsonl"
    one = asker(tmp_path, log=str(log))
    one.answers([chat("a"), chat("b"), chat("a")], advance=bar)
    assert len(asked(log)) == 2
    assert bar.total == 3
    one.answers([chat("b"), chat("c")], advance=bar)
    assert len(asked(log)) == 3
    assert bar.total == 5


def test_the_bar_moves_with_each_answer_not_at_the_end(tmp_path: Path) -> None:
    bar, log, heights = Bar(), tmp_path / "log.jsonl", []

    def advance(units: int) -> None:
        bar(units)
        heights.append((bar.total, len(asked(log))))

    asker(tmp_path, log=str(log)).answers([chat(str(i)) for i in range(4)], advance=advance)
    assert [h for h in heights if h[1]] == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_seeds_do_not_depend_on_order_or_company(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    questions = [chat(str(i), temperature=1.0) for i in range(5)]
    one = asker(tmp_path, says="{seed}").answers(questions, advance=Bar())
    other = asker(tmp_path / "other", says="{seed}").answers([*questions[::-1], chat("more")], advance=Bar())
    assert one == other[:5][::-1]
    assert len({a.text for a in one if isinstance(a, Completion)}) == 5


def test_another_sample_and_another_run_seed_draw_anew(tmp_path: Path) -> None:
    said = [
        asker(tmp_path, seed=seed, says="{seed}").answers([chat("a", sample=sample)], advance=Bar())[0]
        for seed, sample in ((0, 0), (0, 1), (1, 0), (0, 0))
    ]
    assert said[0] == said[3]
    assert len({a.text for a in said if isinstance(a, Completion)}) == 3


def test_what_the_yaml_calls_the_model_does_not_matter(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    one = Asker({"m": scripted(says="x")}, journal=journal, seed=0)
    other = Asker({"n": scripted(says="x")}, journal=journal, seed=0)
    third = Asker({"m": scripted(says="y")}, journal=journal, seed=0)
    asked_of_n = chat("a").model_copy(update={"model": "n"})
    assert one.key(chat("a")) == other.key(asked_of_n) != third.key(chat("a"))


def test_paid_answers_come_back_after_a_crash_and_are_not_asked_again(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    settings = {"says": "{seed}", "paid": True, "log": str(log)}
    questions = [chat("a"), labels("b"), Embed(model="m", text="c")]
    before = asker(tmp_path, **settings).answers(questions, advance=Bar())
    assert len(asked(log)) == 3
    bar = Bar()
    after = asker(tmp_path, **settings).answers([*questions, chat("d")], advance=bar)
    assert after[:3] == before
    assert len(asked(log)) == 4
    assert bar.total == 4


def test_free_answers_are_not_journalled(tmp_path: Path) -> None:
    asker(tmp_path).answers([chat("a")], advance=Bar())
    assert not (tmp_path / "journal.jsonl").exists()


def test_a_failure_is_neither_journalled_nor_remembered(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    one = asker(tmp_path, paid=True, fails=1.0, log=str(log))
    assert isinstance(one.answers([chat("a")], advance=Bar())[0], Trouble)
    assert not (tmp_path / "journal.jsonl").exists()
    one.forget_trouble()
    one.answers([chat("a")], advance=Bar())
    assert len(asked(log)) == 2


def test_an_answer_that_is_buried_is_asked_for_again_and_the_others_are_not(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    settings = {"says": "{seed}", "paid": True, "log": str(log)}
    one = asker(tmp_path, **settings)
    one.answers([chat("a"), chat("b")], advance=Bar())
    one.bury([chat("a"), chat("never asked")])
    assert len((tmp_path / "journal.jsonl").read_text().splitlines()) == 3  # what was paid for stays on record
    asker(tmp_path, **settings).answers([chat("a"), chat("b")], advance=Bar())
    assert len(asked(log)) == 3
    asker(tmp_path, **settings).answers([chat("a"), chat("b")], advance=Bar())
    assert len(asked(log)) == 3
