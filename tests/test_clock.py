"""Seconds by activity: what lies within another counts once, and a lap is the whole command's time."""

import json
import subprocess
import sys
import time

import pytest

from dressage.clock import counting, lap, spending


def test_what_lies_within_another_activity_counts_once():
    with counting() as spent:
        with spending("training"):
            time.sleep(0.04)
            with spending("sampling"):
                time.sleep(0.08)
            with spending("sampling"):
                time.sleep(0.08)
        time.sleep(0.04)
    assert spent["sampling"] == pytest.approx(0.16, abs=0.03)
    assert spent["training"] == pytest.approx(0.04, abs=0.03)
    assert spent["seconds"] == pytest.approx(0.24, abs=0.05)


def test_a_lap_begins_where_the_last_one_ended():
    lap()
    for _ in range(2):
        with counting(), spending("judging"):
            time.sleep(0.02)
    time.sleep(0.02)
    found = lap()
    assert found["judging"] == pytest.approx(0.04, abs=0.02)
    assert found["judging"] <= found["stages"] < found["seconds"]
    assert set(lap()) == {"seconds"}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when a process was started")
def test_the_first_lap_holds_the_start_of_the_process():
    code = "import time; time.sleep(0.4); import json; from dressage.clock import lap; print(json.dumps(lap()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["seconds"] >= 0.4
