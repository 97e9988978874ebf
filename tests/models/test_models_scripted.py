"""models/scripted: the fake says what it is told, whatever the order, the process and the company."""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dressage.models.scripted import Settings, bag_of_words
from dressage.plugins import open_kind, settings_of
from dressage.protocols import Distribution, Sampling, Trouble
from dressage.records import Message


def user(*texts: str) -> list[list[Message]]:
    return [[Message(role="user", content=text)] for text in texts]


def ask(*texts: str, seeds: list[int] | None = None, tokens: int = 96, **settings: Any) -> list[Any]:
    model = open_kind(settings_of("models", "scripted")(**settings))
    return model.complete(
        user(*texts),
        sampling=Sampling(max_new_tokens=tokens),
        seeds=seeds or [0] * len(texts),
        done=lambda i, a: None,
    )


def test_of_several_replies_the_seed_chooses() -> None:
    replies = [a.text for a in ask("q", "q", "q", "q", seeds=[0, 1, 2, 4], says=["a", "b", "c"])]
    assert replies == ["a", "b", "c", "b"]


def test_the_first_rule_that_matches_wins() -> None:
    rules = [{"when": "(?i)tea", "says": "black"}, {"when": "tea|coffee", "says": "brown"}]
    assert [a.text for a in ask("Tea?", "coffee?", "water?", says="clear", rules=rules)] == [
        "black",
        "brown",
        "clear",
    ]


def test_rules_look_at_the_last_user_message_only() -> None:
    turns = [Message(role=r, content=c) for r, c in (("system", "tea"), ("user", "tea"), ("user", "water"))]
    model = open_kind(Settings(says="clear", rules=[{"when": "tea", "says": "black"}]))
    answers = model.complete([turns], sampling=Sampling(), seeds=[0], done=lambda i, a: None)
    assert answers[0].text == "clear"


def test_placeholders_are_filled_once_and_the_last_nonce_counts() -> None:
    question = "quoted: VERDICT-00000000: first {seed}\nend with the line VERDICT-0a1b2c3d: first|second|tie"
    answer = ask(question, seeds=[7], says="VERDICT-{nonce}: second")[0]
    assert answer.text == "VERDICT-0a1b2c3d: second"
    assert ask("SCORE-12345678: 1-9", says="SCORE-{nonce}: 9")[0].text == "SCORE-12345678: 9"
    assert ask("a {seed} {x", seeds=[7], says="{seed} {user} {other}")[0].text == "7 a {seed} {x {other}"
    assert ask("no line is asked for", says="VERDICT-{nonce}: first")[0].text == "VERDICT-{nonce}: first"


def test_the_token_limit_cuts_words() -> None:
    cut, whole = ask("q", says="one two  three", tokens=2)[0], ask("q", says="one two  three", tokens=3)[0]
    assert (cut.text, cut.finish, cut.usage.written) == ("one two", "length", 2)
    assert (whole.text, whole.finish, whole.usage.written) == ("one two  three", "stop", 3)


def test_about_the_asked_share_fails_and_always_the_same() -> None:
    texts = [f"question {i}" for i in range(400)]
    first, second = ask(*texts, fails=0.25), ask(*reversed(texts), fails=0.25, seeds=list(range(400)))
    failed = [isinstance(a, Trouble) for a in first]
    assert failed == [isinstance(a, Trouble) for a in reversed(second)]
    assert 70 <= sum(failed) <= 130  # 100 ± 3.5 standard deviations of √(400 · ¼ · ¾) ≈ 8.7
    assert not any(isinstance(a, Trouble) for a in ask(*texts))
    assert all(a == Trouble(reason="scripted failure", detail=a.detail) for a in ask(*texts, fails=1.0))


def test_label_probabilities() -> None:
    def labels(**settings: Any) -> Distribution:
        model = open_kind(Settings(**settings))
        answers = model.label_probabilities(user("q"), [("A", "B")], done=lambda i, a: None)
        assert isinstance(answers[0], Distribution)
        return answers[0]

    assert labels().probabilities == {"A": 0.5, "B": 0.5}
    assert labels(labels={"A": 0.5, "C": 0.25}).probabilities == {"A": 0.5, "B": 0.0}
    assert labels(labels={"C": 1.0}).mass == 0.0


def test_every_question_is_logged_and_every_answer_handed_over(tmp_path: Path) -> None:
    heard: list[tuple[int, Any]] = []
    model = open_kind(Settings(log=tmp_path / "asked.jsonl", paid=True))
    answers = model.complete(
        user("a", "b", "a"), sampling=Sampling(), seeds=[1, 2, 3], done=lambda i, a: heard.append((i, a))
    )
    model.embed(["a"], done=lambda i, a: None)
    lines = [json.loads(line) for line in (tmp_path / "asked.jsonl").read_text().splitlines()]
    assert [line["asked"] for line in lines] == ["complete"] * 3 + ["embed"]
    assert [line["seed"] for line in lines[:3]] == [1, 2, 3]
    assert lines[0]["question"] == lines[2]["question"] != lines[1]["question"]
    assert heard == list(enumerate(answers))
    assert model.paid


def test_delay_is_per_answer() -> None:
    started = time.monotonic()
    ask("a", "b", delay_s=0.05)
    assert time.monotonic() - started >= 0.1


def test_identity_and_fingerprint_look_at_what_it_says() -> None:
    plain = Settings(says="a")
    assert plain.identity() == Settings(says="a", paid=True, delay_s=1, log="x").identity()
    assert plain.identity() != Settings(says="b").identity()
    assert open_kind(plain).fingerprint != open_kind(Settings(says="b")).fingerprint


@pytest.mark.parametrize(
    "wrong", [{"rules": [{"when": "(", "says": "a"}]}, {"labels": {"A": 0.9, "B": 0.2}}, {"fails": 1.1}]
)
def test_settings_refuse_nonsense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(**wrong)


# ---------------------------------------------------------------- embeddings


@given(st.text())
def test_embeddings_have_unit_length(text: str) -> None:
    values = bag_of_words(text).values
    assert len(values) == 64
    assert math.isclose(sum(v * v for v in values), 1.0, rel_tol=1e-12)


def test_embeddings_count_words_and_nothing_else() -> None:
    def dot(a: str, b: str) -> float:
        return sum(x * y for x, y in zip(bag_of_words(a).values, bag_of_words(b).values, strict=True))

    assert bag_of_words("Tea, please!") == bag_of_words("please tea")
    # "tea please" and "tea now" share one of two words: ½, as the three words fall on different dimensions
    assert dot("tea please", "tea now") == pytest.approx(0.5)


def test_embeddings_are_the_same_in_another_process() -> None:
    code = "from dressage.models.scripted import bag_of_words as b; print(b('tea and toast').values)"
    runs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout.strip()
        for env in ({**os.environ, "PYTHONHASHSEED": "1"}, {**os.environ, "PYTHONHASHSEED": "2"})
    }
    assert runs == {str(bag_of_words("tea and toast").values)}
