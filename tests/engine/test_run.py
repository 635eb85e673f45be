import itertools
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlfem_jax as mlfem
from tests import reference
from tests.networks import brightness_network, photographs


def expected_map(photo, operator="add", alpha=0.9, k=2.0, layers=("fine", "coarse")):
    """What explain must give for one uint8 photo of the network's size, from the slow loops."""
    fine = photo.astype(np.float32)
    height, width, channels = fine.shape
    coarse = fine.reshape(height // 2, 2, width // 2, 2, channels).mean(axis=(1, 3))
    stack = [
        reference.normalize(reference.upsample(reference.fem(activation, k), (height, width)))
        for name, activation in (("fine", fine), ("coarse", coarse))
        if name in layers
    ]
    return reference.fuse(np.array(stack), operator, alpha, "end")


@pytest.mark.parametrize("method", ["fem", "max", "add", "top", "mean", "product"])
def test_agrees_with_the_loops(method):
    photos = photographs(3)
    maps = mlfem.explain(brightness_network(), photos, method=method, k=1.0)
    assert maps.dtype == jnp.float32
    for found, photo in zip(maps, photos, strict=True):
        np.testing.assert_allclose(found, expected_map(photo, operator=method, k=1.0), atol=1e-5)


def test_options_reach_the_method():
    photos = photographs(1)
    found = mlfem.explain(brightness_network(), photos, method="top", k=0.5, alpha=0.2)
    np.testing.assert_allclose(found[0], expected_map(photos[0], "top", alpha=0.2, k=0.5), atol=1e-5)


@pytest.mark.parametrize("layers", ["fine", 0, -2, slice(0, 1), ["fine"], [0]])
def test_layers_by_name_index_and_slice(layers):
    photos = photographs(1)
    found = mlfem.explain(brightness_network(), photos, method="max", layers=layers, k=1.0)
    np.testing.assert_allclose(found[0], expected_map(photos[0], "max", k=1.0, layers=("fine",)), atol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 9])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_batch_size_changes_nothing_and_the_padding_stays_inside(count, batch_size):
    photos, network = photographs(count), brightness_network()
    found = mlfem.explain(network, photos, k=1.0, batch_size=batch_size)
    alone = np.concatenate([mlfem.explain(network, photos[i : i + 1], k=1.0) for i in range(count)])
    assert found.shape == (count, 8, 8)
    np.testing.assert_allclose(found, alone, atol=1e-6)


def test_a_partial_last_batch_is_not_traced_again():
    traces = []
    network = brightness_network(traces=traces)
    traces.clear()
    mlfem.explain(network, photographs(4), batch_size=4)
    traced = len(traces)
    mlfem.explain(network, photographs(11), batch_size=4)
    mlfem.explain(network, iter(photographs(5)), batch_size=4)
    list(mlfem.explain(network, iter(photographs(7)), batch_size=4))
    assert traced >= 1
    assert len(traces) == traced


def test_equal_options_share_what_was_compiled():
    traces = []
    network = brightness_network(traces=traces)
    for _ in range(3):
        mlfem.explain(network, photographs(2), method="add", alpha=0.25, layers=[0, 1])
    first = len(traces)
    mlfem.explain(network, photographs(2), method="add", alpha=0.75, layers=[0, 1])
    assert len(traces) > first  # another alpha is another program, so the count can tell


def test_photos_of_many_sizes_come_back_at_their_own_size():
    photos = [photographs(1, size)[0] for size in ((8, 8), (10, 6), (5, 12))]
    maps = mlfem.explain(brightness_network(), photos, output="photo", k=1.0)
    assert [importance.shape for importance in maps] == [(8, 8), (10, 6), (5, 12)]
    np.testing.assert_allclose(maps[0], expected_map(photos[0], k=1.0), atol=1e-5)


def test_crop_leaves_what_was_cut_at_zero():
    photo = photographs(1, (8, 16))[0]
    (found,) = mlfem.explain(brightness_network(), [photo], resize="crop", output="photo", k=1.0)
    np.testing.assert_array_equal(found[:, :4], 0)
    np.testing.assert_array_equal(found[:, 12:], 0)
    np.testing.assert_allclose(found[:, 4:12], expected_map(photo[:, 4:12], k=1.0), atol=1e-5)


def test_native_size_compiles_once_a_size():
    traces = []
    network = brightness_network(traces=traces)
    traces.clear()
    photos = [photographs(1, size, seed)[0] for seed, size in enumerate([(8, 8), (8, 8), (6, 10), (8, 8)])]
    maps = mlfem.explain(network, photos, resize="native", batch_size=2, k=1.0)
    for found, photo in zip(maps, photos, strict=True):
        np.testing.assert_allclose(found, expected_map(photo, k=1.0), atol=1e-5)
    assert {shape[1:3] for shape in traces} == {(8, 8), (6, 10)}
    assert len(traces) == 2 * len([shape for shape in traces if shape[1:3] == (6, 10)])


def test_float_images_equal_uint8_images():
    photos = photographs(2)
    found = mlfem.explain(brightness_network(), photos.astype(np.float32) / 255, k=1.0)
    np.testing.assert_allclose(found, mlfem.explain(brightness_network(), photos, k=1.0), atol=1e-5)


def test_float_images_are_resized_like_uint8_images():
    photos = photographs(2, (32, 24))
    expected = [mlfem.explain(brightness_network(), [photo], method="mean", k=0.5)[0] for photo in photos]
    found = mlfem.explain(brightness_network(), photos.astype(np.float32) / 255, method="mean", k=0.5)
    for one, other in zip(found, expected, strict=True):  # Pillow rounds uint8 to whole gray levels
        assert np.corrcoef(np.ravel(one), np.ravel(other))[0, 1] > 0.95


