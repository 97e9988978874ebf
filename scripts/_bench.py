"""What the benchmarks share: the demo's prompts, interleaved repeats in one process or in child processes, medians.

Imports the standard library only at the top: a side may run in an environment that has no dressage.
"""

import json
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dressage.protocols import Practice, Sampling, Workplace
    from dressage.records import Message

ROOT = Path(__file__).resolve().parent.parent
DEMO = "HuggingFaceTB/SmolLM2-135M-Instruct"
SYSTEM = "You work in customer care. Answer kindly and concretely, in one to three sentences."


def chats(n: int) -> list[list[dict[str, str]]]:
    """The first prompts of the demo's category, under the demo's system message, as plain dictionaries."""
    file = ROOT / "src/dressage/sources/builtin/prompts/customer_service.jsonl"
    return [
        [{"role": "system", "content": SYSTEM}, {"role": "user", "content": json.loads(line)["prompt"]}]
        for line in file.read_text("utf-8").splitlines()[:n]
    ]


def prompts(n: int) -> "list[tuple[Message, ...]]":
    """The same as records."""
    from dressage.records import Message

    return [tuple(Message.model_validate(m) for m in chat) for chat in chats(n)]


# ---------------------------------------------------------------- sides in this process


def side_by_side(sides: Mapping[str, Callable[[], float]], *, repeats: int, unit: str) -> dict[str, list[float]]:
    """Runs every side once per repeat, in turn, and prints rates and their ratios to the first side."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    print("repeat  " + "".join(f"{name:>28}" for name in sides))
    for number in range(1, repeats + 1):
        for name, side in sides.items():
            rates[name].append(side())
        print(f"{number:6}  " + "".join(f"{rates[name][-1]:22.1f} {unit}" for name in sides), flush=True)
    first, *others = sides
    for name in others:
        ratios = [b / a for a, b in zip(rates[first], rates[name], strict=True)]
        low, high = min(ratios), max(ratios)
        print(f"{name} / {first}: median {statistics.median(ratios):.2f}× ({low:.2f} … {high:.2f})")
    return rates


# ---------------------------------------------------------------- sides that are child processes

QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "CUDA_VISIBLE_DEVICES": "",
}

Told = dict[str, Any]
"""What a child says: `count`, `seconds`, `peak_mib`, `loss`, and what its benchmark adds."""


def tell(*, count: int, seconds: float, loss: float, **more: Any) -> None:
    """A child's one JSON line, with the most memory it ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"count": count, "seconds": seconds, "peak_mib": round(peak), "loss": loss, **more}), flush=True)


def model_folder(name: str, *, small: bool) -> str:
    """Where the model's files are; with `small` a tiny random one, made if it is not there."""
    if small:
        folder = ROOT / "build/bench-tiny-model"
        if not (folder / "config.json").exists():
            subprocess.run([sys.executable, ROOT / "scripts/make_tiny_model.py", folder], check=True)
        return str(folder)
    from dressage.models.local.weights import resolve

    return str(resolve(name, None, adapter=None).load_from)


def in_children(sides: Mapping[str, Path | str], *, arguments: Sequence[str], repeats: int) -> dict[str, list[Told]]:
    """Runs this script anew with `arguments --side NAME` for every side (name → its Python), in turn, one at a time."""
    commands = {name: [str(python), sys.argv[0], *arguments, "--side", name] for name, python in sides.items()}
    print("one process at a time, in turn; a side alone, by hand:")
    for command in commands.values():
        print("   " + shlex.join(command))
    print(f"\n{'repeat':7}" + "".join(f"{name:>18}" for name in sides))
    told: dict[str, list[Told]] = {name: [] for name in sides}
    for number in range(1, repeats + 1):
        print(f"{number:<7}", end="", flush=True)
        for name, command in commands.items():
            told[name].append(_child(command))
            print(f"{told[name][-1]['count'] / told[name][-1]['seconds']:18.3f}", end="", flush=True)
        print()
    return told


