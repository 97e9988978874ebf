# Two commands do everything: `make demo` and `make test`. See README.md.
VENV   := .venv
PY     := $(VENV)/bin/python
PYTHON ?= python3
CPU_INDEX := https://download.pytorch.org/whl/cpu
export HF_HUB_DISABLE_TELEMETRY := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: install demo smoke test check format clean

install: $(VENV)/.installed

# Without a GPU: the CPU build of torch, from its own index where that can be reached, else the pinned release.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "dressage needs Python 3.11 or later; say which with: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@if $(PY) -c 'import torch' 2>/dev/null; then echo "torch: already there"; \
	elif command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; then \
	  echo "torch: a GPU is here, installing the CUDA build"; $(PY) -m pip install -q torch; \
	else \
	  echo "torch: no GPU, installing the CPU build"; \
	  $(PY) -m pip install -q --timeout 10 --retries 0 --index-url $(CPU_INDEX) torch 2>/dev/null || \
	  { echo "torch: the CPU index cannot be reached, taking torch==2.13.0 from the default one (on some systems that build has CUDA)"; \
	    $(PY) -m pip install -q torch==2.13.0; }; \
	fi
	$(PY) -m pip install -q -e '.[dev,demo]'
	@touch $@

demo: install
	$(PY) scripts/fetch_demo_model.py
	$(VENV)/bin/dressage run configs/demo.yaml
	@echo "The report: runs/demo/report/index.html"

smoke: install build/tiny-model/config.json
	$(VENV)/bin/dressage run configs/smoke.yaml

build/tiny-model/config.json: scripts/make_tiny_model.py
	@test -x $(PY) || $(MAKE) install
	$(PY) scripts/make_tiny_model.py build/tiny-model

test: install
	HF_HUB_OFFLINE=1 $(PY) -m pytest -m "not slow"

check: install
	$(VENV)/bin/ruff format --check src tests scripts
	$(VENV)/bin/ruff check src tests scripts
	$(VENV)/bin/mypy
	HF_HUB_OFFLINE=1 $(PY) -m pytest -m "not slow"

format: install
	$(VENV)/bin/ruff format src tests scripts
	$(VENV)/bin/ruff check --fix src tests scripts

# Runs stay: they hold labels and adapters that took hours or money to make.
clean:
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache .hypothesis src/*.egg-info