def test_images_on_the_device():
    photos = photographs(3)
    network = brightness_network()
    np.testing.assert_array_equal(mlfem.explain(network, jnp.asarray(photos)), mlfem.explain(network, photos))


def test_an_endless_iterator_is_read_no_further_than_needed():
    drawn = itertools.count()

    def endless():
        while True:
            next(drawn)
            yield photographs(1)[0]

    maps = mlfem.explain(brightness_network(), endless(), batch_size=4)
    first = [next(maps) for _ in range(9)]
    np.testing.assert_array_equal(first[0], first[8])
    assert next(drawn) <= 16  # three batches used, one under way


def test_memory_does_not_grow_with_the_number_of_images():
    maps = mlfem.explain(brightness_network((64, 64)), itertools.repeat(photographs(1, (64, 64))[0]), batch_size=4)

    def peak(count):
        tracemalloc.reset_peak()
        for _ in range(count):
            next(maps)
        return tracemalloc.get_traced_memory()[1], sum(array.nbytes for array in jax.live_arrays())

    tracemalloc.start()
    peak(50)
    few, many = peak(50), peak(400)
    tracemalloc.stop()
    assert many[0] < 1.2 * few[0] + 100_000
    assert many[1] <= 2 * few[1]


def test_bfloat16_forward_gives_float32_maps_that_agree(efficientnet):
    data = pytest.importorskip("skimage.data")
    photos = [data.coffee(), data.chelsea()]
    full, half = (mlfem.explain(efficientnet, photos, dtype=dtype) for dtype in (jnp.float32, jnp.bfloat16))
    assert half.dtype == jnp.float32
    for one, other in zip(full, half, strict=True):
        assert np.corrcoef(np.ravel(one), np.ravel(other))[0, 1] > 0.98


def test_maps_of_a_network_that_overflows_are_blank():
    network = brightness_network()
    broken = mlfem.Backbone(**{**vars(network), "params": jnp.float32(np.inf)})
    np.testing.assert_array_equal(mlfem.explain(broken, photographs(2)), 0)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8, 8), np.uint8), r"images: expected RGB of shape \(N, H, W, 3\)"),
        (np.zeros((2, 9, 9), np.uint8), r"images\[0\]: expected RGB of shape \(H, W, 3\)"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"images: expected RGB of shape \(N, H, W, 3\)"),
        (np.zeros((2, 8, 8, 3), np.int32), "images: expected uint8 or floats"),
        (np.full((2, 8, 8, 3), 200.0, np.float32), r"images: expected floats in \[0, 1\], got values from 200"),
        (np.full((2, 8, 8, 3), np.nan, np.float32), "images: expected floats"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)], r"images\[1\]: expected RGB"),
        (np.zeros((8, 9, 3), np.uint8), r"got shape \(9, 3\); one photograph goes in as \[photo\]"),
        ([np.array("cat.png")], r"got shape \(\); read the file first: read_photo\('cat.png'\)"),
        ([np.zeros((8, 9), np.uint8)], r"got shape \(8, 9\); of gray ones: np.stack\(\[photo\] \* 3, axis=-1\)"),
        ([np.zeros((3, 8, 9), np.uint8)], r"with the channels first: photo.transpose\(1, 2, 0\)"),
        ([np.zeros((8, 9, 4), np.uint8)], r"with transparency: photo\[..., :3\]"),
        ([np.full((8, 9, 3), 231.0, np.float32)], r"from 231 to 231; divide them by 255"),
        (np.zeros((0, 8, 8, 3), np.uint8), "images: expected at least one image"),
        ([], "images: expected at least one image"),
    ],
)
def test_bad_images_are_named(images, message):
    with pytest.raises(ValueError, match=message):
        mlfem.explain(brightness_network(), images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "gradcam"}, "method: expected one of fem, max, add"),
        ({"method": "fem", "alpha": 0.5}, "method 'fem': expected options among layers, k, sign, raw, got alpha"),
        ({"layers": "finest"}, "layers: expected some of the 2 layers fine, coarse, got 'finest'"),
        ({"layers": [2]}, "layers: expected some of .*, got 2"),
        ({"layers": slice(5, 9)}, r"layers: expected some of fine, coarse, got slice\(5, .*, which chooses none"),
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"k": np.nan}, "k: expected a finite number, got nan"),
        ({"method": "fem", "k": np.inf}, "k: expected a finite number, got inf"),
        ({"resize": "squash"}, "rule: expected one of stretch, crop, native"),
        ({"output": "screen"}, "output: expected 'input' or 'photo', got 'screen'"),
        ({"alpha": 2.0}, r"alpha: expected a weight in \[0, 1\], got 2.0"),
    ],
)
def test_bad_options_list_what_is_possible(options, message):
    with pytest.raises(ValueError, match=message):
        mlfem.explain(brightness_network(), photographs(1, (9, 9)), **options)


def test_several_methods_from_one_forward():
    photos = photographs(3)

    def both(forward):
        return {"logits": forward.logits, "layers": jnp.stack([a.mean() for a in forward.activations.values()])[None]}

    rows = list(mlfem.map_batches(brightness_network(), photos, both, batch_size=1))
    assert len(rows) == 3
    for row, photo in zip(rows, photos, strict=True):
        np.testing.assert_allclose(row["logits"], photo.mean(axis=(0, 1)), rtol=1e-5)
        np.testing.assert_allclose(row["layers"], [photo.mean(), photo.mean()], rtol=1e-5)
