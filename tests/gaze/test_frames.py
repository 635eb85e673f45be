import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from mlfem_jax.gaze import density as gaze, frames


@pytest.mark.parametrize(
    ("shape", "new_shape", "box"),
    [
        ((600, 800), (224, 224), (28, 0, 196, 224)),
        ((800, 600), (224, 224), (0, 28, 224, 196)),
        ((10, 10), (4, 9), (0, 2, 4, 6)),  # a margin of 5: 2 on the left, 3 on the right
        ((1, 1000), (10, 10), (4, 0, 5, 10)),  # never thinner than a pixel
    ],
)
def test_letterbox(shape, new_shape, box):
    assert frames.fit(shape, new_shape, rule="letterbox") == box


def test_corners_of_the_photo_land_on_corners_of_the_box():
    # Edges of the frame are half a pixel outside the centers of the outermost pixels.
    corners = np.array([[-0.5, -0.5], [599.5, 799.5]], np.float32)
    moved = frames.move_fixations(corners, (600, 800), (28, 0, 196, 224))
    np.testing.assert_allclose(moved, [[27.5, -0.5], [195.5, 223.5]], atol=1e-5)
    assert moved.dtype == np.float32


def test_a_marked_pixel_moves_with_its_fixation():
    photo = np.zeros((6, 8), np.float32)
    photo[4, 2] = 1
    larger = np.asarray(jax.image.resize(photo, (18, 32), "linear"))
    fixation = frames.move_fixations(np.array([4.0, 2.0]), (6, 8), (0, 0, 18, 32))
    center = [(larger.sum(1) * np.arange(18)).sum(), (larger.sum(0) * np.arange(32)).sum()] / larger.sum()
    np.testing.assert_allclose(fixation, center, atol=1e-5)


def test_fixations_may_be_jax_arrays():
    moved = frames.move_fixations(jnp.ones((2, 3, 2)), (4, 4), (0, 0, 8, 8))
    np.testing.assert_array_equal(moved, np.full((2, 3, 2), 2.5, np.float32))


def test_density_of_moved_fixations_is_the_resized_density():
    rng = np.random.default_rng(0)
    shape, new_shape = (120, 160), (60, 40)
    fixations = rng.uniform(0, shape, (20, 2)).astype(np.float32)
    box = frames.fit(shape, new_shape)
    direct = gaze.gaze_density(
        frames.move_fixations(fixations, shape, box),
        new_shape,
        sigma_px=frames.scale_sigma(12.0, shape, box),
    )
    full = np.asarray(gaze.gaze_density(fixations, shape, sigma_px=12.0))
    binned = full.reshape(60, 2, 40, 4).sum((1, 3))
    np.testing.assert_allclose(direct, binned, atol=0.02 * binned.max())


def test_content_box():
    # 100x100 with bars of 10 rows, letterboxed into 20x40: the photo lands on columns 10 to 30 at a fifth.
    box = frames.fit((100, 100), (20, 40), rule="letterbox")
    assert frames.move_box((10, 0, 90, 100), (100, 100), box) == (2, 10, 18, 30)
    assert frames.move_box((99, 99, 100, 100), (100, 100), box) == (19, 29, 20, 30)


def test_an_unknown_rule_is_named():
    # Where the annotations are checked, the check comes first.
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match="'crop'"):
        frames.fit((3, 3), (3, 3), rule="crop")
