"""The same photographs give the same maps, whatever the batch, the devices, the processes and JAX's number type.

    python -m tests.campaigns.invariance [--methods ...] [--photos 12]

Prints the largest difference of a map in [0, 1] from that of one image at a time on one device, for each method.
"""

import argparse
import os
import sys

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"

import jax
import numpy as np

from mlfem_jax import explain, from_function
from mlfem_jax.attribution import METHODS
from tests.attribution.test_edge_cases import SIZE, Residual
from tests.attribution.test_methods import FAST

TOLERANCE = 1e-5
LOOSER = {
    # The gradients of two batches differ by rounding, and single ReLUs near 0 switch.
    **dict.fromkeys(("smooth_grad", "var_grad", "integrated_gradients", "saliency", "gradient_x_input"), 1e-4),
    **dict.fromkeys(("expected_gradients", "guided_ig", "deep_lift"), 1e-4),
}


def network():
    """Residual, small, and random."""
    from flax import nnx

    from mlfem_jax.backbones.hooks import PLAIN, no_tap

    graph, params = nnx.split(Residual(rngs=nnx.Rngs(0)))

    def apply(params, inputs, *, tap=no_tap, rules=PLAIN):
        return nnx.merge(graph, params)(inputs, tap=tap, rules=rules)

    return from_function(apply, params, input_size=SIZE)


def main() -> int:
    """Every method, every way."""
    parser = argparse.ArgumentParser()
    known = [name for name in METHODS if name != "net"]  # it runs on the network alone that it was trained for
    parser.add_argument("--methods", nargs="+", default=known, choices=known)
    parser.add_argument("--photos", type=int, default=12)
    asked = parser.parse_args()
    backbone, devices = network(), jax.devices()
    rng = np.random.default_rng(0)
    photos = rng.integers(0, 200, (asked.photos, 4, 4, 3), dtype=np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    photos = photos + rng.integers(0, 50, (asked.photos, *SIZE, 3), dtype=np.uint8)
    tried = failed = 0
    for method in asked.methods:

        def maps(method=method, **ways):
            return np.asarray(explain(backbone, photos, method=method, **FAST.get(method, {}), **ways))

        one = maps(batch_size=1, devices=devices[:1])
        ways = {f"batch {size}": maps(batch_size=size, devices=devices[:1]) for size in (3, asked.photos)}
        ways |= {f"{count} devices": maps(batch_size=4, devices=devices[:count]) for count in (2, 4)}
        with jax.enable_x64(True):
            ways["x64"] = maps(batch_size=1, devices=devices[:1])
        differences = {way: float(np.abs(found - one).max()) for way, found in ways.items()}
        wrong = [way for way, difference in differences.items() if difference > LOOSER.get(method, TOLERANCE)]
        tried, failed = tried + len(ways), failed + len(wrong)
        shown = ", ".join(f"{way} {difference:.1e}" for way, difference in differences.items())
        print(f"{method}: {shown}{'  <- FAILED' if wrong else ''}", flush=True)
    print(f"invariance: tried {tried}, failed {failed}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
