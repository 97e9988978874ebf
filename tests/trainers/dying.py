"""A child of the tests: trainings that kill -9 themselves at a named moment, and are run again until they end.

    python dying.py tiny_model plan.json      the plan: [{kind, folder, settings, deaths}, …]

The libraries are imported once; every life of a training is a fork, because a process that has computed a
gradient cannot fork. A death is "line 3" (after the metrics of step 3), "write 4" (in the middle of the
commit of step 4), "commit 4" (after it), "flip 4" or "lose 4" (after it, having flipped a bit of its optimizer
or removed it).
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from training_parts import WORDS, Desk, TinyBackbone, pair_of, prompt_of, reply_of
from transformers import AutoModelForCausalLM, AutoTokenizer

from dressage.checkpoints import Checkpoints
from dressage.plugins import open_kind, settings_of
from dressage.protocols import Example
from dressage.store import append_line, keep_lines

KEPT = "checkpoints"


def data_for(kind: str) -> list[Any]:
    """Ten rows of unequal lengths, with unequal margins."""
    words = [" ".join(WORDS[(i + k) % len(WORDS)] for k in range(2 + i % 4)) for i in range(10)]
    if kind == "sft":
        return [Example(prompt_of(i), reply_of(prompt_of(i), text)) for i, text in enumerate(words)]
    return [pair_of(i, f"thank you {text}", f"{text} no", (1 + i % 3) / 4) for i, text in enumerate(words)]


class Mortal:
    """Checkpoints in which a process dies as it writes one, or after."""

    def __init__(self, inner: Checkpoints, folder: Path, death: str) -> None:
        self._inner, self._folder, self._death = inner, folder, death

    def newest(self) -> tuple[int, Path] | None:
        return self._inner.newest()

    def commit(self, step: int, write: Callable[[Path], None]) -> None:
        def dying(folder: Path) -> None:
            write(folder)
            if self._death == f"write {step}":
                die()

        self._inner.commit(step, dying)
        optimizer = self._folder / f"step-{step:08d}" / "optimizer.safetensors"
        if self._death == f"flip {step}":
            content = bytearray(optimizer.read_bytes())
            content[-5] ^= 1
            optimizer.write_bytes(bytes(content))
        if self._death == f"lose {step}":
            optimizer.unlink()
        if self._death in (f"{how} {step}" for how in ("commit", "flip", "lose")):
            die()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def life(job: Mapping[str, Any], backbone: TinyBackbone, death: str) -> None:
    """Trains until it dies or ends; what it reports is on the disk."""
    folder = Path(job["folder"])

    def log(line: Mapping[str, Any]) -> None:
        append_line(folder / "metrics.jsonl", line)
        if death == f"line {line['step']}":
            die()

    def say(line: str) -> None:
        append_line(folder / "said.jsonl", {"line": line})

    place = replace(
        Desk(folder / "work").workplace,
        log=log,
        checkpoints=Mortal(Checkpoints(folder / KEPT, key="k", say=say), folder / KEPT, death),
        rewind=lambda after: keep_lines(folder / "metrics.jsonl", lambda line: line["step"] <= after),
    )
    settings = settings_of("trainers", job["kind"]).model_validate({"kind": job["kind"], **job["settings"]})
    trained = open_kind(settings).train(data_for(job["kind"]), backbone, place)
    (folder / "facts.json").write_text(json.dumps(trained.facts, sort_keys=True))


def run(job: Mapping[str, Any], backbone: TinyBackbone) -> None:
    """One life a death, and a last one that ends."""
    for death in [*job["deaths"], ""]:
        child = os.fork()
        if child == 0:
            life(job, backbone, death)  # what it raises is printed, and ends the child with status 1
            os._exit(0)
        _, status = os.waitpid(child, 0)
        expected = signal.SIGKILL if death else 0
        if status != expected:
            raise SystemExit(f"{job['folder']}: after death {death!r} the status is {status}, not {expected}")


def main(model: str, plan: str) -> None:
    todo = json.loads(Path(plan).read_text())
    torch.set_num_threads(1)
    module = AutoModelForCausalLM.from_pretrained(model, dtype="float32").eval().requires_grad_(False)
    backbone = TinyBackbone(module, AutoTokenizer.from_pretrained(model))
    for kind in {job["kind"] for job in todo}:
        __import__(f"dressage.trainers.{kind}.trainer")  # so that no fork has to
    for job in todo:
        run(job, backbone)


if __name__ == "__main__":
    main(*sys.argv[1:])
