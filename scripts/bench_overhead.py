"""How much of the wall time of a run's commands went into anything but the work itself.

    python scripts/bench_overhead.py runs/demo [RUN …]     # exit 1 where the rest is over --at-most (5 %)

The whole is the wall time of `dressage run` from the start of its process to the last line it prints: start-up,
imports, reading the config, fingerprints and hashes, committing, summary and report (runs/<name>/times.jsonl, a line
for each command that worked on a stage; one that was killed left none). The work is loading, sampling, judging,
scoring (log-probabilities of replies under the base, for KL and NLL) and training. What is held to --at-most is the
rest of the whole after that work. Scoring has a line of its own, with what the share would be if it were overhead.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

from dressage.store import lines_of, manifest_of

WORK = ("loading", "sampling", "judging", "scoring", "training")
STAGES = ("data", "judge", "train", "evaluate")


def stages_of(run: Path) -> dict[str, dict[str, float]]:
    """Stage → seconds by activity, for the stages that are finished."""
    found = {stage: manifest_of(run / "round-0" / stage) for stage in STAGES}
    return {stage: manifest.times for stage, manifest in found.items() if manifest}


def commands_of(run: Path) -> Counter[str]:
    """The wall time of all commands, what their stages took, and seconds by activity."""
    total: Counter[str] = Counter()
    for line in lines_of(run / "times.jsonl"):
        total.update({name: float(seconds) for name, seconds in line.items()})
    return total


def rest_of(total: Counter[str]) -> float:
    """Seconds outside the work."""
    return total["seconds"] - sum(total[name] for name in WORK)


def tell(run: Path, total: Counter[str]) -> None:
    """Prints a run's stages, then its commands as a whole."""
    print(run)
    print("stage     " + "".join(f"{name:>10}" for name in (*WORK, "rest", "seconds")))
    for stage, times in stages_of(run).items():
        row = [*(times.get(name, 0.0) for name in WORK), rest_of(Counter(times)), times["seconds"]]
        print(f"{stage:10}" + "".join(f"{value:10.1f}" for value in row))
    whole, rest = total["seconds"], rest_of(total)
    print(f"whole     {whole:10.1f} s, of which outside the stages {whole - total['stages']:.1f} s")
    print(f"scoring   {total['scoring']:10.1f} s, {total['scoring'] / whole:.1%}; counted as overhead it would make ")
    print(f"          {(rest + total['scoring']) / whole:.1%} with the rest")
    print(f"rest      {rest:10.1f} s, {rest / whole:.1%} of the whole: this is what is held to the limit\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--at-most", type=float, default=0.05, help="allowed share of the rest")
    options = parser.parse_args()
    worst = 0.0
    for run in options.runs:
        total = commands_of(run)
        if not total["seconds"]:
            parser.error(
                f"{run}/times.jsonl has no command that worked on a stage; do the run anew with `dressage run`"
            )
        tell(run, total)
        worst = max(worst, rest_of(total) / total["seconds"])
    return int(worst > options.at_most)


if __name__ == "__main__":
    sys.exit(main())
