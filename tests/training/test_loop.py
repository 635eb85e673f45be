"""The loop does not wait for the device between reports."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from mlfem_jax.data.batches import read_examples
from mlfem_jax.parallel.devices import batch_sharding
from mlfem_jax.training.loop import train


@jax.jit
def slow_step(state, batch):
    """Some tenths of a second on one core."""
    values = jax.lax.fori_loop(0, 40, lambda _, values: jnp.sin(values @ values), state["x"] + batch["x"].sum())
    return {"x": values}, values.mean()


def test_the_next_step_is_enqueued_before_the_last_one_ends(tmp_path):
    sharding = batch_sharding(1, jax.devices()[:1])
    examples = read_examples(lambda position: {"x": np.float32(position)}, np.arange(4), batch_size=1)
    warm = {
        "x": jax.device_put(np.zeros(1, np.float32), sharding[0]),
        "mask": jax.device_put(np.ones(1, bool), sharding[0]),
    }
    jax.block_until_ready(slow_step({"x": jax.device_put(jnp.eye(512), sharding[1])}, warm))
    losses, finished = [], []

    def on_loss(step, loss):
        losses.append(loss)
        finished.append(sum(loss.is_ready() for loss in losses))

    initial = Partial(lambda: {"x": jnp.eye(512)})
    train(tmp_path, initial, iter(examples), slow_step, steps=4, every=4, validate=lambda state: {}, score="step",
          sharding=sharding, on_loss=on_loss)  # fmt: skip
    assert all(loss.is_ready() for loss in losses)
    assert finished[:2] == [0, 0], "the second step was enqueued while the first was running"
