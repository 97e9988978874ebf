"""Parts for tests of whole runs: a small config as a dict, a quiet progress, what lies in a run's folder."""

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from dressage import config, pipeline
from dressage.standing import Job, stage_folder
from dressage.store import Manifest, manifest_of

WORDS = ["water", "rice", "bread", "river", "house", "garden", "letter", "winter", "summer", "table", "window", "paper"]


def prompts_file(path: Path, n: int = 9) -> Path:
    """A JSONL of prompts, a third of them in each split."""
    splits = ("train", "dev", "test")
    rows = [{"prompt": f"Tell me about {WORDS[i % 12]} number {i}.", "split": splits[i % 3]} for i in range(n)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def small(prompts: Path, **sections: Any) -> dict[str, Any]:
    """Data and judge by a scripted policy and rules: no torch is imported."""
    base = {
        "name": "small",
        "policy": "writer",
        "models": {"writer": {"kind": "scripted", "says": ["Yes.", "That is quite a long story, you know.", "{seed}"]}},
        "judges": {"form": {"kind": "rules", "rules": [{"check": LENGTH}]}},
        "data": {"source": {"kind": "jsonl", "path": str(prompts)}, "per_prompt": 3, "shard_prompts": 1},
        "judge": {"by": "form", "shard_prompts": 1},
    }
    return {k: v for k, v in (base | sections).items() if v is not None}


LENGTH = {"rule": "length_window", "unit": "characters", "least": 30, "most": 60, "slack": 30}


def changed(plain: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """A copy with some keys changed, `data__per_prompt=2` for data.per_prompt."""
    plain = copy.deepcopy(plain)
    for path, value in keys.items():
        *above, last = path.split("__")
        at = plain
        for step in above:
            at = at[step]
        at[last] = value
    return plain


class Quiet:
    """A progress that remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        yield lambda units: None

    def say(self, line: str) -> None:
        self.said.append(line)


def run(plain: dict[str, Any], root: Path, **job: Any) -> list[str]:
    """Brings a run to its end; gives back what it said, by stage: `starting`, `already there` …"""
    return [line.partition(" (")[0] for line in told(plain, root, **job) if not any(word in line for word in REMARKS)]


REMARKS = (": left out: ", ": the old output lies in ", ": warning: ")


def told(plain: dict[str, Any], root: Path, **job: Any) -> list[str]:
    """Brings a run to its end; every line it said."""
    path = root / "config.yaml"
    root.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(plain))
    quiet = Quiet()
    pipeline.run(config.load(path), Job(root, **job), progress=quiet)
    return quiet.said


def manifest(root: Path, stage: Any, name: str = "small") -> Manifest:
    found = manifest_of(stage_folder(root / name, stage))
    assert found
    return found


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder with its time and content."""
    return {
        str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.read_bytes())
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != ".lock"
    }


# ---------------------------------------------------------------- with a model that learns


Plain = dict[str, Any]


def trained(plain: Plain, model: Path, **more: Any) -> Plain:
    """The small run with the tiny model as policy, a short training, and battles by counted words."""
    whole = changed(
        plain,
        policy="tiny",
        models={
            "tiny": {"kind": "local", "path": str(model), "dtype": "float32", "device": "cpu", "threads": 1},
            "words": {"kind": "scripted"},
        },
        judges={**plain["judges"], "near": {"kind": "embedding", "model": "words", "mode": "relevance"}},
        data={**plain["data"], "sampling": {"temperature": 1.0, "max_new_tokens": 12}},
        train={"trainer": {"kind": "dpo", "learning_rate": 1e-3, "batch_pairs": 2, "lora": {"r": 2, "alpha": 4}}},
        evaluate={"by": ["near"], "best_of": 2},
    )
    return changed(whole, **more)


def jsonl(path: Path, rows: list[dict[str, Any]]) -> dict[str, str]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"kind": "jsonl", "path": str(path)}
