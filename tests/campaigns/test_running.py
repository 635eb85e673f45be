"""A slice of each campaign of running; `make campaigns` runs them whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="needs pyarrow")

ROOT = Path(__file__).parents[2]
SLICES = {
    # Building a data set compiles nothing: a try of it takes a second.
    "kill": ["--kills", "4", "--jobs", "prepare"],
    "disk_full": ["--tries", "2", "--jobs", "prepare", "--limit"],
    "two_processes": ["--pairs", "2", "--jobs", "prepare"],
    "invariance": ["--methods", "rise", "random", "--photos", "3"],
}


@pytest.mark.parametrize("name", SLICES)
def test_a_slice_of_each_campaign(name):
    command = [sys.executable, "-m", f"tests.campaigns.{name}", *SLICES[name]]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stdout + ended.stderr[-2000:]
    assert "failed 0" in ended.stdout
