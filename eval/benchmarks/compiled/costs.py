"""What a compiled program costs, in one row, and the tables of its activations and of its heaviest kernels."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.extend import core
from jax.stages import Compiled

from eval.benchmarks.compiled.hlo import HloArray, read_hlo
from eval.benchmarks.compiled.kernels import Kernel, count_collectives, count_loops, read_kernels
from eval.benchmarks.compiled.targets import Target

Shapes = Mapping[str, tuple[int, ...]]
_DTYPES = {"float32": "f32", "bfloat16": "bf16"}


def program_costs(text: str, target: Target, activations: Shapes, dtype: str) -> dict[str, Any]:
    """What the scheduled program says.

    Args:
        text: of the program, `compiled.as_text()`.
        target: what it was compiled for.
        activations: layer name to shape, on one device.
        dtype: of the forward pass.

    Returns:
        A dict: the columns of a row; "activations" and "heaviest", rows of their own. "compiled_bound_ms" is the sum
        over kernels of what the peaks allow at best, never a speed; None where the peaks are not known.
    """
    hlo = read_hlo(text)
    kernels = read_kernels(hlo)
    loops, untold = count_loops(hlo)
    seen = activation_rows(kernels, activations, dtype)
    cycles = [kernel.cycles * kernel.times for kernel in kernels if kernel.cycles is not None]
    return {
        "gb_read": sum(_total(kernel.reads) * kernel.times for kernel in kernels) / 1e9,
        "gb_written": sum(_total(kernel.writes) * kernel.times for kernel in kernels) / 1e9,
        "gflop": sum(kernel.flops * kernel.times for kernel in kernels) / 1e9,
        "compiled_bound_ms": _bound_ms(kernels, target),
        "estimated_mcycles": sum(cycles) / 1e6 if cycles else None,
        "kernels": len(kernels),
        "loops": loops,
        "loops_of_unknown_length": untold,
        "collectives": count_collectives(hlo),
        "float32_copies": sum(row["float32_copies"] for row in seen),
        "activations": seen,
        "heaviest": heaviest_rows(kernels, activations, target),
    }


def memory_costs(compiled: Compiled) -> dict[str, Any]:
    """Peak memory of one device, in MiB; None where the compiler does not tell."""
    layout = compiled.memory_analysis()
    if layout is None:
        return {"peak_mib": None}
    held = layout.argument_size_in_bytes + layout.output_size_in_bytes - layout.alias_size_in_bytes
    return {"peak_mib": (held + layout.temp_size_in_bytes) / 2**20}


def host_callbacks(jaxpr: core.Jaxpr) -> dict[str, int]:
    """The functions of the host that a traced function calls, by name, and in how many places.

    Example:
        >>> def half(x):
        ...     return jax.pure_callback(lambda x: x / 2, x, x, vmap_method="sequential")
        >>> host_callbacks(jax.make_jaxpr(jax.vmap(half))(jax.numpy.ones(3)).jaxpr)
        {'<lambda>': 1}
    """
    found: Counter[str] = Counter()
    for equation in jaxpr.eqns:
        if "callback" in equation.primitive.name:
            function = equation.params["callback"].callback_func
            found[getattr(function, "func", function).__name__.lstrip("_")] += 1
        for leaf in jax.tree.leaves(equation.params, is_leaf=lambda leaf: isinstance(leaf, core.Jaxpr)):
            inner = leaf.jaxpr if isinstance(leaf, core.ClosedJaxpr) else leaf
            if isinstance(inner, core.Jaxpr):
                found.update(host_callbacks(inner))
    return dict(found)


def activation_rows(kernels: Sequence[Kernel], activations: Shapes, dtype: str) -> list[dict[str, Any]]:
    """For each shape of activations, how often one is read and written in the device's large memory.

    Layers of one shape are counted together; so are other arrays of just that shape and dtype. What a forward pass
    alone reads is in the bare forward's row: the difference is the method's.
    """
    rows = []
    for shape in sorted(set(activations.values()), key=math.prod, reverse=True):
        layers = [name for name, other in activations.items() if other == shape]
        each = HloArray(_DTYPES[dtype], shape).bytes
        copies = [
            array
            for kernel in kernels
            for array, count in kernel.writes
            if _is_activation(array, shape) and array.dtype == "f32" and count == array.bytes > 0
        ]
        rows.append(
            {
                "layers": ", ".join(layers),
                "shape": shape,
                "mb_each": each / 1e6,
                "reads_each": _moved(kernels, "reads", shape, _DTYPES[dtype]) / (each * len(layers)),
                "writes_each": _moved(kernels, "writes", shape, _DTYPES[dtype]) / (each * len(layers)),
                "float32_copies": 0 if dtype == "float32" else len(copies),
            }
        )
    return rows


def heaviest_rows(kernels: Sequence[Kernel], activations: Shapes, target: Target, most: int = 10) -> list[dict]:
    """The kernels that move most, and the first and last layer of whose activations' shape they move something."""

    def layers_of(kernel: Kernel) -> str:
        moved = [array for array, count in kernel.reads + kernel.writes if count]
        found = [name for name, shape in activations.items() if any(_is_activation(array, shape) for array in moved)]
        return " to ".join(dict.fromkeys((*found[:1], *found[-1:])))

    ordered = sorted(kernels, key=lambda kernel: -kernel.bytes * kernel.times)[:most]
    return [
        {
            "kernel": kernel.name,
            "kind": kernel.kind,
            "times": kernel.times,
            "mb": kernel.bytes * kernel.times / 1e6,
            "bound_ms": _bound_ms([kernel], target),
            "of": layers_of(kernel),
            "source": kernel.source[-60:],
        }
        for kernel in ordered
    ]


def _is_activation(array: HloArray, shape: tuple[int, ...]) -> bool:
    """Its axes may be in another order, those of space may be merged, and those of space with the images."""
    images, *space, channels = shape
    forms = (shape, (images, math.prod(space), channels), (images * math.prod(space), channels))
    return sorted(size for size in array.dims if size > 1) in [sorted(s for s in form if s > 1) for form in forms]


def _moved(kernels: Sequence[Kernel], way: str, shape: tuple[int, ...], dtype: str) -> float:
    return sum(
        count * kernel.times
        for kernel in kernels
        for array, count in getattr(kernel, way)
        if array.dtype == dtype and _is_activation(array, shape)
    )


def _total(moved: Sequence[tuple[HloArray, int]]) -> int:
    return sum(count for _, count in moved)


def _bound_ms(kernels: Sequence[Kernel], target: Target) -> float | None:
    if not target.flops_per_s:
        return None
    return 1e3 * sum(kernel.bound_s(target.flops_per_s, target.bytes_per_s) for kernel in kernels)
