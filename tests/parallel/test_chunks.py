from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlfem_jax.parallel.chunks import chunk_size, in_parts, map_chunks, over_chunks
from mlfem_jax.parallel.devices import over_shares


@pytest.mark.parametrize("size", [1, 2, 7, 8, 30])
def test_parts_change_nothing_and_leaves_may_be_empty(size):
    def negative(part):
        return jax.tree.map(lambda leaf: -leaf, part)

    numbers = np.arange(3 * size, dtype=np.int32).reshape(size, 3)
    batch = {"numbers": numbers, "labels": jnp.zeros((size, 0))}
    found = jax.jit(lambda batch: in_parts(negative, batch, platform="cpu"))(batch)
    np.testing.assert_array_equal(found["numbers"], -numbers)
    assert found["labels"].shape == (size, 0)


@pytest.mark.parametrize(("platform", "parts"), [("cpu", [4]), ("gpu", [16]), ("tpu", [16])])
def test_only_the_devices_that_are_cpus_cut_a_batch(monkeypatch, platform, parts):
    """Whatever JAX's default is: here it is a CPU, of which two images a core are computed at once."""
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    seen = []

    def doubled(whole, part):
        seen.append(len(part))
        return whole * part

    device = mock.Mock(spec=jax.Device, platform=platform)
    found = over_shares(doubled, (device,))(jnp.float32(2), jnp.arange(16.0))
    np.testing.assert_array_equal(found, 2 * np.arange(16))
    assert seen == parts


@pytest.mark.parametrize(("size", "chunks"), [(1, [1]), (2, [2]), (3, [3]), (4, [3]), (5, [5]), (64, [5])])
def test_chunks_of_at_most_so_many_change_nothing(size, chunks):
    seen = []

    def square(items):
        seen.append(len(items))
        return {"square": items**2}

    found = over_chunks(square, jnp.arange(5.0), size)
    np.testing.assert_array_equal(found["square"], [0, 1, 4, 9, 16])
    assert seen == chunks
    one_by_one = map_chunks(lambda item: item**2, jnp.arange(5.0), size)
    np.testing.assert_array_equal(one_by_one, found["square"])


def test_perturbations_at_once_depend_on_the_platform(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert [chunk_size(2, 64, platform) for platform in ("cpu", "gpu", "tpu")] == [4, 32, 32]
