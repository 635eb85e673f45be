# Each target makes its own virtual environment (.venv) first. PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test campaigns lint format clean

demo: $(VENV)/.demo
	$(BIN)/python examples/demo.py --out out/demo

test: $(VENV)/.test
	$(BIN)/python -m pytest -n auto

# What is too long for the tests: each prints what it tried and what failed.
campaigns: $(VENV)/.test
	$(BIN)/python -m tests.campaigns.images
	$(BIN)/python -m tests.campaigns.tables
	$(BIN)/python -m tests.campaigns.mat

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) out build dist

$(VENV)/.%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	touch $@

.PRECIOUS: $(VENV)/.%
