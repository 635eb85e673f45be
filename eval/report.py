"""Draws the tables and figures of the paper, and a page of every image, from a table of scores.

    python -m eval.report SCORES --out REPORT

The same as `mlfem report`, which says more with --help.
"""

import sys

from mlfem_jax.cli import program

if __name__ == "__main__":
    program(["report", *sys.argv[1:]])
