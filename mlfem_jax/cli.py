"""The command line: a table of names and typed functions, each imported only when it is called.

To add a command, write a function whose signature and docstring are its options and help, and add a line to
`COMMANDS`. An int that it returns is the exit status (0 otherwise). Whatever goes wrong is one line of error.
"""

import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from mlfem_jax.interrupts import INTERRUPTED, noting_interrupts

COMMANDS = {
    "explain": ("mlfem_jax.gallery.write:explain", "show what the network looked at in photographs"),
    "score": ("mlfem_jax.scores.run:score", "score methods against gaze and the network, over a data set"),
    "report": ("mlfem_jax.report.write:write_report", "draw the figures, tables and page of a table of scores"),
    "fit": ("mlfem_jax.scores.fit:fit", "fit densities of fixations to the maps of methods"),
    "export": ("mlfem_jax.gallery.export:export", "write maps of a data set as files, as benchmarks take them"),
    "compare": ("mlfem_jax.report.compare:compare", "compare two tables of scores, image by image"),
    "train fusion": ("mlfem_jax.training.fusion.task:train_fusion", "train a learned fusion on human gaze"),
    "train classifier": ("mlfem_jax.training.classifier.task:train_classifier", "train a classifier to explain"),
    "prepare": ("mlfem_jax.data.prepared.write:prepare", "build a gaze data set from its release"),
    "preview": ("mlfem_jax.data.prepared.draw:preview", "draw images of a prepared data set with their gaze"),
    "methods": ("mlfem_jax.cli:methods", "list the methods"),
    "backbones": ("mlfem_jax.cli:backbones", "list the networks"),
}

# What brings a module that only some commands need.
_EXTRAS = {"tensorflow_datasets": "data", "importlib_resources": "data", "grain": "data", "array_record": "data"}
_EXTRAS |= {"av": "recordings", "nibabel": "recordings"}
_EXTRAS |= {"absl": "data", "scipy": "data", "pyarrow": "eval", "h5py": "keras", "skimage": "lime"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: those after the program's name; by default those of the process.

    Returns:
        The exit status: 0 for success, 1 where part of the work failed, 2 for wrong usage, 130 if
        interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    name, rest = words[0], words[1:]
    if name == "train" and rest:
        name, rest = " ".join(words[:2]), words[2:]
    if name in ("-h", "--help"):
        return run_command("mlfem", _print_help)
    if name == "--version":
        from mlfem_jax import __version__

        print(f"mlfem {__version__}")
        return 0
    if name not in COMMANDS:
        print(f"mlfem: expected one of {', '.join(COMMANDS)}, got {name!r}", file=sys.stderr)
        return 2
    return run_command(f"mlfem {name}", lambda: _run(name, rest))


def program(arguments: Sequence[str] | None = None) -> NoReturn:
    """`main`, and then the end of the process: at once where it was interrupted, without waiting for other threads."""
    status = main(arguments)
    if status == INTERRUPTED:
        sys.stdout.flush()
        os._exit(status)
    sys.exit(status)


def methods() -> None:
    """Lists the names that `--method` accepts, what each costs, and what it does."""
    from mlfem_jax.attribution import METHODS

    _print_table(
        ("method", "needs", "what it shows"),
        [(name, method.needs, method.summary) for name, method in METHODS.items()],
    )


def backbones() -> None:
    """Lists the names that `--backbone` accepts, and whose weights are at hand without a file."""
    from mlfem_jax.backbones import ARCHITECTURES, RECORDED, SMALL, SUMMARY, TOWERS

    _print_table(
        ("backbone", "weights", "what it is"),
        [
            (name, "packaged" if network.package else "a file", network.summary)
            for name, network in (ARCHITECTURES | TOWERS | RECORDED).items()
        ]
        + [(SMALL, "a run", SUMMARY)],
    )


def run_command(prog: str, command: Callable[[], Any]) -> int:
    """Runs a command to its end: one line of error and a status, never a traceback.

    Imports belong inside `command`: they take seconds, and somebody may interrupt them.

    Args:
        prog: the command's name, before what went wrong.
        command: does everything; an int that it returns is the status.

    Returns:
        What `command` returned, 0 if that is no int, 2 for an error, 130 if interrupted.
    """
    with noting_interrupts(prog) as interrupts:
        try:
            status = command()
            sys.stdout.flush()  # here, where a full disk is still one line
            return status if isinstance(status, int) else 0
        except KeyboardInterrupt:
            interrupts.append(signal.SIGINT)
        except Exception as error:
            if isinstance(error, BrokenPipeError):  # what is left to print would fail once more at the exit
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if not interrupts:  # C code turns an interrupt into errors of all kinds
                print(f"{prog}: {_described(error)}", file=sys.stderr)
                return 2
        print(f"{prog}: interrupted", file=sys.stderr)
        return INTERRUPTED


def _described(error: Exception) -> str:
    """What went wrong, for the terminal."""
    from mlfem_jax.files import printable

    module = (getattr(error, "name", None) or "").split(".")[0]
    if str(error).startswith("No module named") and module in _EXTRAS:
        text = f"needs the module {module}: pip install 'mlfem-jax[{_EXTRAS[module]}]'"
    elif isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{os.fsdecode(error.filename)}: {error.strerror}"
    elif isinstance(error, ValueError | OSError | MemoryError | ImportError):
        text = str(error) or type(error).__name__
    elif os.environ.get("MLFEM_TRACEBACK"):
        raise error
    else:
        text = f"unexpected {type(error).__name__}: {str(error)[:300]!r}; MLFEM_TRACEBACK=1 shows where it came from"
    return "\n".join(map(printable, text.split("\n")))


def _run(name: str, arguments: Sequence[str]) -> Any:
    import tyro

    from mlfem_jax.compilation import keep_compiled

    module, function = COMMANDS[name][0].split(":")
    command = getattr(importlib.import_module(module), function)
    keep_compiled()
    return tyro.cli(command, prog=f"mlfem {name}", args=arguments)


def _print_help() -> None:
    import mlfem_jax

    summary = (mlfem_jax.__doc__ or "").splitlines()[0]
    print(f"usage: mlfem COMMAND [OPTIONS]\n\n{summary}\n")
    width = max(map(len, COMMANDS))
    for name, (_, line) in COMMANDS.items():
        print(f"  {name:{width}}  {line}")
    print("\n`mlfem COMMAND --help` says more; `mlfem --version` gives the version.")


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*header, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    program()
