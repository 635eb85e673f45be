"""Ctrl-C, and errors of all kinds: one line and a status, in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlfem_jax.cli import run_command

ROOT = Path(__file__).parents[1]
# The children of a shell's background job are born with SIGINT ignored.
START = """import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from mlfem_jax.cli import main, program, run_command
sys.argv[1:] = []
"""


def interrupted(script, after=0.0):
    """(status, standard error) of a script that gets SIGINT after it has printed a line."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    command = [sys.executable, "-c", f"{START}\n{script}"]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, **options) as process:
        try:
            process.stdout.readline()
            time.sleep(after)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()  # else one that goes on is waited for for ever
    return process.returncode, errors


IMPORTS = """
def command():
    print("ready", flush=True)
    import jax, tensorflow_datasets, grain, matplotlib.figure, orbax.checkpoint
    while True:
        pass
"""
COMPUTES = """
def command():
    import time
    print("ready", flush=True)
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        raise SystemError("initialization of some C code failed")
"""
LOSES = """
import weakref
class Thing:
    pass
def spin(reference):
    while True:
        pass
def command():
    thing = Thing()
    reference = weakref.ref(thing, spin)
    print("ready", flush=True)
    del thing
"""


@pytest.mark.parametrize(
    ("script", "after"), [(IMPORTS, 0.05), (IMPORTS, 0.4), (COMPUTES, 0.1), (LOSES, 0.1)],
    ids=["importing", "importing later", "in C code", "where nobody catches it"],
)  # fmt: skip
def test_an_interrupt_is_one_line_wherever_it_comes(script, after):
    assert interrupted(f"{script}\nsys.exit(run_command('mlfem x', command))", after) == (
        130,
        "mlfem x: interrupted\n",
    )


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device", "/data/a"), "x: /data/a: No space left on device"),
        (ValueError("k: expected 1,\n  got \x1b[2J"), "x: k: expected 1,\n  got \\x1b[2J"),
        (MemoryError(), "x: MemoryError"),
        (KeyError("a"), "x: unexpected KeyError: \"'a'\"; MLFEM_TRACEBACK=1 shows where it came from"),
    ],
)
def test_errors_are_told(error, line, capsys):
    def command():
        raise error

    assert run_command("x", command) == 2
    assert capsys.readouterr().err == f"{line}\n"


def test_a_full_disk_behind_the_standard_output_is_one_line():
    command = [sys.executable, "-c", f"{START}\nprogram(['backbones'])"]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert ended.stderr.splitlines()[:1] == ["mlfem backbones: [Errno 28] No space left on device"]
    assert ended.returncode != 0
