"""How often XLA compiles: once for each (network, size, methods)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlfem_jax as mlfem
from mlfem_jax.attribution.registry import method
from mlfem_jax.compilation import counted_compilations
from tests.networks import brightness_network, photographs


@pytest.fixture
def batches():
    """The functions compiled for a batch since the test began."""
    with counted_compilations() as names:
        yield lambda: sum("run_batch" in name for name in names)


def test_functions_are_counted_when_they_are_compiled():
    with counted_compilations() as names:
        twice = jax.jit(lambda x: x * 2)
        twice(np.ones(3, np.float32))
        twice(np.zeros(3, np.float32))
    twice(np.ones(4, np.float32))
    assert len(names) == 1


def test_one_function_for_any_number_of_images_and_batches(batches):
    network = brightness_network()
    mlfem.explain(network, photographs(9), batch_size=4)
    mlfem.explain(network, photographs(6), batch_size=4, output="photo")
    list(mlfem.explain(network, iter(photographs(5)), batch_size=4))
    mlfem.explain(network, [photographs(1, (20, 30))[0]] * 5, batch_size=4)
    assert batches() == 1


def test_one_function_for_each_method_option_size_dtype_and_network(batches):
    network = brightness_network()
    for count, options in enumerate(
        [
            {"method": "add"},
            {"method": "max"},
            {"method": "add", "alpha": 0.25},
            {"method": "add", "dtype": jnp.bfloat16},
            {"method": "add", "batch_size": 2},
        ],
        start=1,
    ):
        for _ in range(2):
            mlfem.explain(network, photographs(4), **options)
        assert batches() == count
    mlfem.explain(network, photographs(4, (6, 10)), resize="native")
    assert batches() == 6
    mlfem.explain(brightness_network(), photographs(4))
    assert batches() == 7


def test_one_function_for_a_set_of_methods(batches):
    methods = method("add"), method("max"), method("fem")

    def all_of_them(forward):
        return [method(forward) for method in methods]

    network = brightness_network()
    for _ in range(2):
        assert len(list(mlfem.map_batches(network, photographs(5), all_of_them, batch_size=2))) == 5
    assert batches() == 1


def test_auto_runs_what_it_compiled_to_see_what_fits(batches):
    network = brightness_network()
    mlfem.explain(network, photographs(5), batch_size="auto")
    assert batches() == 1
