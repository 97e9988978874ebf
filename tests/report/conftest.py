"""Run folders made by hand through the store: the report's tests read them as they would a real run."""

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from dressage.records import (
    Battle,
    Candidate,
    Checkpoint,
    Failure,
    GateResult,
    Grade,
    Measure,
    Message,
    Preference,
    Prompt,
    Record,
    Usage,
)
from dressage.store import Manifest, append_line, commit_shard, commit_text, finish_stage

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}{% raw %}\x1b[31mred\x1b[0m\u202eevil\u0085\x00"

CONFIG = {
    "name": "demo",
    "seed": 7,
    "policy": "base",
    "models": {"base": {"kind": "local", "path": "models/SmolLM2-135M-Instruct"}, "minilm": {"kind": "embedder"}},
    "judges": {
        "rater": {"kind": "pointwise", "model": "base", "criterion": "A good reply <b>answers</b> the question."},
        "duel": {"kind": "pairwise", "model": "base"},
        "nearness": {"kind": "embedding", "model": "minilm", "mode": "relevance"},
    },
    "data": {"source": {"kind": "builtin", "categories": ["advice"]}, "per_prompt": 4},
    "judge": {"by": "rater", "beside": []},
    "train": {"trainer": {"kind": "dpo", "beta": 0.1}, "watch": None},
    "evaluate": {"by": ["nearness", "duel"], "split": "test"},
    "allow_shared_judges": "one small model is all there is",
}

Tables = Mapping[type[Record], Sequence[Record]]


def stage(run: Path, name: str, tables: Tables, **facts: object) -> None:
    """One finished stage with one shard."""
    folder = run / "round-0" / name
    shard = commit_shard(folder, "00000", key="k", tables=tables)
    manifest = {
        "stage": name,
        "fingerprint": f"{name}-fingerprint",
        "parts": {},
        "shards": [shard.model_dump(mode="json")],
        "rows_hash": f"{name}-rows-hash",
        "facts": facts,
        "times": {"loading": 1.5, "seconds": 61.25, "training": 40.0},
    }
    finish_stage(folder, Manifest.model_validate(manifest))


def prompt(number: int, text: str) -> Prompt:
    return Prompt.of((Message(role="user", content=text),), source="test", split="test", tags=(f"tag{number % 3}",))


def candidate(prompt: Prompt, text: str, *, model: str, tokens: int) -> Candidate:
    return Candidate.of(
        prompt_id=prompt.id,
        messages=(Message(role="assistant", content=text),),
        token_ids=tuple(range(tokens)),
        mask=(True,) * tokens,
        model=model,
        finish="stop" if tokens < 90 else "length",
    )


def label(run: Path, rng: random.Random, prompts: Sequence[Prompt]) -> None:
    drawn = [[candidate(p, f"draft {i} of {p.id}", model="base", tokens=40 + i) for i in range(4)] for p in prompts]
    grades, pairs = [], []
    for group in drawn:
        scores = [min(max(rng.gauss(0.55, 0.15), 0), 1) for _ in group]
        best, worst = scores.index(max(scores)), scores.index(min(scores))
        pairs.append(
            Preference(
                prompt_id=group[0].prompt_id,
                chosen=group[best].id,
                rejected=group[worst].id,
                margin=scores[best] - scores[worst],
            )
        )
        grades += [
            Grade(prompt_id=c.prompt_id, candidate_id=c.id, judge="rater", score=s, usage=Usage(read=210, written=1))
            for c, s in zip(group, scores, strict=True)
        ]
    failed = Failure(
        prompt_id=prompts[0].id,
        candidate_ids=(drawn[0][0].id,),
        judge="rater",
        side="infrastructure",
        reason="unreadable",
        detail=f"no verdict in {HOSTILE}",
    )
    flat = [c for group in drawn for c in group]
    stage(run, "data", {Prompt: prompts, Candidate: flat}, prompts=len(prompts), near_empty=3, reached_token_limit=1)
    stage(run, "judge", {Grade: grades, Preference: pairs, Failure: [failed]}, preferences=len(pairs), ties=2)


def train(run: Path, rng: random.Random, steps: int = 60) -> None:
    checkpoint = Checkpoint(
        adapter="adapter", base="models/base", step=steps, files={"adapter_model.safetensors": "0f"}
    )
    stage(run, "train", {Checkpoint: [checkpoint]}, pairs=120, steps=steps, trainable_parameters=921_600)
    for step in range(1, steps + 1):
        fall = 0.35 * (1 - 2.7 ** (-step / 25))
        append_line(
            run / "metrics.jsonl",
            {
                "stage": "train",
                "step": step,
                "loss": 0.6931 - fall + rng.gauss(0, 0.02),
                "rewards/margins": 2.2 * fall + rng.gauss(0, 0.04),
                "rewards/accuracies": min(1.0, 0.5 + fall + rng.gauss(0, 0.03)),
                "grad_norm": 4 - 3 * fall + rng.gauss(0, 0.3),
                "learning_rate": 1e-4 * (1 - step / steps),
                "epoch": step / 20,
            },
        )


def evaluate(run: Path, rng: random.Random, prompts: Sequence[Prompt], texts: tuple[str, str]) -> None:
    """The policy wins two of three battles by `nearness`; `duel` ties every second one and fails on the last."""
    battles, candidates, grades = [], [], []
    for number, p in enumerate(prompts):
        new = candidate(p, f"{texts[0]} ({number})", model="new", tokens=max(5, int(rng.gauss(52, 14))))
        old = candidate(p, f"{texts[1]} ({number})", model="old", tokens=max(5, int(rng.gauss(58, 20))))
        candidates += [new, old]
        broken = ("a",) if number == 5 else ()
        last = number == len(prompts) - 1
        ids = {"prompt_id": p.id, "candidate_a": new.id, "candidate_b": old.id, "a": "policy", "b": "predecessor"}
        outcome = None if broken else "a" if number % 3 else "b"
        battles.append(Battle(**ids, judge="nearness", outcome=outcome, margin=0.125, broken=broken))
        outcome = None if broken or last else "tie" if number % 2 else "a"
        battles.append(Battle(**ids, judge="duel", outcome=outcome, margin=None, broken=broken))
        for c, middle in ((new, 0.64), (old, 0.55)):
            score = min(max(rng.gauss(middle, 0.13), 0), 1)
            grades.append(Grade(prompt_id=p.id, candidate_id=c.id, judge="rater", score=score))
    failed = Failure(
        prompt_id=prompts[5].id, candidate_ids=(candidates[10].id,), judge="nearness", side="response", reason="empty"
    )
    tables = {Battle: battles, Candidate: candidates, Grade: grades, Failure: [failed]}
    tables |= {Measure: measures(len(prompts)), GateResult: gates()}
    stage(run, "evaluate", tables, battles=len(battles), split="test")


def measures(n: int) -> list[Measure]:
    rate = {"name": "preference_rate", "n": n}
    return [
        Measure(**rate, of="policy", by="nearness", value=0.6133, low=0.5502, high=0.6741),
        Measure(**rate, of="best_of_4", by="nearness", value=0.5725, low=0.5011, high=0.6439),
        Measure(**rate, of="policy", by="duel", value=0.5218, low=0.4409, high=0.6027),
        Measure(**rate, of="best_of_4", by="duel", value=0.5309, low=0.46, high=0.6),
        Measure(
            name="preference_rate_without_failures",
            of="policy",
            by="nearness",
            value=0.6177,
            low=0.55,
            high=0.68,
            n=n - 1,
        ),
        Measure(name="reply_tokens", of="policy", value=52.31, low=49.9, high=54.7, n=n),
        Measure(name="reply_tokens", of="predecessor", value=58.02, low=54.8, high=61.2, n=n),
        Measure(name="eos_share", of="policy", value=0.953, n=n),
        Measure(name="eos_share", of="predecessor", value=0.931, n=n),
        Measure(name="kl_per_reply", of="policy", value=3.1416, low=2.9, high=3.4, n=n),
        Measure(name="nll_per_token", of="policy", value=1.234, low=1.2, high=1.27, n=n),
        Measure(name="nll_per_token", of="predecessor", value=1.301, low=1.26, high=1.34, n=n),
    ]


def gates() -> list[GateResult]:
    return [
        GateResult(
            metric="reply_tokens", value=52.31, baseline=58.02, limit="between -25 % and +25 %", decision="held"
        ),
        GateResult(
            metric="eos_share", value=0.953, baseline=0.931, limit="may fall by at most 0 points", decision="held"
        ),
        GateResult(
            metric="distinct_2",
            value=0.512,
            baseline=0.689,
            limit="at least 85 % of the predecessor's",
            decision="broken",
        ),
        GateResult(
            metric="opener_share", value=0.22, baseline=0.2, limit="at most 15 points more", decision="inconclusive"
        ),
    ]


@pytest.fixture
def hostile() -> str:
    """What a model might write to act in the page or the terminal."""
    return HOSTILE


@pytest.fixture
def make_stage() -> Callable[..., None]:
    """Finishes a stage of a run with given rows and facts."""
    return stage


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """A factory of run folders: which stages are there, what the two sides say, the run's name and seed."""

    def make(
        *stages: str,
        name: str = "demo",
        seed: int = 7,
        texts: tuple[str, str] = ("new words", "old words"),
        **config: object,
    ) -> Path:
        run = made(tmp_path / "runs" / name, *stages, seed=seed, texts=texts)
        written = yaml.safe_load((run / "config.yaml").read_text("utf-8"))
        commit_text(run / "config.yaml", yaml.safe_dump(written | config, sort_keys=False))
        return run

    return make


def made(
    run: Path, *stages: str, seed: int, texts: tuple[str, str], question: str = "What is <i>dressage</i>?"
) -> Path:
    rng = random.Random(seed)
    prompts = [prompt(i, f"{question} Question {i}.") for i in range(60)]
    commit_text(run / "config.yaml", yaml.safe_dump({**CONFIG, "name": run.name, "seed": seed}, sort_keys=False))
    if "judge" in stages:
        label(run, rng, prompts)
    if "train" in stages:
        train(run, rng)
    if "evaluate" in stages:
        if "judge" not in stages:
            stage(run, "data", {Prompt: prompts}, prompts=len(prompts))
        evaluate(run, rng, prompts, texts)
    return run
