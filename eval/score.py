"""Scores explanation methods against human gaze, over a prepared data set.

    python -m eval.score DATA OUT --methods grad_cam fem add:alpha=0.3 top center

The same as `mlfem score`, which says more with --help.
"""

import sys

from mlfem_jax.cli import program

if __name__ == "__main__":
    program(["score", *sys.argv[1:]])
