"""The doctor: finds what is there, names the way to what is missing, survives what is broken."""

import importlib.metadata
import io
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from rich.console import Console

from dressage import doctor

ROOT = Path(__file__).parents[1]


def test_the_core_is_what_the_project_declares():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {re.match(r"[\w-]+", line)[0] for line in declared} == set(doctor.CORE)


def test_a_package_within_outside_and_absent():
    version = importlib.metadata.version("numpy")
    assert doctor.package("numpy", ">=1,<99") == ("numpy", "ok", version, "")
    assert doctor.package("numpy", "") == ("numpy", "ok", version, "")
    old = doctor.package("numpy", ">=99")
    assert (old.state, old.way_out) == ("broken", "pip install 'numpy>=99'")
    absent = doctor.package("no-such-package-of-ours", "==1.*")
    assert (absent.state, absent.found) == ("broken", "not installed")


def test_here_the_core_is_fine():
    states = {check.thing: check.state for check in doctor.versions()}
    assert set(doctor.CORE) < set(states)
    assert "broken" not in states.values()


def test_cpu_flags_are_read_from_the_first_processor(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nflags\t\t: fpu avx2 amx_bf16\n\nprocessor\t: 1\nflags\t\t: other\n")
    assert doctor.cpu_flags(file) == {"fpu", "avx2", "amx_bf16"}
    assert doctor.cpu_flags(tmp_path / "absent") == frozenset()


def test_a_container_has_only_its_share_of_the_memory(tmp_path):
    limit = tmp_path / "memory.max"
    whole = doctor.memory_bytes(limit)
    limit.write_text("max\n")
    assert doctor.memory_bytes(limit) == whole
    limit.write_text("1000000\n")
    assert doctor.memory_bytes(limit) == 1_000_000


def test_devices_as_torch_reports_them():
    said = '{"threads": 2, "capability": "AVX512", "cuda": [["H200", 150e9, true]], "mps": false}'
    found = [check.found for check in doctor.devices(f"print('noise'); print('{said}')")]
    assert found == ["AVX512, 2 threads", "H200, 150 GB, bf16 yes"]


def test_a_torch_that_cannot_be_imported_is_reported_not_raised():
    (check,) = doctor.devices("raise ImportError('libcudart.so.12: no such file')")
    assert (check.state, check.found) == ("broken", "ImportError: libcudart.so.12: no such file")
    (check,) = doctor.devices("import os; os._exit(7)")
    assert check.state == "broken"


@pytest.mark.parametrize("name", ["HuggingFaceTB--SmolLM2-135M-Instruct", "SmolLM2-135M-Instruct"])
def test_the_demo_model_is_looked_for_in_the_cache(tmp_path, name):
    environment = {"DRESSAGE_CACHE": str(tmp_path)}
    model, _ = doctor.demo(environment)
    assert (model.state, model.way_out) == ("missing", "python scripts/fetch_demo_model.py")
    folder = tmp_path / "models" / name
    folder.mkdir(parents=True)
    (folder / "config.json").touch()
    assert next(doctor.demo(environment)).state == "missing"
    (folder / "model.safetensors").touch()
    assert next(doctor.demo(environment)) == ("demo model", "ok", str(folder), "")


def test_extras_are_there_or_come_with_a_way_to_get_them():
    found = {check.thing: check for check in doctor.extras()}
    assert {"qlora extra", "tensorboard extra", "wandb extra", "mlflow extra", "trackio extra"} == set(found)
    for thing, check in found.items():
        name = thing.removesuffix(" extra")
        assert check.way_out == ("" if check.state == "ok" else f"pip install 'dressage[{name}]'")


def test_the_cache_is_where_the_fetching_script_puts_it(tmp_path):
    for variables in ({"DRESSAGE_CACHE": str(tmp_path)}, {"XDG_CACHE_HOME": str(tmp_path)}, {"HOME": str(tmp_path)}):
        script = [sys.executable, str(ROOT / "scripts" / "fetch_demo_model.py"), "--print-path"]
        said = subprocess.run(script, env=variables, capture_output=True, text=True, check=True).stdout.strip()
        code = "import os; from dressage.doctor import *; print(cache(os.environ) / 'models' / DEMO_MODEL)"
        ours = subprocess.run(
            [sys.executable, "-c", code],
            env={**variables, "PYTHONPATH": str(ROOT / "src")},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        assert ours == said


def test_a_copy_fetched_before_owners_were_told_apart_stays_where_it_is(tmp_path):
    before = tmp_path / "models" / "SmolLM2-135M-Instruct"
    before.mkdir(parents=True)
    script = [sys.executable, str(ROOT / "scripts" / "fetch_demo_model.py"), "--print-path"]
    env = {"DRESSAGE_CACHE": str(tmp_path)}
    assert subprocess.run(script, env=env, capture_output=True, text=True, check=True).stdout.strip() == str(before)


@pytest.mark.parametrize(("variable", "state"), [("1", "missing"), ("true", "missing"), ("0", "ok"), ("", "ok")])
def test_the_hub_is_not_contacted_only_the_environment_read(variable, state):
    (check,) = doctor.hub({"HF_HUB_OFFLINE": variable})
    assert check.state == state


def test_the_exit_code_is_0_for_a_fine_core_and_1_for_a_broken_one(tmp_path):
    console = Console(file=io.StringIO(), width=160, highlight=False, emoji=False, markup=False)
    assert doctor.examine(console=console) == 0
    text = console.file.getvalue()
    assert "torch on the cpu" in text
    assert importlib.metadata.version("trl") in text
    code = "import sys; from dressage.doctor import examine; sys.exit(examine())"
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT / 'src'}", "HOME": str(tmp_path)}
    (tmp_path / "torch.py").write_text("raise ImportError('broken on purpose')")
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "broken on purpose" in ended.stdout


def test_the_doctor_does_not_import_torch_itself():
    code = "import sys, dressage.doctor; assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT / "src")}, check=True)
