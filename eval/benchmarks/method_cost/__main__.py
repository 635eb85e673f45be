"""Runs `python -m eval.benchmarks.method_cost`; what it does is in `run.py`."""

import sys

import tyro

from eval.benchmarks.method_cost.run import Config, main
from mlfem_jax.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("eval.benchmarks.method_cost", lambda: main(tyro.cli(Config))))
