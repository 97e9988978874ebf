"""Judges that overlap are refused: by model, by rule, by word list, through panels; unless a reason is given."""

from typing import Any

import pytest

from dressage.crossings import crossings, substance
from dressage.settings import RunSettings

RULES = {"kind": "rules", "rules": [{"check": {"rule": "ends_cleanly"}}, {"check": {"rule": "repetition"}}]}
OTHER = {"kind": "rules", "rules": [{"check": {"rule": "format"}}]}


def run(**changes: Any) -> RunSettings:
    """A run whose three roles are taken by judges `a`, `b`, `c`."""
    judges = {"a": RULES, "b": {"kind": "pointwise", "model": "one"}, "c": OTHER} | changes.pop("judges", {})
    plain: dict[str, Any] = {
        "name": "x",
        "policy": "base",
        "models": {
            "base": {"kind": "local", "path": "models/base"},
            "one": {"kind": "scripted", "says": "A"},
            "same": {"kind": "scripted", "says": "A"},
            "two": {"kind": "scripted", "says": "B"},
        },
        "judges": judges,
        "data": {"source": {"kind": "jsonl", "path": "p.jsonl"}},
        "judge": {"by": "a"},
        "train": {"trainer": {"kind": "dpo"}, "watch": "b"},
        "evaluate": {"by": ["c"]},
    }
    return RunSettings.model_validate(plain | changes)


def told(settings: RunSettings) -> list[str]:
    return [f"{'.'.join(map(str, where))}: {text}" for where, text in crossings(settings)]


def test_three_judges_of_different_substance_are_fine() -> None:
    assert told(run()) == []


@pytest.mark.parametrize(
    ("judges", "start"),
    [
        ({"c": RULES}, "evaluate.by: 'c' shares rule:ends_cleanly, rule:repetition with judge.by 'a'"),
        (
            {"c": {"kind": "rules", "rules": [{"check": {"rule": "repetition", "slack": 0.3}}]}},
            "evaluate.by: 'c' shares rule:repetition with judge.by 'a'",
        ),
        ({"c": {"kind": "pairwise", "model": "same"}}, "evaluate.by: 'c' shares model:scripted:"),
        ({"m": OTHER, "a": {"kind": "panel", "judges": ["m"]}}, "evaluate.by: 'c' shares rule:format with judge.by"),
        (
            {"m": OTHER, "n": {"kind": "panel", "judges": ["m"]}, "a": {"kind": "panel", "judges": ["n"]}},
            "evaluate.by: 'c' shares rule:format with judge.by 'a'",
        ),
        ({"a": {"kind": "panel", "judges": ["b"]}}, "train.watch: 'b' shares model:scripted:"),
    ],
    ids=["same rules", "same rule, other limits", "same model, other name", "member", "member of a member", "watch"],
)
def test_overlap_is_refused_whatever_it_is_called(judges: dict[str, Any], start: str) -> None:
    said = told(run(judges=judges))
    assert len(said) == 1
    assert said[0].startswith(start)
    assert told(run(judges=judges, allow_shared_judges="the only judge there is")) == []


def test_models_of_different_words_do_not_overlap() -> None:
    assert told(run(judges={"c": {"kind": "pairwise", "model": "two"}})) == []


def test_weights_that_are_not_on_this_machine_overlap_by_their_path() -> None:
    models = {"base": {"kind": "local", "path": "models/base"}, "again": {"kind": "local", "path": "models/base"}}
    judges = {"b": {"kind": "pointwise", "model": "base"}, "c": {"kind": "pairwise", "model": "again"}}
    (said,) = told(run(judges=judges, models=models))
    assert said.startswith("evaluate.by: 'c' shares model:")


def test_one_server_is_one_however_its_address_is_written() -> None:
    def overlap(one: str, other: str, model: str = "big") -> list[str]:
        asked = {"kind": "endpoint", "key_env": None}
        models = {
            "base": {"kind": "local", "path": "models/base"},
            "one": {**asked, "base_url": one, "model": "big"},
            "again": {**asked, "base_url": other, "model": model},
        }
        return told(run(judges={"c": {"kind": "pairwise", "model": "again"}}, models=models))

    for address in ("https://API.example.com/v1/", "HTTPS://api.example.com:443/v1"):
        (said,) = overlap("https://api.example.com/v1", address)
        assert said.startswith("evaluate.by: 'c' shares model:https://api.example.com:443/v1#big with train.watch")
    assert overlap("https://api.example.com/v1", "https://api.example.com/v2") == []
    assert overlap("https://api.example.com/v1", "https://api.example.com:8443/v1") == []
    assert overlap("https://api.example.com/v1", "https://api.example.com/v1", model="small") == []


def test_the_base_itself_may_judge() -> None:
    assert told(run(judges={"c": {"kind": "pairwise", "model": "base"}})) == []


@pytest.mark.parametrize("word", ["trained", "live", "policy"])
def test_a_judge_may_not_follow_the_live_adapter(word: str) -> None:
    (said,) = told(run(judges={"c": {"kind": "pairwise", "model": word}}))
    assert said.startswith(f"judges.c: asks {word!r}, the live adapter: it would grade itself")


def test_a_panel_that_sits_in_itself_is_told_not_followed() -> None:
    judges = {"c": {"kind": "panel", "judges": ["d"]}, "d": {"kind": "panel", "judges": ["c"]}}
    assert told(run(judges=judges)) == ["judges.c: is a member of itself"]


def test_substance_holds_models_and_members() -> None:
    settings = run(judges={"p": {"kind": "panel", "judges": ["a", "b"]}})
    assert substance(settings, "p") >= substance(settings, "a") | substance(settings, "b")


def test_a_model_that_cannot_embed_or_chat_is_refused() -> None:
    near = {"kind": "embedding", "model": "base", "mode": "relevance"}
    (said,) = told(run(judges={"c": near}))
    assert said.startswith("judges.c: asks 'base' (local) for an embedding")
    models = {"base": {"kind": "local", "path": "models/base"}, "one": {"kind": "embedder", "path": "x"}}
    assert told(run(models=models)) == ["judges.b: asks 'one' (embedder), which cannot chat"]
