"""What a batch needs, what fits, and what is said where it does not."""

import functools
import re
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import mlfem_jax as mlfem
from mlfem_jax.cli import main
from mlfem_jax.engine import memory
from mlfem_jax.gallery import write as gallery
from tests.networks import brightness_network, photographs

DEVICES = tuple(jax.local_devices()[:1])


def free(monkeypatch, free_bytes):
    monkeypatch.setattr(memory, "free_bytes", lambda devices: free_bytes)


def logits(forward):
    return forward.logits


def test_bytes_of_a_batch_by_hand():
    # Two batches of 4 images of 8 x 8 x 3 bytes, and of 4 x 3 float32 logits; the parameter is one float32.
    found = memory.batch_bytes(brightness_network(), logits, batch_size=4, devices=DEVICES)
    least = 2 * 4 * 8 * 8 * 3 + 2 * 4 * 3 * 4 + 4
    assert least <= found < least + 100_000  # and what XLA wants for itself


def test_more_images_need_more_and_the_parameters_once():
    def apply(params, inputs):
        return inputs.mean(axis=(1, 2)) @ params, {"pixels": inputs}

    network = mlfem.from_function(apply, jnp.ones((3, 100_000)), input_size=(16, 16))
    few, many = (memory.batch_bytes(network, logits, batch_size=count, devices=DEVICES) for count in (1, 3))
    assert 4 * 300_000 + 2 * 4 * 100_000 < few
    assert few + 2 * 4 * 100_000 < many


@pytest.mark.parametrize(("bytes_of", "most", "limit", "expected"), [
    (lambda n: 100 + 10 * n, 256, 100 + 10 * 256, 256),
    (lambda n: 100 + 10 * n, 256, 100 + 10 * 256 - 1, 128),
    (lambda n: 100 + 10 * n, 100, 10_000, 100),  # all images, a power of two or not
    (lambda n: 100 + 10 * n, 100, 1000, 64),
    (lambda n: 10_000 + n, 256, 10_001, 1),
    (lambda n: 10_000 + n, 256, 10_000, 0),
    (lambda n: float("inf") if n > 7 else 1, 256, 10, 4),
    (lambda n: n, 256, None, 256),
])  # fmt: skip
def test_the_largest_batch_that_fits(bytes_of, most, limit, expected):
    assert memory.largest_batch(lambda images: float(bytes_of(images)), most=most, limit=limit) == expected


def test_few_sizes_are_compiled_on_the_way():
    asked = []
    assert memory.largest_batch(lambda n: asked.append(n) or 50 + 10 * n, most=256, limit=100) == 4
    assert asked == [256, 8, 4]


def test_the_share_of_devices_with_a_limit():
    full, empty = {"bytes_limit": 1000, "bytes_in_use": 600}, {"bytes_limit": 1000, "bytes_in_use": 0}
    assert memory._free_device_bytes([empty, full]) == 360
    assert memory._free_device_bytes([empty, {}]) is None


def test_the_share_of_the_host():
    whole, half = memory.free_bytes(DEVICES), memory.free_bytes(DEVICES * 2)
    assert 0 < half < 0.6 * whole


@pytest.mark.parametrize(("images", "size"), [(40, 32), (5, 5), (40, 8), (40, 1)])
def test_auto_takes_what_fits(monkeypatch, images, size):
    network = brightness_network()
    needed = functools.partial(memory.batch_bytes, network, "add", devices=DEVICES)
    free(monkeypatch, needed(batch_size=size) if size > 1 else 1)  # where not even one fits, one is tried
    assert memory.fitting_share(needed, most=min(images, 32), devices=DEVICES) == size
    photos = photographs(images)
    maps = mlfem.explain(network, photos, batch_size="auto", devices=DEVICES)
    np.testing.assert_allclose(maps, mlfem.explain(network, photos, batch_size=4), atol=1e-6)


def test_auto_asks_once_for_each_size_of_image(monkeypatch):
    asked = []
    monkeypatch.setattr(memory, "largest_batch", lambda bytes_of, most, limit: asked.append(most) or 2)
    photos = [photographs(1, size)[0] for size in [(8, 8), (8, 8), (6, 10), (8, 8)]]
    maps = mlfem.explain(brightness_network(), photos, resize="native", batch_size="auto", devices=DEVICES)
    assert asked == [4, 4]
    assert [importance.shape for importance in maps] == [(8, 8), (8, 8), (6, 10), (8, 8)]


def greedy(forward):
    """A pebibyte for each image."""
    rows = jnp.arange(2**24, dtype=jnp.float32)[None] + forward.logits[:, :1]
    return rows[:, :, None] * jnp.arange(2**24, dtype=jnp.float32)[None, None]


def test_out_of_memory_is_explained():
    with pytest.raises(
        MemoryError,
        match=r"batch_size: expected .*, got 2 images, which need 4194304\.\d\d GiB; not even one image fits",
    ):
        list(mlfem.map_batches(brightness_network(), photographs(2), greedy, devices=DEVICES))


def test_out_of_memory_names_what_would_fit(monkeypatch):
    network = brightness_network()
    needed = functools.partial(memory.batch_bytes, network, logits, devices=DEVICES)
    limit = needed(batch_size=5)
    free(monkeypatch, limit)
    with pytest.raises(MemoryError) as caught, memory.exhaustion_explained(needed, batch_size=64, devices=DEVICES):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 7 bytes.")
    amounts = re.findall(r"\d+\.\d+ GiB", str(caught.value))
    assert amounts == [f"{size / 2**30:.2f} GiB" for size in (needed(batch_size=64), limit)]
    assert (
        "batch_size: expected" in str(caught.value)
        and "got 64 images, which need" in str(caught.value)
        and "; 4 would fit" in str(caught.value)
    )


def test_other_errors_pass():
    with (
        pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"),
        memory.exhaustion_explained(lambda batch_size: 1, batch_size=1, devices=DEVICES),
    ):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")


def test_a_batch_that_the_devices_cannot_share_is_refused():
    with pytest.raises(ValueError, match="batch_size: expected a multiple of the 1 devices, got 0"):
        memory.batch_bytes(brightness_network(), "add", batch_size=0, devices=DEVICES)


def test_auto_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gallery, "load_backbone", lambda name, weights: brightness_network((16, 16)))
    Image.fromarray(photographs(1, (16, 16))[0]).save(tmp_path / "a.png")
    command = ["explain", str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--cache", "none"]
    assert main([*command, "--batch-size", "auto"]) == 0
    assert np.load(tmp_path / "out" / "a.npy").shape == (16, 16)
    with pytest.raises(SystemExit):
        main([*command, "--batch-size", "some"])
    assert "--batch-size INT|{auto}" in capsys.readouterr().err


def test_out_of_memory_on_the_command_line_is_one_line(tmp_path, monkeypatch, capsys):
    def exhausted(*arguments, **options):
        raise MemoryError("batch_size: 64 images need 9.00 GiB")

    monkeypatch.setattr(gallery, "load_backbone", lambda name, weights: brightness_network((16, 16)))
    monkeypatch.setattr(gallery, "map_batches", exhausted)
    Image.fromarray(photographs(1, (16, 16))[0]).save(tmp_path / "a.png")
    assert main(["explain", str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--cache", "none"]) == 2
    assert capsys.readouterr().err == "mlfem explain: batch_size: 64 images need 9.00 GiB\n"


@pytest.mark.parametrize(("platform", "most"), [("cpu", 32), ("tpu", 16), ("gpu", 256)])
def test_where_the_search_for_a_batch_size_starts(platform, most):
    assert memory.most_images((mock.Mock(spec=jax.Device, platform=platform),)) == most
