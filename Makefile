# Each target makes its own virtual environment (.venv) first. PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test campaigns compiled lint format docs wheel clean

demo: $(VENV)/.demo
	$(BIN)/python examples/demo.py --out out/demo

test: $(VENV)/.test
	$(BIN)/python -m pytest -n auto --dist worksteal

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

# Executed pages are kept in out/docs_executed: the first build takes minutes, the next seconds.
MATHJAX := mathjax@3.2.2

docs: $(VENV)/.docs out/docs_vendor/mathjax
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs out/docs
	$(BIN)/python -m pytest -n 0 -q tests/site
	@echo "open out/docs/index.html"

# The built site fetches nothing from other hosts: MathJax is a part of it, from its npm package.
out/docs_vendor/mathjax:
	mkdir -p out/docs_vendor && cd out/docs_vendor && npm pack --silent $(MATHJAX)
	cd out/docs_vendor && tar -xzf mathjax-*.tgz package/LICENSE package/es5/tex-chtml.js package/es5/output/chtml/fonts
	cd out/docs_vendor && mv package/LICENSE package/es5 && mv package/es5 mathjax && rm -r package mathjax-*.tgz

# What goes out: it passes an index's checks, and in a fresh environment the first map and the commands' help run.
wheel: $(VENV)/.release
	rm -rf dist out/wheel
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*
	$(PYTHON) -m venv out/wheel
	out/wheel/bin/python -m pip install --quiet "$$(ls dist/*.whl)[demo]"
	cd out/wheel && bin/mlfem --help && bin/mlfem score --help >help.txt && bin/python ../../examples/quickstart.py --out .

clean:
	rm -rf $(VENV) .venv-compiled out build dist

$(VENV)/.%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	touch $@

.PRECIOUS: $(VENV)/.%
