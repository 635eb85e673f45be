"""A training state split over four simulated devices, for a process of its own (tests/forked.py).

Everything that JAX makes meanwhile is looked at: no device may hold more of a large array than its part.
"""

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from mlfem_jax.data.batches import read_examples
from mlfem_jax.parallel import devices as meshes
from mlfem_jax.parallel.devices import batch_sharding
from mlfem_jax.training.checkpoints import open_checkpoints, restore_checkpoint, save_checkpoint
from mlfem_jax.training.step import initial_state, make_state, state_shapes

WIDE, NARROW = (6, 16), (3, 5)
COMPILED = "/jax/core/compile/backend_compile_duration"


def drawn():
    """A state of weights drawn from a seed."""
    params = {"wide": jax.random.normal(jax.random.key(1), WIDE), "narrow": jnp.ones(NARROW)}
    return initial_state(params, {}, optax.adam(0.1), jax.random.key(2))


def filled(params):
    """A state of weights that are given."""
    return initial_state(params, {}, optax.adam(0.1), jax.random.key(2))


def compiled_and_made(make):
    """(what `make` gives, how many programs were compiled for it): nothing else computes anything."""
    counted = []
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: counted.append(name))
    made = jax.block_until_ready(make())
    jax.monitoring.clear_event_listeners()
    return made, counted.count(COMPILED)


def check_parts(state, shards):
    """The wide array and both its moments are split; every device holds its part alone, and all of the rest."""
    wide = [leaf for leaf in jax.tree.leaves(state) if leaf.shape == WIDE]
    assert len(wide) == 3
    for leaf in jax.tree.leaves(state):
        part = (WIDE[0], WIDE[1] // shards) if leaf.shape == WIDE else leaf.shape
        assert len(leaf.addressable_shards) == 4
        assert {shard.data.shape for shard in leaf.addressable_shards} == {part}, leaf.sharding


def check_live(shards):
    """Of all arrays that are alive none lies whole on a device but the small ones."""
    held = [shard.data.shape for leaf in jax.live_arrays() for shard in leaf.addressable_shards]
    assert WIDE not in held and (WIDE[0], WIDE[1] // shards) in held


def equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(one), jax.device_get(other))


def main(folder):
    """Makes, saves and restores."""
    jax.config.update("jax_num_cpu_devices", 4)
    meshes.LARGE = 60
    by_two, by_four = (batch_sharding(4, shards=shards)[1] for shards in (2, 4))
    state, programs = compiled_and_made(lambda: make_state(Partial(drawn), by_four))
    assert programs == 1
    check_parts(state, 4), check_live(4)
    given = jax.device_get(state.params)
    read, programs = compiled_and_made(lambda: make_state(Partial(filled, given), by_four))
    assert programs == 1
    check_parts(read, 4), check_live(4)
    equal(read.params, given)
    reader = iter(read_examples(lambda position: {"x": np.float32(position)}, np.arange(4), batch_size=1))
    with open_checkpoints(folder, state) as manager:
        save_checkpoint(manager, 3, state, reader, score=0.0)
    for shards, on_each in ((4, by_four), (2, by_two)):
        restored, programs = compiled_and_made(
            lambda on_each=on_each: restore_checkpoint(folder, 3, state_shapes(Partial(drawn), on_each), reader)
        )
        assert programs == 0
        check_parts(restored, shards), check_live(shards), equal(restored, state)
    equal(jax.jit(drawn)(), state)  # last, as it lies whole on the first device
    print("checked")
