"""Trains a classifier on the classes of a prepared data set.

    python -m train.classifier DATA --out RUN

The same as `mlfem train classifier`, which says more with --help.
"""

import sys

from mlfem_jax.cli import program

if __name__ == "__main__":
    program(["train", "classifier", *sys.argv[1:]])
