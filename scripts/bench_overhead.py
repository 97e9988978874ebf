"""How much of a finished run's time went into anything but loading, sampling, judging, scoring and training.

    python scripts/bench_overhead.py runs/demo [RUN …]     # exit 1 where the rest is over --at-most (5 %)

Reads the times that each stage's manifest keeps beside (never in) what is hashed.
"""

import argparse
import sys
from pathlib import Path

from dressage.store import manifest_of

WORK = ("loading", "sampling", "judging", "scoring", "training")
STAGES = ("data", "judge", "train", "evaluate")


def times_of(run: Path) -> dict[str, dict[str, float]]:
    """Stage → seconds by activity, for the stages that are finished."""
    found = {stage: manifest_of(run / "round-0" / stage) for stage in STAGES}
    return {stage: manifest.times for stage, manifest in found.items() if manifest}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--at-most", type=float, default=0.05, help="allowed share of the rest")
    options = parser.parse_args()
    worst = 0.0
    for run in options.runs:
        stages = times_of(run)
        if not stages:
            parser.error(f"{run} has no finished stage; run `dressage run` first")
        print(run)
        print("stage     " + "".join(f"{name:>10}" for name in (*WORK, "rest", "seconds")))
        total, rest = 0.0, 0.0
        for stage, times in stages.items():
            left = times["seconds"] - sum(times.get(name, 0.0) for name in WORK)
            total, rest = total + times["seconds"], rest + left
            row = [times.get(name, 0.0) for name in WORK] + [left, times["seconds"]]
            print(f"{stage:10}" + "".join(f"{value:10.1f}" for value in row))
        print(f"the rest is {rest / total:.1%} of {total:.0f} s\n")
        worst = max(worst, rest / total)
    return int(worst > options.at_most)


if __name__ == "__main__":
    sys.exit(main())
