"""Processes of their own for tests: forks of one that has imported everything and computed nothing.

So a process costs what it computes, not three seconds of imports besides.
"""

import multiprocessing
import os

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["tests.training.run_tiny", "tests.training.run_split", "tests.scores.score_network", "tests.parallel.run_devices"]
)


def start(function, *arguments, errors=None):
    """(process, its standard output as an open file) of `function(*arguments)`; its standard error goes to a file."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_call, args=(sender, errors, function, *arguments))
    process.start()
    sender.close()
    output = os.fdopen(os.dup(receiver.fileno()))
    receiver.close()
    return process, output


def ended(started):
    """(exit code, standard output) of a process, when it has ended."""
    process, output = started
    with output:
        said = output.read()
    process.join()
    return process.exitcode, said


def _call(sender, errors, function, *arguments):
    os.dup2(sender.fileno(), 1)
    sender.close()
    if errors is not None:
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    function(*arguments)
