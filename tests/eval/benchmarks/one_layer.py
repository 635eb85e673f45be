"""Prints what compilers make of one layer and its FEM, as JSON: `python tests/eval/benchmarks/one_layer.py v5e`.

In a process of its own, for the tests' has looked for devices already, and compiles without most optimizations.
"""

import json
import sys

import jax
import jax.numpy as jnp

from eval.benchmarks.compiled.costs import program_costs
from eval.benchmarks.compiled.subjects import Setting, activation_shapes, traced
from eval.benchmarks.compiled.targets import TARGETS, compile_only, target_devices
from mlfem_jax.backbones import from_function


def network(params, inputs):
    """A convolution and a ReLU6, whose result a GPU's compiler would like to keep in float32."""
    axes = ("NHWC", "HWIO", "NHWC")
    layer = jax.nn.relu6(jax.lax.conv_general_dilated(inputs, params, (4, 4), "SAME", dimension_numbers=axes))
    return layer.mean(axis=(1, 2)), {"layer": layer}


compile_only()
target = sys.argv[1]
backbone = from_function(network, jnp.zeros((7, 7, 3, 256)), input_size=(224, 224), signs=("as_is",))
setting = Setting(backbone, 128, "bfloat16", target_devices(target, 1))
text = traced("add", setting).lower().compile().as_text() or ""
print(json.dumps(program_costs(text, TARGETS[target], activation_shapes(setting), "bfloat16")))
