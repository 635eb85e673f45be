"""What `eval.benchmarks.compiled` reads of a program, by hand; and one layer's FEM compiled for accelerators."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eval.benchmarks.compiled.costs import activation_rows, host_callbacks, program_costs
from eval.benchmarks.compiled.hlo import read_hlo
from eval.benchmarks.compiled.kernels import count_collectives, count_loops, read_kernels
from eval.benchmarks.compiled.stand_ins import stand_in_backbone
from eval.benchmarks.compiled.subjects import Setting, traced
from eval.benchmarks.compiled.support import support_table
from eval.benchmarks.compiled.targets import TARGETS, is_installed
from mlfem_jax.backbones import from_function, load_backbone

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


@pytest.mark.parametrize(
    ("window", "inputs", "outputs", "multiplied"),
    [
        ("size=1", 8, 8, 8),
        ("size=3 pad=1_1", 4, 4, 10),  # two of twelve lie outside
        ("size=3 stride=2 pad=0_1", 4, 2, 5),
        ("size=2 pad=1_1 lhs_dilate=2", 2, 4, 4),  # the holes of a dilated input: . a . b .
        ("size=64 pad=63_63 rhs_reversal=1", 1, 64, 64),  # a product that a TPU's compiler wrote as a convolution
    ],
)
def test_only_what_meets_an_input_is_multiplied(window, inputs, outputs, multiplied):
    size = int(window.split()[0].partition("=")[2])
    program = f"""HloModule one, is_scheduled=true

ENTRY %main (a: f32[2,{inputs},3], b: f32[{size},3,5]) -> f32[2,{outputs},5] {{
  %a = f32[2,{inputs},3]{{2,1,0}} parameter(0)
  %b = f32[{size},3,5]{{2,1,0}} parameter(1)
  ROOT %c = f32[2,{outputs},5]{{2,1,0}} convolution(%a, %b), window={{{window}}}, dim_labels=b0f_0io->b0f
}}
"""
    (kernel,) = read_kernels(read_hlo(program))
    assert kernel.flops == pytest.approx(2 * 2 * 3 * 5 * multiplied)


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


# On a TPU the statistics come out of the kernel that makes the activation, which is then read for the map; on a GPU the
# ReLU6, the statistics and the map read it. Nothing is written in float32.
@pytest.mark.parametrize(("target", "reads"), [("v5e", 1), ("h100", 3)])
def test_how_often_one_layers_fem_reads_the_activation(target, reads):
    if not is_installed(target):
        pytest.skip(f"the extra {TARGETS[target].extra} is not installed")
    script = Path(__file__).with_name("one_layer.py")
    root = Path(__file__).parents[3]
    there = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    there["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, [there.get("PYTHONPATH")])])
    done = subprocess.run([sys.executable, script, target], capture_output=True, text=True, check=True, env=there)
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["float32_copies"], found["loops"]) == (0, 0)
    assert found["activations"][0]["reads_each"] <= reads


@pytest.mark.parametrize("subject", ["scores", "train_fusion:unet", "net:architecture=net"])
def test_what_is_compiled_is_still_the_librarys(subject):
    def apply(params, inputs):
        return inputs.mean(axis=(1, 2)) @ params, {"first": inputs, "second": inputs[:, ::2, ::2]}

    backbone = from_function(apply, jnp.eye(3), input_size=(16, 16), signs=("as_is", "as_is"))
    setting = Setting(backbone, 2, "float32", tuple(jax.devices("cpu")[:1]))
    found = traced(subject, setting)
    assert "func.func public @main" in found.lower().as_text()
    assert host_callbacks(found.jaxpr) == {}


def test_what_compiles_and_what_does_not():
    row = {
        "what": "add",
        "target": "v5e",
        "peak_mib": 12.4,
        "loops": 0,
        "collectives": {},
        "host_callbacks": {"slic": 1},
    }
    failed = {"what": "lime", "target": "v5e", "error": "RuntimeError: no device"}
    other = row | {"target": "h100", "peak_mib": None, "collectives": {"all-reduce": 2}}
    equal = [row | {"what": "max"}, other | {"what": "max"}]
    assert support_table([row, failed, other, *equal]).splitlines()[2:] == [
        "| add, max | 12 | 0 | 0 | 1 slic | ? | 0 | 2 all-reduce | 1 slic |",
        "| lime | does not compile | - | - | - | not tried | - | - | - |",
        "",
        "- lime, v5e: RuntimeError: no device",
    ]


def test_the_stand_ins_have_the_shapes_of_the_networks():
    found, drawn = stand_in_backbone("resnet18"), load_backbone("resnet18", "random")
    assert jax.tree.map(jnp.shape, found.params) == jax.tree.map(jnp.shape, drawn.params)
    assert (found.layers, found.input_size, found.signs) == (drawn.layers, drawn.input_size, drawn.signs)


def test_calls_of_the_host_are_found_by_name_wherever_they_are():
    def _half(values, by):
        return values / by

    @jax.jit
    def called(value):
        call = functools.partial(_half, by=np.float32(2))
        return jax.pure_callback(call, value, value, vmap_method="sequential")

    assert host_callbacks(jax.jit(lambda values: jax.lax.map(called, values)).trace(jnp.ones(3)).jaxpr.jaxpr) == {
        "half": 1
    }
    assert host_callbacks(jax.jit(jnp.sin).trace(1.0).jaxpr.jaxpr) == {}


def test_what_is_gathered_is_told_once_however_many_steps_it_is_cut_into():
    gather = "all-gather(%a), channel_id=1, replica_groups=[1,4]<=[4], dimensions={0}"
    program = f"""HloModule one, is_scheduled=true

%step (a: f32[2,3]) -> f32[8,3] {{
  %a = f32[2,3]{{1,0}} parameter(0)
  ROOT %g.1 = f32[8,3]{{1,0}} {gather}
}}

ENTRY %main (a: f32[2,3]) -> f32[8,3] {{
  %a = f32[2,3]{{1,0}} parameter(0)
  %f = f32[8,3]{{1,0}} fusion(%a), kind=kLoop, calls=%step
  %s = (f32[2,3]{{1,0}}, f32[8,3]{{1,0}}) all-gather-start(%a), channel_id=2, dimensions={{0}}
  %d = f32[8,3]{{1,0}} all-gather-done(%s)
  ROOT %g = f32[8,3]{{1,0}} {gather}
}}
"""
    assert count_collectives(read_hlo(program)) == {"all-gather of f32[8,3]": 2}
