import numpy as np
import pytest
from PIL import Image

from tests.data.gaze_records import encode, make_record

matplotlib = pytest.importorskip("matplotlib", reason="needs Matplotlib")

from mlfem_jax.data.prepared import draw as preview  # noqa: E402


class Prepared(list):
    """Stands for a TFDS data source."""

    class dataset_info:
        metadata = {"sigma_px": 2.0}  # noqa: RUF012


@pytest.fixture
def prepared(monkeypatch):
    opened = []

    def open_dataset(directory, split):
        opened.append((str(directory), split))
        return Prepared(make_record(i, shape=(30, 40), fixations=i + 1) for i in range(5))

    monkeypatch.setattr(preview, "open_dataset", open_dataset)
    return opened


def test_sheet_shows_every_record_where_people_looked():
    # One fixation on the lower left of a black photograph.
    record = make_record(0, shape=(30, 40), fixations=1)
    record["fixations"] = np.array([[25, 5]], np.float32)
    figure = preview.draw_sheet([record, record, record], sigma_px=2.0, columns=2)
    assert len(figure.axes) == 4
    photo, overlay = figure.axes[0].images
    assert photo.get_array().shape == (30, 40, 3)
    strength = np.asarray(overlay.get_array())
    assert np.unravel_index(strength.argmax(), strength.shape) == (25, 5)
    assert strength[25, 5] == 1 and strength[5, 35] < 1e-6
    assert figure.axes[0].collections[0].get_offsets().tolist() == [[5, 25]]
    assert figure.axes[0].get_title() == "image0: 1 fixations, 1 observers"
    assert not figure.axes[3].images


def test_sheet_falls_back_to_the_released_density():
    density = np.zeros((30, 40), np.uint8)
    density[10, 20] = 255
    record = make_record(0, shape=(30, 40), fixations=0, density=encode(density))
    overlay = preview.draw_sheet([record], sigma_px=None).axes[0].images[1].get_array()
    assert np.unravel_index(np.argmax(overlay), overlay.shape) == (10, 20)


def test_sheet_of_fixations_needs_a_sigma():
    with pytest.raises(ValueError, match="sigma_px: expected one, got none; record 'image0' has fixations"):
        preview.draw_sheet([make_record(0)], sigma_px=None)


def test_preview_writes_the_picture(prepared, tmp_path):
    out = tmp_path / "new" / "sheet.png"
    assert preview.preview("osie", out=out, data_dir=tmp_path, count=3, columns=2) == out
    assert prepared == [(str(tmp_path / "osie"), None)]
    assert sorted(path.name for path in out.parent.iterdir()) == [".mlfem.jsonl", "sheet.png"]  # and whose it is
    with Image.open(out) as sheet:
        assert sheet.size == (800, 660)


def test_preview_of_nothing_is_refused(prepared, tmp_path):
    with pytest.raises(ValueError, match="count, columns: expected numbers above 0, got 0 and 4"):
        preview.preview("osie", out=tmp_path / "a.png", count=0)
