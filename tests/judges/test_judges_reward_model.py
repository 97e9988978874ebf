"""A reward model as a judge: what it asks, how a raw score becomes a grade, whom it may ask, what is the same one."""

import math
import shutil
from pathlib import Path

import pytest
import torch

from dressage.crossings import crossings, substance
from dressage.engines.asking import Asker
from dressage.engines.hearing import Bench
from dressage.engines.judging import duel, grade
from dressage.judges.reward_model import Settings
from dressage.judges.reward_model import open as open_judge
from dressage.plugins import open_kind, settings_of
from dressage.protocols import Scalar, Score, Unreadable
from dressage.records import Candidate, Message, Prompt
from dressage.settings import RunSettings
from dressage.store import Journal
from reward_parts import reward_model


@pytest.fixture(scope="module")
def rewards(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return reward_model(tiny_model, tmp_path_factory.mktemp("rewards") / "one", deviation=0.4)


def judge_of(rewards: Path, tools):
    return open_judge(Settings(model="base", adapter=str(rewards)), tools=tools())


def test_it_asks_once_and_normalises_by_the_deviation(rewards, ballot, tools) -> None:
    judge, shown = judge_of(rewards, tools), ballot("It leaves today.")
    (question,) = judge.ask(shown)
    assert isinstance(question, Scalar)
    assert question.messages == (*shown.messages, Message(role="assistant", content="It leaves today."))
    (question,) = judge.ask(ballot("It lea\u200bves\U000e0041 today."))  # what no user sees is not scored either
    assert question.messages[-1].content == "It leaves today."
    for raw in (-3.0, 0.0, 0.2):
        rating = judge.read(shown, [Score(raw=raw, deviation=0.4)])
        assert rating.score == pytest.approx(1 / (1 + math.exp(-raw / 0.4)))
        assert (rating.raw, rating.normalised) == (raw, "logistic(raw / 0.4)")
    with pytest.raises(Unreadable, match="nan"):
        judge.read(shown, [Score(raw=float("nan"), deviation=0.4)])


def test_grades_of_an_engine_are_the_models_scores(rewards, tiny_model, tools, tmp_path) -> None:
    kind = settings_of("models", "local").model_validate({"kind": "local", "path": str(tiny_model), "dtype": "float32"})
    model = open_kind(kind)
    asker = Asker({"base": model}, journal=Journal(tmp_path / "j.jsonl"), seed=0)
    bench = Bench("rm", judge_of(rewards, tools), asker, 200, lambda units: None)
    prompt = Prompt.of((Message(role="user", content="Where is my parcel?"),), source="test", split="train")
    said = ["It leaves today.", "No.", "It leaves today."]
    candidates = [
        Candidate.of(prompt_id=prompt.id, messages=(Message(role="assistant", content=t),), model="m", index=i)
        for i, t in enumerate(said)
    ]
    labels = grade(bench, [(prompt, c) for c in candidates])
    whole = [[*prompt.messages, Message(role="assistant", content=text)] for text in said]
    expected = [answer.raw for answer in model.scalars(whole, str(rewards), done=lambda i, a: None)]
    assert [g.raw for g in labels.grades] == pytest.approx(expected, abs=1e-6)
    assert labels.grades[0].score == labels.grades[2].score != labels.grades[1].score
    assert all(g.usage.read > 0 for g in labels.grades)
    (verdict,) = duel(bench, [(prompt, candidates[0], candidates[1])]).verdicts
    assert verdict.winner == ("first" if expected[0] > expected[1] else "second")


def test_two_reward_models_on_one_model_are_asked_apart(rewards, tiny_model, ballot, tools, tmp_path) -> None:
    other = reward_model(tiny_model, tmp_path / "other", seed=1)
    kind = settings_of("models", "local").model_validate({"kind": "local", "path": str(tiny_model), "dtype": "float32"})
    asker = Asker({"base": open_kind(kind)}, journal=Journal(tmp_path / "j.jsonl"), seed=0)
    shown = [ballot("It leaves today."), ballot("No.")]
    judges = [judge_of(folder, tools) for folder in (rewards, other)]
    mixed = [question for one in shown for judge in judges for question in judge.ask(one)]
    together = asker.answers(mixed, advance=lambda units: None)
    alone = [
        asker.answers([q for one in shown for q in judge.ask(one)], advance=lambda units: None) for judge in judges
    ]
    assert [together[0::2], together[1::2]] == alone
    assert len({answer.raw for answer in together if isinstance(answer, Score)}) == 4


def test_a_model_that_gives_no_scores_is_refused_when_asked(rewards, ballot, tools, tmp_path) -> None:
    scripted = open_kind(settings_of("models", "scripted").model_validate({"kind": "scripted"}))
    asker = Asker({"base": scripted}, journal=Journal(tmp_path / "j.jsonl"), seed=0)
    with pytest.raises(ValueError, match="'base' cannot wear a reward model; name one of kind: local"):
        asker.answers(judge_of(rewards, tools).ask(ballot("Yes.")), advance=lambda units: None)


def test_what_is_not_there_is_named(tiny_model, rewards, tmp_path, tools) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no adapter_config\.json"):
        judge_of(tmp_path, tools)
    policy = shutil.copytree(rewards, tmp_path / "policy")
    (policy / "score_head.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no score_head\.safetensors.*kind: reward"):
        judge_of(policy, tools)


def test_it_is_known_by_the_content_of_its_files(rewards, tmp_path) -> None:
    copied = shutil.copytree(rewards, tmp_path / "copied")
    (copied / "README.md").write_text("not looked at")
    one, two = (Settings(model="base", adapter=str(folder)) for folder in (rewards, copied))
    assert one.content() == two.content()
    assert one.substance() == two.substance()
    head = copied / "score_head.safetensors"
    head.write_bytes(head.read_bytes()[:-1] + b"\x01")
    assert one.content() != two.content()
    assert not one.substance() & two.substance()
    assert Settings(model="base", adapter="nowhere").substance() == {"reward_model:nowhere"}


def run(model: Path, judges: dict[str, object]) -> RunSettings:
    return RunSettings.model_validate(
        {
            "name": "x",
            "policy": "base",
            "models": {
                "base": {"kind": "local", "path": str(model)},
                "script": {"kind": "scripted"},
                "near": {"kind": "embedder", "path": "x"},
            },
            "judges": judges,
            "data": {"source": {"kind": "jsonl", "path": "p.jsonl"}},
            "judge": {"by": "a"},
            "evaluate": {"policy": "base", "by": ["b"]},
        }
    )


def test_overlap_is_seen_by_the_adapter_and_not_by_its_base(tiny_model, rewards, tmp_path) -> None:
    same = shutil.copytree(rewards, tmp_path / "same")
    other = reward_model(tiny_model, tmp_path / "other", seed=1)

    def by(adapter: Path) -> dict[str, object]:
        return {"kind": "reward_model", "model": "base", "adapter": str(adapter)}

    (told,) = [text for _, text in crossings(run(tiny_model, {"a": by(rewards), "b": by(same)}))]
    assert told.startswith("'b' shares reward_model:")
    assert list(crossings(run(tiny_model, {"a": by(rewards), "b": by(other)}))) == []
    labels = {"kind": "pointwise", "model": "base"}
    assert list(crossings(run(tiny_model, {"a": by(rewards), "b": labels}))) == []
    panel = {"m": by(rewards), "a": {"kind": "panel", "judges": ["m"]}, "b": by(rewards)}
    assert substance(run(tiny_model, panel), "a") == substance(run(tiny_model, panel), "b")


@pytest.mark.parametrize("model", ["script", "near"])
def test_only_a_local_model_can_wear_one(tiny_model, rewards, model: str) -> None:
    judges = {
        "a": {"kind": "reward_model", "model": model, "adapter": str(rewards)},
        "b": {"kind": "rules", "rules": [{"check": {"rule": "ends_cleanly"}}]},
    }
    ((where, told),) = crossings(run(tiny_model, judges))
    assert where == ("judges", "a")
    assert "to wear a reward model, which only kind: local can" in told
