"""The benchmark of the ratings: a small side in each run, the whole against its limits where there is time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_ratings.py"


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    alone = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, env=alone)


def test_a_side_tells_what_it_took():
    done = bench("--battles=20000", "--models=50", "--side=style")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["count"] == 20000
    assert 0 < told["cpu"] < 3
    assert told["peak_mib"] < 1024


@pytest.mark.slow
def test_a_million_battles_are_rated_within_the_limits():
    done = bench("--repeats=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "over 3 CPU s or 1024 MiB: none" in done.stdout


@pytest.mark.slow
def test_limits_that_are_not_kept_are_an_error():
    done = bench("--battles=20000", "--repeats=1", "--mib=1")
    assert done.returncode == 1, done.stderr
    assert "1k-prompts" in done.stdout.splitlines()[-1]
