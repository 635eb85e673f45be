"""Runs `python -m eval.benchmarks.compiled`; what it does is in `run.py`."""

import sys

import tyro

from eval.benchmarks.compiled.run import Config, main
from mlfem_jax.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("eval.benchmarks.compiled", lambda: main(tyro.cli(Config))))
