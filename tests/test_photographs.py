"""Real photographs through the real network: the labels are right and the map lies where the thing is."""

import numpy as np
import pytest

import mlfem_jax as mlfem

data = pytest.importorskip("skimage.data")


def center_of_mass(image):
    image = np.asarray(image, np.float64)
    rows, columns = np.indices(image.shape)
    return np.array([(rows * image).sum(), (columns * image).sum()]) / image.sum()


@pytest.fixture(scope="module")
def photos():
    return [data.coffee(), data.chelsea(), data.astronaut(), data.rocket()]


def test_labels(efficientnet, photos):
    coffee, cat, *_ = mlfem.map_batches(efficientnet, photos, lambda forward: forward.logits)
    assert efficientnet.labels[coffee.argmax()] == "espresso"
    assert efficientnet.labels[cat.argmax()] in ("tabby", "tiger cat", "Egyptian cat")


@pytest.mark.parametrize("method", ["fem", "add", "mean"])
@pytest.mark.parametrize("axis", [0, 1], ids=["upside down", "mirrored"])
def test_maps_turn_with_the_photograph(efficientnet, photos, method, axis):
    # A network padded otherwise than it was trained moves every map by the same 20 of 224 pixels, whichever way round.
    maps = mlfem.explain(efficientnet, photos, method=method)
    turned = mlfem.explain(efficientnet, [np.flip(photo, axis) for photo in photos], method=method)
    shifts = [
        (center_of_mass(one) - center_of_mass(np.flip(other, axis)))[axis] / 2
        for one, other in zip(maps, turned, strict=True)
    ]
    assert abs(np.mean(shifts)) < 6


def test_the_overlay_lies_on_the_rocket(efficientnet, photos):
    # The rocket stands in columns 300 to 350 of 640; what the paper's map marks most must be there.
    (found,) = mlfem.explain(efficientnet, [photos[3]], method="add", output="photo")
    _, column = center_of_mass(found > 0.6)
    assert 270 < column < 380