def _child(command: Sequence[str]) -> Told:
    done = subprocess.run(command, env=os.environ | QUIET, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"\n{done.stdout[-1000:]}{done.stderr[-3000:]}\nfailed: {shlex.join(command)}")
    found: Told = json.loads(done.stdout.splitlines()[-1])
    return found


def show(told: Mapping[str, Sequence[Told]], *, unit: str, over: Sequence[str]) -> None:
    """The table: medians of every side, and its pairwise ratios to the sides in `over`, repeat by repeat."""
    rates = {name: [one["count"] / one["seconds"] for one in all_of] for name, all_of in told.items()}
    peaks = {name: statistics.median(one["peak_mib"] for one in all_of) for name, all_of in told.items()}
    print(f"\n{'medians':14}{unit:>11}{'lowest … highest':>20}{'peak MiB':>10}{'last loss':>11}")
    for name, rate in rates.items():
        between = f"{min(rate):.3f} … {max(rate):.3f}"
        loss = told[name][-1]["loss"]
        print(f"{name:14}{statistics.median(rate):11.3f}{between:>20}{peaks[name]:10.0f}{loss:11.4f}")
    print()
    for other in over:
        for name in [name for name in rates if name not in over]:
            ratios = [a / b for a, b in zip(rates[name], rates[other], strict=True)]
            speed = f"{statistics.median(ratios):.2f}× the speed ({min(ratios):.2f} … {max(ratios):.2f})"
            print(f"{name} / {other}: {speed}, {peaks[name] / peaks[other]:.2f} of its peak memory")


def machine() -> str:
    """Who measured, for the record."""
    cpu = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    threads = (
        f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']}" if "OMP_NUM_THREADS" in os.environ else "torch's threads"
    )
    return f"{cpu or platform.processor()}, {os.cpu_count()} cores, {threads}, float32"


def _lines(path: str) -> list[str]:
    return Path(path).read_text("utf-8").splitlines() if Path(path).exists() else []


# ---------------------------------------------------------------- where a trainer of ours works


def workplace(folder: Path, lines: list[dict[str, Any]], *, seed: int) -> "Workplace":
    """A silent workplace in an empty folder, whose metrics end in `lines`."""
    from dressage.checkpoints import Checkpoints
    from dressage.protocols import Workplace

    return Workplace(
        folder=folder,
        seed=seed,
        log=lambda line: lines.append(dict(line)),
        progress=_Silent(),
        checkpoints=Checkpoints(folder / "checkpoints", key="bench", say=lambda line: None),
        rewind=lambda after: None,
    )


class _Silent:
    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        yield lambda units: None

    def say(self, line: str) -> None:
        pass


def practice(
    model: Any, sampling: "Sampling", score: Callable[[str], float], memory: dict[int, Any], *, seed: int = 0
) -> "Practice":
    """Draws from the local model as it is, grades the text by `score`, keeps an update's rows in `memory`."""
    from dressage.protocols import Practice
    from dressage.records import Candidate, Grade, Message
    from dressage.seeds import seed_for

    def draw(asked: Sequence[Any], per_prompt: int, update: int) -> list[Candidate]:
        tasks = [(p, i) for p in asked for i in range(per_prompt)]
        replies = model.as_is(update).complete(
            [p.messages for p, _ in tasks],
            sampling=sampling,
            seeds=[seed_for(seed, update, p.id, i) for p, i in tasks],
            done=lambda index, answer: None,
        )
        return [
            Candidate.of(
                prompt_id=p.id,
                messages=(Message(role="assistant", content=reply.text),),
                token_ids=reply.token_ids,
                mask=(True,) * len(reply.token_ids),
                logprobs=reply.logprobs,
                model="live",
                index=i,
                finish=reply.finish,
            )
            for (p, i), reply in zip(tasks, replies, strict=True)
        ]

    def grade(asked: Sequence[Any], replies: Sequence[Candidate]) -> list[Any]:
        return [Grade(prompt_id=c.prompt_id, candidate_id=c.id, judge="bench", score=score(c.text)) for c in replies]

    return Practice(sampling, draw, grade, memory.get, memory.__setitem__)
