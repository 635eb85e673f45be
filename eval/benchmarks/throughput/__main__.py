"""Runs `python -m eval.benchmarks.throughput`; what it does is in `run.py`."""

import sys

import tyro

from eval.benchmarks.throughput.run import Config, main
from mlfem_jax.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("eval.benchmarks.throughput", lambda: main(tyro.cli(Config))))
