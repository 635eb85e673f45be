"""Batches of anything through one compiled function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlfem_jax as mlfem
from mlfem_jax.engine import memory, stream
from mlfem_jax.engine.batch import Program
from mlfem_jax.engine.stream import images_in_batch, run_batches
from tests.networks import brightness_network, photographs

DEVICES = tuple(jax.local_devices()[:1])


def powers(offset, batch, power):
    return {"sum": offset + batch["x"] ** power + batch["y"]}


def program():
    return Program(powers, jnp.float32(1), 2, DEVICES)


def batch(start):
    return {"x": np.arange(start, start + 3, dtype=np.float32), "y": np.full(3, 10, np.float32)}


def test_outputs_come_in_order_with_what_the_caller_noted():
    found = list(run_batches(program(), ((str(start), batch(start)) for start in range(4))))
    assert [note for note, _ in found] == ["0", "1", "2", "3"]
    for start, (_, outputs) in enumerate(found):
        np.testing.assert_array_equal(outputs["sum"], 11 + np.arange(start, start + 3) ** 2)


def test_one_batch_is_under_way_while_the_last_is_used():
    drawn = []

    def endless():
        while True:
            drawn.append(len(drawn))
            yield drawn[-1], batch(0)

    outputs = run_batches(program(), endless())
    assert not drawn
    for number in range(3):
        assert next(outputs)[0] == number
        assert len(drawn) == number + 2


def test_no_batches_are_no_outputs():
    assert list(run_batches(program(), [])) == []


def test_memory_that_does_not_suffice_is_explained_whatever_the_batch(monkeypatch):
    def exhausted(*arguments, **options):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 7 bytes.")

    monkeypatch.setattr(stream, "run_batch", exhausted)
    monkeypatch.setattr(memory, "free_bytes", lambda devices: 2**30)
    with pytest.raises(MemoryError, match=r"batch_size: expected .*, got 3 images, which need 0.00 GiB; 1 would fit"):
        list(run_batches(program(), [("a", batch(0))]))


@pytest.mark.parametrize(("asked", "most", "expected"), [(5, None, 5), (5, 2, 5), ("auto", 7, 7), ("auto", None, 32)])
def test_images_in_a_batch(monkeypatch, asked, most, expected):
    monkeypatch.setattr(memory, "free_bytes", lambda devices: 2**30)
    assert images_in_batch(program(), batch(0), asked, most=most) == expected


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="batch_size: expected at least 1, got 0"):
        images_in_batch(program(), batch(0), 0)


def test_what_explain_returns_depends_on_the_types_of_its_arguments():
    """As its overloads say, which a checker follows."""
    network, array = brightness_network(), photographs(2)
    assert isinstance(mlfem.explain(network, array), jax.Array)
    assert isinstance(mlfem.explain(network, array, resize="native"), jax.Array)
    assert isinstance(mlfem.explain(network, array, output="photo"), np.ndarray)
    assert isinstance(mlfem.explain(network, list(array), resize="crop"), jax.Array)
    for options, kind in (({"resize": "native"}, jax.Array), ({"output": "photo"}, np.ndarray)):
        for images in (list(array), iter(array)):
            maps = mlfem.explain(network, images, **options)
            assert isinstance(maps, list) == isinstance(images, list)
            assert [(type(importance) is np.ndarray, isinstance(importance, kind)) for importance in maps] == [
                (kind is np.ndarray, True)
            ] * 2
    assert list(mlfem.map_batches(network, [], lambda forward: forward.logits)) == []
