"""What `eval.benchmarks.compiled` reads of a program, by hand; and one layer's FEM compiled for a TPU."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from eval.benchmarks.compiled.costs import activation_rows, program_costs
from eval.benchmarks.compiled.hlo import read_hlo
from eval.benchmarks.compiled.kernels import count_loops, read_kernels
from eval.benchmarks.compiled.subjects import Setting, activation_shapes, lowered
from eval.benchmarks.compiled.targets import TARGETS, compile_only, target_devices
from mlfem_jax.backbones import from_function

# A convolution by 1x1 whose result is written twice (bf16 and float32), a loop of five turns that looks at a slice of
# 4x2 and updates as much in place, and the copy of a parameter onto the chip.
PROGRAM = (Path(__file__).parents[2] / "golden" / "short_program.hlo").read_text()


def test_kernels_by_hand():
    copy, convolution, update, reduce = read_kernels(read_hlo(PROGRAM))
    assert [sum(count for _, count in copy.reads), copy.bytes] == [16, 16]  # what lies on the chip counts nothing
    assert convolution.reads[0][1] == 8 * 4 * 2 and convolution.reads[1][1] == 0
    assert [count for _, count in convolution.writes] == [32, 64]
    assert (convolution.flops, convolution.cycles, convolution.source) == (2 * 8 * 2 * 4, 77, "jit(f)/conv")
    assert (update.times, [count for _, count in update.reads], update.writes[0][1]) == (5, [32, 4], 32)
    assert (reduce.kind, reduce.bytes) == ("all-reduce", 128)


def test_costs_by_hand():
    costs = program_costs(PROGRAM, TARGETS["v5e"], {"layer": (8, 2)}, "bfloat16")
    assert costs["gb_read"] == pytest.approx((16 + 64 + 5 * 36 + 64) / 1e9)
    assert costs["gb_written"] == pytest.approx((96 + 5 * 32 + 64) / 1e9)
    assert (costs["loops"], costs["loops_of_unknown_length"], costs["collectives"]) == (1, 0, {"all-reduce": 1})
    assert (costs["float32_copies"], costs["estimated_mcycles"]) == (2, 77e-6)
    assert [row["kernel"] for row in costs["heaviest"]] == ["updated.3", "fusion.5", "all-reduce.5", "copy-start.5"]
    assert [row["of"] for row in costs["heaviest"]] == ["layer", "layer", "layer", ""]


def test_an_activation_is_known_by_its_channels():
    kernels = read_kernels(read_hlo(PROGRAM))
    row, other = activation_rows(kernels, {"a": (8, 2), "b": (4, 2, 4)}, "float32")
    assert (row["layers"], row["reads_each"], other["reads_each"]) == ("b", 0, (5 * 0.5 + 1))


def test_what_is_no_program_is_refused():
    with pytest.raises(ValueError, match="text: expected the program of a compiled function, got 'nothing'"):
        read_hlo("nothing")


def test_a_compiled_function_of_this_machine():
    text = jax.jit(lambda x: jnp.sin(x).sum()).lower(jnp.zeros((64, 32))).compile().as_text()
    hlo = read_hlo(text)
    assert sum(sum(count for _, count in kernel.reads) for kernel in read_kernels(hlo)) >= 64 * 32 * 4
    assert count_loops(hlo) == (0, 0)


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="the extra tpu-compile is not installed")
def test_one_layers_fem_for_a_tpu_reads_the_activation_once_more():
    """Its statistics come out of the kernel that makes the activation; nothing is written in float32."""

    def apply(params, inputs):
        activation = jax.nn.relu(jax.lax.conv_general_dilated(
            inputs, params, (4, 4), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        ))  # fmt: skip
        return activation.mean(axis=(1, 2)), {"layer": activation}

    compile_only()
    backbone = from_function(apply, jnp.zeros((7, 7, 3, 256)), input_size=(224, 224), signs=("as_is",))
    setting = Setting(backbone, 128, "bfloat16", target_devices("v5e", 1))
    shapes = activation_shapes(setting)
    bare, fem = (
        program_costs(lowered(what, setting).compile().as_text(), TARGETS["v5e"], shapes, "bfloat16")
        for what in ("bare", "add")
    )
    assert fem["float32_copies"] == 0 and fem["loops"] == 0
    assert fem["activations"][0]["reads_each"] <= bare["activations"][0]["reads_each"] + 1
