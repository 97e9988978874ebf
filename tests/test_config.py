"""Every slip in a run's YAML is one line: file, line, the key's path, what is wrong and a did-you-mean."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from dressage import config
from dressage.config import ConfigError

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))

RUN = """\
name: small
policy: tiny
models:
  tiny: {kind: local, path: models/tiny}
  words: {kind: scripted}
judges:
  form:
    kind: rules
    rules:
      - check: {rule: length_window, unit: words, least: 2, most: 9}
      - check: {rule: repetition}
        weight: 0.5
  near: {kind: embedding, model: words, mode: relevance}
data:
  source: {kind: jsonl, path: prompts.jsonl}
  per_prompt: 2
  sampling:
    temperature: 0.9
judge:
  by: form
train:
  trainer: {kind: dpo, learning_rate: 1.0e-3, lora: {r: 4}}
evaluate:
  by: [near]
"""

Load = Callable[..., object]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads RUN with parts of its text replaced."""

    def loaded(*changes: tuple[str, str], sets: tuple[str, ...] = ()) -> object:
        text = RUN
        for old, new in changes:
            assert text.count(old) >= 1, old
            text = text.replace(old, new, 1)
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return config.load(path, sets)

    return loaded


def refusal(load: Load, *changes: tuple[str, str], sets: tuple[str, ...] = ()) -> str:
    with pytest.raises(ConfigError) as caught:
        load(*changes, sets=sets)
    return str(caught.value)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_of_the_repository_loads_and_dumps_what_it_loaded(path: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    settings = config.load(path)
    copy = tmp_path / "copy.yaml"
    copy.write_text(config.dump(settings))
    assert config.load(copy) == settings


def test_best_of_n_is_the_demo_with_another_trainer(monkeypatch) -> None:
    """So its draws and labels are the demo's (`--from demo`), and their results can be laid side by side."""
    monkeypatch.chdir(ROOT)
    demo, best = (config.load(ROOT / "configs" / f"{name}.yaml").model_dump() for name in ("demo", "sft_best_of"))
    trainers = [run["train"].pop("trainer") for run in (demo, best)]
    assert [trainer["kind"] for trainer in trainers] == ["dpo", "sft"]
    assert demo.pop("name") != best.pop("name")
    assert demo == best


def test_there_are_configs() -> None:
    assert {"smoke", "demo"} <= {p.stem for p in CONFIGS}


def test_the_dump_shows_every_default_and_null(load: Load) -> None:
    dumped = yaml.safe_load(config.dump(load()))
    assert dumped["train"]["watch"] is None
    assert dumped["data"]["sampling"] == {"temperature": 0.9, "top_p": 1.0, "max_new_tokens": 96}


# ---------------------------------------------------------------- slips of the pen

SLIPS = {
    "top": (("policy: tiny", "policy: tiny\npolcy: x"), 3, "polcy: unknown key; did you mean 'policy'?"),
    "section": (("per_prompt:", "per_promt:"), 16, "data.per_promt: unknown key; did you mean 'per_prompt'?"),
    "group": (("    temperature:", "    temprature:"), 18, "data.sampling.temprature: unknown key; did you mean 'temp"),
    "model": (("path: models", "pth: models"), 4, "models.tiny.pth: unknown key; did you mean 'path'?"),
    "judge": (("mode: rel", "mod: rel"), 13, "judges.near.mod: unknown key; did you mean 'mode'?"),
    "rule": (("most: 9", "mosst: 9"), 10, "judges.form.rules.0.check.mosst: unknown key; did you mean 'most'?"),
    "weight": (
        ("  weight: 0.5", "  wieght: 0.5"),
        12,
        "judges.form.rules.1.wieght: unknown key; did you mean 'weight'?",
    ),
    "source": (("{kind: jsonl,", "{kind: jsonl, limt: 3,"), 15, "data.source.limt: unknown key; did you mean 'limit'?"),
    "trainer": (
        ("learning_rate", "learning_rat"),
        22,
        "train.trainer.learning_rat: unknown key; did you mean 'learning_",
    ),
    "another kind's": (
        ("learning_rate:", "prompts_per_update:"),
        22,
        "train.trainer.prompts_per_update: unknown key: dpo has no prompts_per_update (grpo, ppo, rloo",
    ),
    "lora": (("{r: 4}", "{r: 4, alhpa: 8}"), 22, "train.trainer.lora.alhpa: unknown key; did you mean 'alpha'?"),
    "mapping": (
        ("path: prompts.jsonl", "path: p.jsonl, split: {trian: 1.0}"),
        15,
        "data.source.split.trian: unknown key; did you mean 'train'?",
    ),
    "kind of a model": (("kind: local", "kind: locl"), 4, "models.tiny: no kind 'locl'; did you mean 'local'?"),
    "kind of a trainer": (("kind: dpo", "kind: dop"), 22, "train.trainer: no kind 'dop'; did you mean 'dpo'?"),
    "kind of a rule": (("rule: repe", "rule: reppe"), 11, "judges.form.rules.1.check: no rule 'reppetition'; did you"),
    "no kind": (("{kind: scripted}", "{}"), 5, "models.words: `kind:` is missing; add one of "),
    "no rule": (("{rule: repetition}", "{}"), 11, "judges.form.rules.1.check: `rule:` is missing; add one of "),
    "no trainer": (
        ("  trainer: {kind: dpo, learning_rate: 1.0e-3, lora: {r: 4}}", "  watch: null"),
        21,
        "train.trainer: is miss",
    ),
    "no value": (("  by: form", "  min_margin: 0.1"), 19, "judge.by: is missing"),
    "word": (("per_prompt: 2", "per_prompt: two"), 16, "data.per_prompt: Input should be a valid integer"),
    "quoted number": (("per_prompt: 2", "per_prompt: '2'"), 16, "data.per_prompt: is the word '2', not a number"),
    "boolean": (("per_prompt: 2", "per_prompt: true"), 16, "data.per_prompt: is true, which is no number"),
    "infinite": (
        ("temperature: 0.9", "temperature: .inf"),
        18,
        "data.sampling.temperature: is inf, and a setting is a",
    ),
    "no number": (("weight: 0.5", "weight: .nan"), 12, "judges.form.rules.1.weight: is nan, and a setting is a finite"),
    "ends": (
        ("by: [near]", "by: [near]\n  guards: {nll_within: [0.2, -0.1]}"),
        25,
        "evaluate.guards: nll_within is (lowest, highest), and 0.2 is above -0.1; swap them",
    ),
    "limit": (("per_prompt: 2", "per_prompt: -2"), 16, "data.per_prompt: Input should be greater than or equal to 0"),
    "no mapping": (("words: {kind: scripted}", "words: scripted"), 5, "models.words: must be a mapping"),
    "no list": (("by: [near]", "by: near"), 24, "evaluate.by: must be a list, such as [near]"),
    "name": (("name: small", "name: ../small"), 1, "name: String should match pattern"),
    "twice": (("policy: tiny", "policy: tiny\npolicy: b"), 3, "policy stands here twice (first in line 2)"),
    "twice below": (("per_prompt: 2", "per_prompt: 2\n  per_prompt: 3"), 17, "data.per_prompt stands here twice"),
}


@pytest.mark.parametrize("name", SLIPS)
def test_a_slip_is_one_line_with_file_line_path_and_way_out(load: Load, tmp_path: Path, name: str) -> None:
    change, line, text = SLIPS[name]
    said = refusal(load, change)
    assert said.startswith(f"{tmp_path / 'run.yaml'}:{line}: {text}")
    assert "\n" not in said


def test_several_slips_are_told_at_once(load: Load) -> None:
    said = refusal(load, ("per_prompt: 2", "per_prompt: -2"), ("mode: relevance", "mod: relevance"))
    assert len(said.splitlines()) == 2


def test_a_judge_called_like_a_field_of_its_kind_keeps_its_path(load: Load) -> None:
    said = refusal(load, ("  form:", "  rules:"), ("by: form", "by: rules"), ("most: 9", "mosst: 9"))
    assert "judges.rules.rules.0.check.mosst: unknown key" in said


# ---------------------------------------------------------------- names that point nowhere, roles that overlap

WATCHING = ("train:\n", "train:\n  watch: near\n")
CROSSINGS = {
    "policy": ([("policy: tiny", "policy: tny")], 2, "policy: 'tny' is not in `models:`; did you mean 'tiny'?"),
    "judge.by": ([("by: form", "by: from")], 20, "judge.by: 'from' is not in `judges:`; did you mean 'form'?"),
    "a judge's model": ([("model: words", "model: wrods")], 13, "judges.near: 'wrods' is not in `models:`"),
    "evaluate.policy": ([("by: [near]", "by: [near]\n  policy: tyni")], 25, "evaluate.policy: 'tyni' is not in"),
    "data.also": ([("per_prompt: 2", "also: [tni]")], 16, "data.also.0: 'tni' is not in `models:`"),
    "live": ([("model: words", "model: trained")], 13, "judges.near: asks 'trained', the live adapter"),
    "twice": ([("per_prompt: 2", "also: [tiny]")], 16, "data.also: tiny stands twice"),
    "a side's name": (
        [
            ("  words:", "  predecessor:"),
            ("model: words", "model: predecessor"),
            ("by: [near]", "by: [near]\n  baselines: [predecessor]"),
        ],
        25,
        "evaluate.baselines.0: 'predecessor' is what evaluate calls a side of its own",
    ),
    "untrainable": ([("policy: tiny", "policy: words")], 2, "policy: 'words' is kind 'scripted', which cannot be"),
    "same judge": (
        [("by: [near]", "by: [form]")],
        24,
        "evaluate.by: 'form' shares rule:length_window, rule:repetition",
    ),
    "watch decides": ([WATCHING], 25, "evaluate.by: 'near' shares"),
    "watch rewards": ([("train:\n", "train:\n  watch: form\n")], 22, "train.watch: 'form' shares"),
}


@pytest.mark.parametrize("name", CROSSINGS)
def test_what_no_single_key_can_know(load: Load, tmp_path: Path, name: str) -> None:
    changes, line, text = CROSSINGS[name]
    said = refusal(load, *changes)
    assert said.startswith(f"{tmp_path / 'run.yaml'}:{line}: {text}")
    assert "\n" not in said


def test_evaluate_and_watch_need_prompts(load: Load) -> None:
    data = RUN[RUN.index("data:\n") : RUN.index("judge:\n")]
    given = ("by: form\n", "by: form\n  input: {kind: jsonl, path: c.jsonl}\n")
    assert "evaluate: has no prompts: add `data:`" in refusal(load, (data, ""), given)
    said = refusal(load, (data, ""), given, WATCHING, (RUN[RUN.index("evaluate:") :], ""))
    assert "train.watch: looks at dev prompts: add `data:`" in said
    assert "\n" not in said


def test_stages_need_what_they_read(load: Load) -> None:
    assert "judge: has no candidates: add `data:` or judge.input" in refusal(
        load, (RUN[RUN.index("data:\n") : RUN.index("judge:\n")], "")
    )
    assert "train: has nothing to learn from: add `judge:` or train.input" in refusal(
        load, ("judge:\n  by: form\n", "")
    )
    trained = refusal(load, (RUN[RUN.index("train:\n") : RUN.index("evaluate:\n")], ""))
    assert "evaluate.policy: is `trained`, but nothing trains" in trained
    assert "no stage" in refusal(load, (RUN[RUN.index("data:\n") :], ""))


# ---------------------------------------------------------------- --set


def test_set_reaches_nested_keys_lists_and_sections_that_are_null(load: Load) -> None:
    settings = load(
        sets=("data.sampling.temperature=1e-1", "judges.form.rules.1.weight=2", "evaluate.sampling.max_new_tokens=7")
    )
    assert settings.data.sampling.temperature == 0.1
    assert settings.judges["form"].rules[1].weight == 2
    assert settings.evaluate.sampling.max_new_tokens == 7


BAD_SETS = {
    "foo": "write --set a.b=c",
    "=3": "write --set a.b=c",
    "a..b=3": "write --set a.b=c",
    "policy.x=3": "policy is a plain value, nothing lies below it",
    "judges.form.rules.9.weight=1": "judges.form.rules is a list with the entries 0, 1",
    "judges.form.rules.first.weight=1": "judges.form.rules is a list with the entries 0, 1",
    "policy={a": "expected ',' or '}'",
    "data={per_prompt: 1, per_prompt: 2}": "per_prompt stands here twice",
    "data.samplng.top_p=0.5": "data.samplng: unknown key; did you mean 'sampling'?",
    "data.sampling.top_p=7": "data.sampling.top_p: Input should be less than or equal to 1",
}


@pytest.mark.parametrize("text", BAD_SETS)
def test_an_override_that_cannot_be_names_itself(load: Load, text: str) -> None:
    said = refusal(load, sets=(text,))
    assert said.startswith(f"--set {text!r}: {BAD_SETS[text]}")
    assert "\n" not in said


# ---------------------------------------------------------------- quick, and without torch

HEAVY = ("torch", "transformers", "trl", "peft", "datasets", "numpy", "scipy", "pyarrow", "openai", "accelerate")


def in_a_child(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_loading_a_config_imports_nothing_heavy(path: Path) -> None:
    there = in_a_child(
        "import json, sys; from pathlib import Path; from dressage import config, cli, pipeline, planning\n"
        f"config.load(Path({str(path)!r}))\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    assert not set(json.loads(there)) & set(HEAVY)


def _seconds(said: str, *arguments: str) -> Iterator[float]:
    """What a command computes: it waits for nothing, and how busy the machine is with other things is not its doing."""
    for _ in range(6):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-m", "dressage.cli", *arguments],
            cwd=ROOT,
            env=_environment(),
            capture_output=True,
            text=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        yield after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        assert said in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--help",), "Learns from judges"),
        (("run", "{slip}"), "data.per_promt: unknown key"),
        (("run", "configs/demo.yaml", "--set", "data.per_promt=2"), "data.per_promt: unknown key"),
        (("run", "no-such.yaml"), "no-such.yaml: no such file"),
    ],
)
def test_help_and_config_errors_answer_at_once(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    slip = tmp_path / "slip.yaml"
    slip.write_text(RUN.replace("per_prompt", "per_promt"))
    taken = min(_seconds(said, *(word.format(slip=slip) for word in arguments)))
    assert taken < 0.5, f"{taken:.2f} s at best"


def test_a_list_whose_entries_are_wrong_is_not_also_too_short(load: Load) -> None:
    said = refusal(load, ("most: 9", "most: 1"))
    assert "judges.form.rules.0.check: the window from 2 to 1 is empty" in said
    assert "\n" not in said
    assert "evaluate.by: has too few entries; it needs 1" in refusal(load, ("by: [near]", "by: []"))
