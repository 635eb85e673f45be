"""The cost of resuming: a checkpoint is no smaller than what a trained state holds."""

import jax

from eval.benchmarks.resume_cost import Config, measure
from mlfem_jax.fusion.network import PaperNet


def test_a_checkpoint_is_measured_full():
    net = PaperNet(4)
    params = sum(leaf.size for leaf in jax.tree.leaves(net.init(jax.random.key(0))))
    found = measure(net, Config(images=32, repeats=2))
    held = 4 * 4 * params  # float32: parameters, their average, and two moments of the optimizer
    assert 0.9 * held < found["bytes"] < 1.5 * held + 20_000
    assert all(found[name] > 0 for name in ("write_s", "resume_s"))
