"""The command line: a table of names and typed functions, each imported only when it is called.

To add a command, write a function whose signature and docstring are its options and help, and add a line to
`COMMANDS`. An int that it returns is the exit status (0 otherwise); a ValueError, OSError or MemoryError is one line
of error.
"""

import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "explain": ("mlfem_jax.gallery.write:explain", "show what the network looked at in photographs"),
    "score": ("mlfem_jax.scores.run:score", "score methods against gaze and the network, over a data set"),
    "report": ("mlfem_jax.report.write:write_report", "draw the figures, tables and page of a table of scores"),
    "train fusion": ("mlfem_jax.training.fusion.task:train_fusion", "train a learned fusion on human gaze"),
    "train classifier": ("mlfem_jax.training.classifier.task:train_classifier", "train a classifier to explain"),
    "prepare": ("mlfem_jax.data.prepared.write:prepare", "build a gaze data set from its release"),
    "preview": ("mlfem_jax.data.prepared.draw:preview", "draw images of a prepared data set with their gaze"),
    "methods": ("mlfem_jax.cli:methods", "list the methods"),
    "backbones": ("mlfem_jax.cli:backbones", "list the networks"),
}


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
        _print_help()
        return 0
    if name == "--version":
        from mlfem_jax import __version__

        print(f"mlfem {__version__}")
        return 0
    if name not in COMMANDS:
        print(f"mlfem: no command {name!r}; there are: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return _run(name, rest)


def methods() -> None:
    """Lists the names that `--method` accepts, what each costs, and what it does."""
    from mlfem_jax.attribution import METHODS

    _print_table(
        ("method", "needs", "what it shows"),
        [(name, method.needs, method.summary) for name, method in METHODS.items()],
    )


def backbones() -> None:
    """Lists the names that `--backbone` accepts, and whose weights are at hand without a file."""
    from mlfem_jax.backbones import ARCHITECTURES, TOWERS

    _print_table(
        ("backbone", "weights", "what it is"),
        [
            (name, "packaged" if network.package else "a file", network.summary)
            for name, network in (ARCHITECTURES | TOWERS).items()
        ],
    )


def _run(name: str, arguments: Sequence[str]) -> int:
    module, function = COMMANDS[name][0].split(":")
    try:
        import tyro

        from mlfem_jax.compilation import keep_compiled

        command = getattr(importlib.import_module(module), function)
        keep_compiled()
        status = tyro.cli(command, prog=f"mlfem {name}", args=arguments)
        return status if isinstance(status, int) else 0
    except (ValueError, OSError, MemoryError, ImportError) as error:
        print(f"mlfem {name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"mlfem {name}: interrupted", file=sys.stderr)
        return 130


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
    sys.exit(main())
