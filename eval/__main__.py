"""What the timings and the results in the documentation were made with: `python -m eval NAME [OPTIONS]`.

A name's module has a `Config`, whose fields are the options, and a `main(config)`. It is imported only when it is
called, so that whoever interrupts it, or lacks what it needs, reads one line.
"""

import importlib
import sys
from collections.abc import Sequence

from mlfem_jax.cli import run_command

MODULES = {
    "benchmarks.first_map": "eval.benchmarks.first_map",
    "benchmarks.linear_cost": "eval.benchmarks.linear_cost",
    "benchmarks.long_run": "eval.benchmarks.long_run",
    "benchmarks.method_cost": "eval.benchmarks.method_cost.run",
    "benchmarks.page_speed": "eval.benchmarks.page_speed",
    "benchmarks.reading": "eval.benchmarks.reading",
    "benchmarks.reckon": "eval.benchmarks.reckon",
    "benchmarks.resume_cost": "eval.benchmarks.resume_cost",
    "benchmarks.throughput": "eval.benchmarks.throughput.run",
    "experiments.ceiling": "eval.experiments.ceiling",
    "experiments.classifier_folds": "eval.experiments.classifier_folds",
    "experiments.fusion_folds": "eval.experiments.fusion_folds",
    "experiments.method_grid": "eval.experiments.method_grid",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the named module; the exit status is that of `mlfem_jax.cli.run_command`."""
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print("usage: python -m eval NAME [OPTIONS]\n", *MODULES, "", sep="\n  ")
        print("`python -m eval NAME --help` says more.")
        return 0
    if name not in MODULES:
        print(f"eval: NAME: expected one of {', '.join(MODULES)}, got {name!r}", file=sys.stderr)
        return 2
    return run_command(f"eval {name}", lambda: _run(name, rest))


def _run(name: str, arguments: Sequence[str]) -> int | None:
    import tyro

    module = importlib.import_module(MODULES[name])
    return module.main(tyro.cli(module.Config, prog=f"python -m eval {name}", args=arguments))


if __name__ == "__main__":
    sys.exit(main())
