import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlfem_jax.parallel.chunks import in_parts


@pytest.mark.parametrize("size", [1, 2, 7, 8, 30])
def test_parts_change_nothing_and_leaves_may_be_empty(size):
    def negative(part):
        return jax.tree.map(lambda leaf: -leaf, part)

    numbers = np.arange(3 * size, dtype=np.int32).reshape(size, 3)
    found = jax.jit(lambda batch: in_parts(negative, batch))({"numbers": numbers, "labels": jnp.zeros((size, 0))})
    np.testing.assert_array_equal(found["numbers"], -numbers)
    assert found["labels"].shape == (size, 0)
