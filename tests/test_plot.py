"""Overlays against colors worked by hand; what a contact sheet holds, and where."""

import numpy as np
import pytest
from PIL import Image

from mlfem_jax import plot
from mlfem_jax.photos import read_photo
from mlfem_jax.plot import contact_sheet, overlay, write_png

photo = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def test_the_photo_is_untouched_where_the_map_is_zero():
    np.testing.assert_array_equal(overlay(photo, np.zeros((20, 30))), photo)
    np.testing.assert_array_equal(overlay(photo, np.ones((20, 30)), opacity=0.0), photo)


def test_heat_is_laid_on_in_proportion_to_the_map():
    # "gray" maps v to v: where the map is 1, 0.8 of white over black is 204; at 0.5 (level 128 of 255) the opacity
    # is 0.8 x 128 / 255 and the color 128, so 51 over black.
    black = np.zeros((1, 3, 3), np.uint8)
    heat = overlay(black, np.array([[0.0, 0.5, 1.0]]), opacity=0.8, colormap="gray")
    np.testing.assert_array_equal(heat[0, :, 0], [0, 51, 204])


def test_values_outside_the_range_are_clipped_and_nan_is_nothing():
    heat = overlay(np.zeros((1, 3, 3), np.uint8), np.array([[-3.0, 7.0, np.nan]]), opacity=1.0, colormap="gray")
    np.testing.assert_array_equal(heat[0, :, 0], [0, 255, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_photo_is_not_changed_in_place(dtype):
    before = photo.copy()
    assert overlay(photo, np.ones((20, 30), dtype)).dtype == np.uint8
    np.testing.assert_array_equal(photo, before)


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match=r"opacity: expected a number from 0 to 1, got 1\.5"):
        overlay(photo, np.ones((20, 30)), opacity=1.5)
    with pytest.raises(ValueError, match="colormap: expected a name that matplotlib knows, got 'nope'"):
        overlay(photo, np.ones((20, 30)), colormap="nope")


def test_a_contact_sheet_holds_the_photo_and_every_overlay_once():
    wide = np.random.default_rng(1).integers(0, 256, (100, 150, 3), np.uint8)
    maps = {f"layer {index}\n7 x 7": np.full((100, 150), index / 6, np.float32) for index in range(7)}
    sheet = contact_sheet(wide, {"Fusions": {"max": np.ones((100, 150))}, "Layers": maps}, title="cat\nadd", columns=3)
    gray = Image.fromarray(wide).convert("L").convert("RGB")
    faded = (np.asarray(gray) * 0.6 + 255 * 0.4).astype(np.uint8)
    wanted = [wide, overlay(faded, np.ones((100, 150)))] + [overlay(faded, importance) for importance in maps.values()]
    places = [_find(sheet, panel) for panel in wanted]
    assert all(len(place) == (2 if index in (1, 8) else 1) for index, place in enumerate(places))  # max is layer 6
    rows = [place[0][0] for place in places]
    assert rows[0] == rows[1] < rows[2] == rows[4] < rows[5] == rows[7]
    columns = [place[0][1] for place in places]
    assert columns[0] == columns[2] == columns[5] < columns[1] == columns[3] == columns[6]


def _find(sheet, panel):
    height, width = panel.shape[:2]
    corners = np.argwhere((sheet[: -height + 1, : -width + 1] == panel[0, 0]).all(axis=-1))
    return [(y, x) for y, x in corners.tolist() if (sheet[y : y + height, x : x + width] == panel).all()]


def test_a_contact_sheet_without_maps_is_the_photo():
    assert len(_find(contact_sheet(photo, {}), photo)) == 1


def test_long_and_foreign_captions_stay_in_their_cell():
    narrow = np.zeros((40, 10, 3), np.uint8)
    maps = {"features.denseblock4.denselayer16.relu2 <é" * 9: np.zeros((40, 10)), "中文": np.zeros((40, 10))}
    sheet = contact_sheet(narrow, {"Layers": maps}, columns=3)
    start = plot.MARGIN + 2 * (plot.CELL_PX + plot.GAP)  # the third cell; the long caption is in the second
    assert (sheet[:, start - plot.GAP : start] > 200).all()


def test_a_map_of_another_size_is_named():
    with pytest.raises(ValueError, match=r"max: expected a map of \(20, 30\), got \(7, 7\)"):
        contact_sheet(photo, {"Fusions": {"max": np.zeros((7, 7))}})


def test_a_written_png_reads_back(tmp_path):
    write_png(tmp_path / "new" / "a.png", photo)
    np.testing.assert_array_equal(read_photo(tmp_path / "new" / "a.png"), photo)
