#!/usr/bin/env python3
"""Kill a run with SIGKILL at seeded random moments, start it again until it ends, compare every stage's hash.

    python scripts/chaos.py [CONFIG] [--kills 25] [--seed 0] [--set A.B=C …]

A run without disturbance says which hashes are right, which files each stage writes and how long it takes. Each
kill then draws a stage that is not finished and one of its files, waits until that file is there and a random
moment more: so kills fall into every stage and not into the start-up. When a run has ended and kills are left,
another begins. Exits with 1 if any hash differs, or a line of metrics.jsonl (its times aside); and, from 25 kills on,
if a stage was never hit.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
POLL = 0.002
"""Seconds between two looks at the folder."""
ENOUGH = 25
"""From so many kills on every stage must have been hit, or they prove nothing of it."""
TIMES = re.compile(r"^(time|rate)/|(seconds|runtime|_per_second|time)$")
"""Names of metrics that no two runs share."""
PATIENCE = 600.0
"""Seconds after which a run that neither ends nor writes what is waited for counts as hung."""


@dataclass
class Chaos:
    """One session of kills over one folder of runs."""

    config: Path
    sets: Sequence[str]
    folder: Path
    draw: random.Random
    hits: Counter[str] = field(default_factory=Counter)

    def start(self, root: Path) -> subprocess.Popen[bytes]:
        """Begins, or goes on with, the run below `root`; its words go to a file beside it."""
        root.mkdir(parents=True, exist_ok=True)
        with (root / "output.txt").open("ab") as output:
            command = [sys.executable, "-m", "dressage.cli", "run", str(self.config), "--runs", str(root)]
            return subprocess.Popen(
                [*command, *(word for text in self.sets for word in ("--set", text))],
                env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"},
                stdout=output,
                stderr=output,
            )

    def finish(self, root: Path) -> dict[str, str]:
        """Runs to the end; stage → hash of its rows."""
        if code := self.start(root).wait(timeout=PATIENCE):
            raise SystemExit(f"the run ended with {code}; its last words:\n{last_words(root)}")
        return hashes(root)

    def kill(self, root: Path, stages: "Sequence[Stage]") -> bool:
        """Starts the run and kills it a moment after a drawn file of a drawn stage is there.

        Returns whether it was killed: a run can also end before.
        """
        waiting = [s for s in stages if not (root / s.files[-1]).exists()]
        least = min(self.hits[s.name] for s in waiting)  # every stage has its turn
        stage = self.draw.choice([s for s in waiting if self.hits[s.name] == least])
        file = self.draw.choice([f for f in stage.files if not (root / f).exists()])
        moment = self.draw.uniform(0, stage.gaps[file])
        process = self.start(root)
        began = time.monotonic()
        while process.poll() is None and not (root / file).exists():
            if time.monotonic() - began > PATIENCE:
                process.kill()
                raise SystemExit(f"the run hangs; its last words:\n{last_words(root)}")
            time.sleep(POLL)
        time.sleep(moment)
        if process.poll() is not None:
            return False
        process.kill()
        process.wait()
        self.hits[stage_of(root)] += 1
        return True


@dataclass(frozen=True)
class Stage:
    """What an undisturbed run wrote in one stage, in the order of writing, the manifest last."""

    name: str
    files: list[str]
    gaps: dict[str, float]
    """File → seconds until the next one was written: a kill within them falls into the work between the two."""
    seconds: float


def stages_of(root: Path) -> list[Stage]:
    found = []
    for path in root.glob("*/round-*/*/manifest.json"):
        manifest = json.loads(path.read_text("utf-8"))
        files = [p for p in path.parent.iterdir() if p.is_file() and p != path]
        ordered = [*sorted(files, key=lambda p: p.stat().st_mtime_ns), path]
        names = [str(p.relative_to(root)) for p in ordered]
        written = [p.stat().st_mtime_ns / 1e9 for p in ordered]
        gaps = [max(0.0, after - before) for before, after in pairwise(written)]
        found.append(
            Stage(manifest["stage"], names, dict(zip(names, [*gaps, 0.0], strict=True)), manifest["times"]["seconds"])
        )
    return found


def hashes(root: Path) -> dict[str, str]:
    found = {}
    for path in sorted(root.glob("*/round-*/*/manifest.json")):
        manifest = json.loads(path.read_text("utf-8"))
        found[manifest["stage"]] = manifest["rows_hash"]
    return found


def metrics(root: Path) -> list[dict[str, object]]:
    """What the runs below `root` logged, without times."""
    lines = [json.loads(line) for path in sorted(root.glob("*/metrics.jsonl")) for line in path.open(encoding="utf-8")]
    return [{name: value for name, value in line.items() if not TIMES.search(name)} for line in lines]


def unhurt(hits: Counter[str], stages: Sequence[Stage]) -> list[str]:
    """The stages that no kill has hit, where there were enough kills to hit them all."""
    return [s.name for s in stages if not hits[s.name]] if sum(hits.values()) >= ENOUGH else []


def stage_of(root: Path) -> str:
    """The stage a killed run was in: the one begun and without a manifest."""
    begun = {p.parent for p in root.glob("*/round-*/*/stage.json")}
    open_stages = [p.name for p in begun if not (p / "manifest.json").exists()]
    return open_stages[0] if open_stages else "between stages"


def last_words(root: Path) -> str:
    return "\n".join((root / "output.txt").read_text("utf-8", "replace").splitlines()[-20:])


@dataclass(frozen=True)
class Undisturbed:
    """What a run comes to that nobody kills."""

    right: dict[str, str]
    logged: list[dict[str, object]]
    stages: list[Stage]


def torment(chaos: Chaos, kills: int, whole: Undisturbed) -> list[str]:
    """Kills until `kills` have hit; what came out differently."""
    right, stages = whole.right, whole.stages
    wrong: list[str] = []
    number = 0
    while sum(chaos.hits.values()) < kills:
        root = chaos.folder / f"run-{number}"
        number += 1
        while sum(chaos.hits.values()) < kills and len(hashes(root)) < len(right) and chaos.kill(root, stages):
            pass
        found = chaos.finish(root)
        wrong += [f"{root}: {s} is {found.get(s)} and should be {h}" for s, h in right.items() if found.get(s) != h]
        wrong += [] if metrics(root) == whole.logged else [f"{root}: metrics.jsonl is not what it should be"]
        again = chaos.finish(root)
        wrong += [f"{root}: running again changed {again}"] if again != found else []
        if not wrong:
            shutil.rmtree(root)
    return wrong


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Kill a run at random moments; its results must not change.")
    parser.add_argument("config", type=Path, nargs="?", default=ROOT / "configs" / "smoke.yaml")
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="A.B=C")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="dressage-chaos-"))
    chaos = Chaos(options.config, options.sets, folder, random.Random(options.seed))
    began = time.monotonic()
    right = chaos.finish(folder / "undisturbed")
    whole = Undisturbed(right, metrics(folder / "undisturbed"), stages_of(folder / "undisturbed"))
    told = ", ".join(f"{s.name} {right[s.name]} in {s.seconds:.2f} s" for s in whole.stages)
    print("undisturbed:", told, flush=True)
    wrong = torment(chaos, options.kills, whole)
    wrong += [f"no kill hit {stage}; take another --seed or more --kills" for stage in unhurt(chaos.hits, whole.stages)]
    told = ", ".join(f"{n} in {stage}" for stage, n in sorted(chaos.hits.items()))
    print(f"{sum(chaos.hits.values())} kills ({told}) in {time.monotonic() - began:.0f} s")
    if wrong:
        print("\n".join(wrong), f"\nthe folders are kept: {folder}", sep="\n")
        return 1
    shutil.rmtree(folder)
    print("every run ended with the hashes and metrics of the undisturbed one")
    return 0


if __name__ == "__main__":
    sys.exit(main())
