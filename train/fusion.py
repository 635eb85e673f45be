"""Trains a learned fusion on human gaze, over a frozen backbone.

    python -m train.fusion DATA --out RUN

The same as `mlfem train fusion`, which says more with --help.
"""

import sys

from mlfem_jax.cli import program

if __name__ == "__main__":
    program(["train", "fusion", *sys.argv[1:]])
