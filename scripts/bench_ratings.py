"""Ratings of 1,000,000 battles among 200 models: seconds on one core, and peak memory, against their limits.

    python scripts/bench_ratings.py                      # on 1,000, 100,000 and 1,000,000 prompts, and with style
    python scripts/bench_ratings.py --battles 20000      # a try

Every measurement is a process of its own, held to one core, that has the battles as columns of names, scores and
prompt ids before the clock starts; from then on everything counts, scipy's import too, until the leaderboard with
prompt-clustered intervals is there. Peak memory is the whole process's, the columns in it. Exits with 1 where the
CPU seconds (the wall time of a core that nobody else uses) or the memory are over the limits.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence

from _bench import Told, in_children, tell

PROMPTS = {"1k-prompts": 1_000, "100k-prompts": 100_000, "1M-prompts": 1_000_000, "style": 100_000}
"""Side → prompts that a million battles are on; fewer battles are on as many fewer."""
STYLE = ("length", "headers", "bold", "list_items")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--battles", type=int, default=1_000_000)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="most CPU seconds")
    parser.add_argument("--mib", type=float, default=1024.0, help="most memory")
    parser.add_argument("--side", choices=list(PROMPTS), help="measure one side in this process, print one JSON line")
    options = parser.parse_args()
    if options.side:
        measure(options.side, battles=options.battles, models=options.models)
        return 0
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    print(f"{options.battles:,} battles of {options.models} models; OMP_NUM_THREADS=1\nbattles a second, wall:")
    arguments = [f"--battles={options.battles}", f"--models={options.models}"]
    told = in_children(dict.fromkeys(PROMPTS, sys.executable), arguments=arguments, repeats=options.repeats)
    print(f"\n{'median of':14}{'CPU s':>8}{'wall s':>8}{'peak MiB':>10}   lowest … highest CPU s")
    for name, all_of in told.items():
        cpu = [one["cpu"] for one in all_of]
        row = f"{median(all_of, 'cpu'):8.2f}{median(all_of, 'seconds'):8.2f}{median(all_of, 'peak_mib'):10.0f}"
        print(f"{name:14}{row}   {min(cpu):.2f} … {max(cpu):.2f}")
    over = [
        name
        for name, all_of in told.items()
        if median(all_of, "cpu") > options.seconds or median(all_of, "peak_mib") > options.mib
    ]
    print(f"over {options.seconds:g} CPU s or {options.mib:g} MiB: {', '.join(over) or 'none'}")
    return 1 if over else 0


def median(told: Sequence[Told], key: str) -> float:
    """Of one number over the repeats."""
    return statistics.median(float(one[key]) for one in told)


def measure(side: str, *, battles: int, models: int) -> None:
    """Makes battles of models with planted strengths, a tenth of them tied, and rates them."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import numpy as np

    from dressage.maths.ratings import Battles, rated

    rng, names = np.random.default_rng(0), [f"model-{m:03}" for m in range(models)]
    prompts = [f"{g:016x}" for g in range(max(2, PROMPTS[side] * battles // 1_000_000))]
    strength = rng.normal(0, 0.6, models)
    a = rng.integers(0, models, battles)
    b = (a + rng.integers(1, models, battles)) % models
    won = rng.random(battles) < 1 / (1 + np.exp(strength[b] - strength[a]))
    score = np.where(rng.random(battles) < 0.1, 0.5, won)
    on = rng.integers(0, len(prompts), battles)
    style = {name: (rng.poisson(5, battles).tolist(), rng.poisson(5, battles).tolist()) for name in STYLE}
    columns = Battles(
        [names[m] for m in a],
        [names[m] for m in b],
        score.tolist(),
        [prompts[g] for g in on],
        style=style if side == "style" else {},
    )
    del a, b, won, score, on, style
    began, cpu = time.perf_counter(), time.process_time()
    found = rated(columns, anchor=names[0])
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert all(row.low is not None for row in found.rows if row.model != names[0])
    tell(count=battles, seconds=seconds, loss=0.0, cpu=cpu)


if __name__ == "__main__":
    sys.exit(main())
