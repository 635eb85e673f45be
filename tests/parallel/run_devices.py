"""Maps on eight simulated devices and on one, for a process of its own (tests/forked.py); prints what it checked.

The devices have to be asked for before JAX starts, which pytest's own process cannot do.
"""

from collections import OrderedDict

import jax
import numpy as np

import mlfem_jax as mlfem
from mlfem_jax.backbones.hooks import no_tap
from mlfem_jax.backbones.networks.layers import convolve
from mlfem_jax.engine.batch import forward_program
from mlfem_jax.engine.memory import batch_bytes
from mlfem_jax.engine.stream import run_batches

OPTIONS = {
    "add": {"alpha": 0.3},
    "top": {},
    "grad_cam": {"target": np.arange(11) % 4},
    "smooth_grad": {"samples": 2},
    "integrated_gradients": {"steps": 2},
    "random": {},
}


def network():
    """Two 3x3 convolutions, the second at half the resolution, and a linear head on the mean."""
    keys = jax.random.split(jax.random.key(1), 3)
    shapes = {"first": (3, 3, 3, 5), "last": (3, 3, 5, 6), "head": (6, 4)}
    params = {name: jax.random.normal(key, shape) for key, (name, shape) in zip(keys, shapes.items(), strict=True)}

    def apply(params, inputs, *, tap=no_tap):
        first = tap("first", jax.nn.relu(convolve(inputs, params["first"])))
        last = tap("last", jax.nn.relu(convolve(first, params["last"], stride=2)))
        return last.mean(axis=(1, 2)) @ params["head"], OrderedDict(first=first, last=last)

    return mlfem.from_function(apply, params, input_size=(32, 32))


def logits(forward):
    return forward.logits


def main():
    jax.config.update("jax_num_cpu_devices", 8)
    devices, backbone = jax.devices(), network()
    assert len(devices) == 8
    images = np.random.default_rng(0).integers(0, 256, (11, 32, 32, 3), dtype=np.uint8)
    for method, options in OPTIONS.items():
        spread = mlfem.explain(backbone, images, method=method, batch_size=8, **options)
        alone = mlfem.explain(backbone, images, method=method, batch_size=8, devices=devices[3:4], **options)
        assert spread.devices() == {devices[0]} and alone.devices() == {devices[3]}
        np.testing.assert_allclose(np.asarray(spread), np.asarray(alone), atol=1e-6, err_msg=method)
    rows = list(mlfem.map_batches(backbone, iter(images), logits, batch_size=9))
    np.testing.assert_allclose(rows, list(mlfem.map_batches(backbone, images, logits, devices=devices[:1])), rtol=1e-5)
    lazy = mlfem.explain(backbone, iter(images), batch_size=16)
    np.testing.assert_allclose(np.stack(list(lazy)), mlfem.explain(backbone, images, devices=devices[:1]), atol=1e-6)
    with jax.default_device(devices[5]):
        assert mlfem.explain(backbone, images[:1]).devices() == {devices[5]}
    many, one = (batch_bytes(backbone, "add", batch_size=16, devices=devices[:count]) for count in (8, 1))
    assert many < one, (many, one)
    few = mlfem.explain(backbone, images[:3], method="fem", batch_size="auto")
    np.testing.assert_allclose(few, mlfem.explain(backbone, images, method="fem", devices=devices[:1])[:3], atol=1e-6)
    program = forward_program(backbone, logits, dtype="float32", devices=tuple(devices))
    ((name, filled),) = run_batches(program, [("three", (images[:3], None))])
    assert name == "three" and len(filled) == 8  # one for each device
    np.testing.assert_allclose(filled[:3], rows[:3], rtol=1e-5)
    print("all equal")
