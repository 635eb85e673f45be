"""What the compiler of an accelerator makes of the library, on a machine without one: bytes, kernels, FLOPs.

    python -m eval.benchmarks.compiled --targets v5e h100 --backbones resnet50 --what add --batch-size 256
    python -m eval.benchmarks.compiled --what all --batch-size 8 --brief    # does every method compile?
    python -m eval.benchmarks.compiled --what add scores train_fusion:net train_classifier --devices 4 --batch-size 64

Needs the extra `tpu-compile` or `cuda-compile`; `--targets cpu` needs none. Nothing is computed, and no number here is
a speed. Counted is what the scheduled program says: of every kernel, the operands and results that lie in the device's
large memory, without the padding of tiles. The compiled bound is the sum over kernels of the longer of FLOP / peak and
bytes / bandwidth, as if no two ran at once. A large network takes minutes: ResNet-50 with all its layers' FEM four on
two idle cores for a TPU, less than one for an H100.
"""

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import jax

from eval.benchmarks.common import print_row, print_table, write_json
from eval.benchmarks.compiled.costs import host_callbacks, memory_costs, program_costs
from eval.benchmarks.compiled.stand_ins import calls_without_device, stand_in_backbone
from eval.benchmarks.compiled.subjects import Setting, activation_shapes, traced
from eval.benchmarks.compiled.support import support_table
from eval.benchmarks.compiled.targets import TARGETS, compile_only, target_devices
from mlfem_jax.attribution import methods_on
from mlfem_jax.files import replacing

_SHOWN = ("what", "gb_read", "gb_written", "gflop", "compiled_bound_ms", "ratio", "kernels", "loops", "collectives",
          "float32_copies", "peak_mib", "compile_s")  # fmt: skip
_WITHOUT_TRITON: dict[str, bool | str] = {"xla_gpu_enable_triton_gemm": False}


@dataclasses.dataclass(frozen=True)
class Config:
    """What the compiler of an accelerator makes of the library.

    Attributes:
        targets: devices to compile for: v5e, v6e, v5p, h100, cpu.
        backbones: networks by name; their weights are zeros.
        what: "bare", "stack", "scores", "scores:METRICS", "train_fusion:ARCHITECTURE", "train_classifier" or
            "train_classifier:CLASSES"; a method, with options as in "net:architecture=net"; or "all", every method that
            the network lends itself to. The bare forward is compiled in any case: the ratios are to it.
        size: (height, width) of the images; default: the network's own.
        batch_size: images in a batch, of all devices together.
        devices: that a batch is split over, up to 16.
        shards: of these, that each large array of a classifier's training state is split over.
        dtype: of the forward pass.
        brief: print neither activations nor kernels; they are in the JSON file.
        table: Markdown file to write: what compiles, and its peak memory, loops, collectives and host callbacks.
        programs: folder for the text of every program.
        out: JSON file to write.
    """

    targets: tuple[str, ...] = ("v5e", "h100")
    backbones: tuple[str, ...] = ("efficientnet_lite0",)
    what: tuple[str, ...] = ("add",)
    size: tuple[int, int] | None = None
    batch_size: int = 8
    devices: int = 1
    shards: int = 1
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    brief: bool = False
    table: Path | None = None
    programs: Path | None = None
    out: Path | None = None

    def __post_init__(self) -> None:
        """Checks the names and numbers."""
        if unknown := [name for name in self.targets if name not in TARGETS]:
            raise ValueError(f"targets: expected some of {', '.join(TARGETS)}, got {', '.join(unknown)}")
        if self.devices < 1 or self.batch_size < 1 or self.batch_size % self.devices:
            raise ValueError(f"batch_size: expected a multiple of the {self.devices} devices, got {self.batch_size}")


def main(config: Config) -> None:
    """Prints the tables, and writes them where that is asked for, again with each row: the next may take an hour."""
    compile_only()
    rows: list[dict[str, Any]] = []
    for target in config.targets:
        devices = target_devices(target, config.devices)
        for name in config.backbones:
            backbone = stand_in_backbone(name)
            backbone = dataclasses.replace(backbone, input_size=config.size or backbone.input_size)
            setting = Setting(backbone, config.batch_size, config.dtype, devices, config.shards)
            start = len(rows)
            for row in compiled_rows(target, setting, config):
                rows.append(row)
                write_json(config.out, config, rows=rows)
                if config.table is not None:
                    _write_table(config.table, rows)
            title = f"{name}, {config.devices} x {target}, {config.dtype}, batch {config.batch_size}"
            _print(rows[start:], config, title)


def compiled_rows(target: str, setting: Setting, config: Config) -> Iterator[dict[str, Any]]:
    """One row for each thing that is compiled, the bare forward first; one that fails says why in "error"."""
    about = {"target": target, "backbone": setting.backbone.name, "size": setting.backbone.input_size}
    bare = None
    for what in dict.fromkeys(("bare", *_subjects(config.what, setting))):
        try:
            row = compiled_row(what, target, setting, config)
        except Exception as error:  # whatever tracing and compiling raise is the finding
            row = {"what": what, "error": f"{type(error).__name__}: {error}"[:300]}
        bound: Any = row.get("compiled_bound_ms")
        bare = bound if what == "bare" else bare
        print_row({name: row[name] for name in ("what", "compile_s", "error") if name in row})
        yield about | row | {"ratio": bare / bound if bare and bound else None}


def compiled_row(what: str, target: str, setting: Setting, config: Config) -> dict[str, Any]:
    """Compiles one thing and counts.

    Where the products that Triton makes do not compile without a device at hand, those of the library are taken.
    """
    start = time.perf_counter()
    program = traced(what, setting)
    calls = host_callbacks(program.jaxpr.jaxpr)
    if calls and TARGETS[target].platform == "cuda":
        jax.clear_caches()  # of what was traced with JAX's own
        with calls_without_device():
            program = traced(what, setting)
    ready = program.lower()
    try:
        compiled, options = ready.compile(), None
    except Exception:
        if target != "h100":
            raise
        compiled, options = ready.compile(compiler_options=_WITHOUT_TRITON), _WITHOUT_TRITON
    seconds = time.perf_counter() - start
    text = compiled.as_text() or ""
    if config.programs is not None:
        config.programs.mkdir(parents=True, exist_ok=True)
        name = f"{target}-{setting.backbone.name}-{what.replace(':', '_')}-{config.batch_size}"
        (config.programs / f"{name}.txt").write_text(text)
    costs = program_costs(text, TARGETS[target], activation_shapes(setting), setting.dtype)
    about = {"what": what, "compile_s": seconds, "compiler_options": options, "host_callbacks": calls}
    return about | costs | memory_costs(compiled)


def _subjects(what: tuple[str, ...], setting: Setting) -> Iterator[str]:
    for name in what:
        yield from methods_on(setting.backbone) if name == "all" else (name,)


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    names = dict.fromkeys(row["backbone"] for row in rows)
    parts = [f"{name}\n\n{support_table([row for row in rows if row['backbone'] == name])}" for name in names]
    with replacing(path) as file:
        file.write("\n".join(parts).encode())


def _print(rows: list[dict[str, Any]], config: Config, title: str) -> None:
    compiled = [row for row in rows if "error" not in row]
    print_table(compiled, columns=_SHOWN, title=title)
    print_table([row for row in rows if "error" in row], columns=("what", "error"), title="what does not compile")
    for row in () if config.brief else compiled:
        print_table(row["activations"], title=f"{row['what']}: activations in the device's large memory")
        print_table(row["heaviest"], title=f"{row['what']}: the kernels that move most")
