# Each target makes its own virtual environment (.venv) first. PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test campaigns compiled lint format clean

demo: $(VENV)/.demo
	$(BIN)/python examples/demo.py --out out/demo

test: $(VENV)/.test
	$(BIN)/python -m pytest -n auto

# What is too long for the tests: each prints what it tried and what failed.
CAMPAIGNS := kill disk_full two_processes invariance weights images tables mat

campaigns: $(VENV)/.test
	for name in $(CAMPAIGNS); do $(BIN)/python -m tests.campaigns.$$name || exit 1; done

# What accelerators' compilers make of the library; no accelerator is needed, but minutes are. In an environment of its
# own: with the compilers installed, JAX would look for their devices wherever it starts.
compiled:
	$(MAKE) VENV=.venv-compiled .venv-compiled/.eval .venv-compiled/.tpu-compile .venv-compiled/.cuda-compile
	.venv-compiled/bin/python -m eval.benchmarks.compiled --targets v5e h100 --what add --out out/compiled.json

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-compiled out build dist

$(VENV)/.%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	touch $@

.PRECIOUS: $(VENV)/.%
