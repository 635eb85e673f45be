"""Damage is an error that names file and record; absence and single fixations are counted."""

import numpy as np
import pytest
from PIL import Image

from mlfem_jax.data.releases.folder import read_folder
from mlfem_jax.data.releases.osie import OSIE, read_osie
from mlfem_jax.data.releases.records import Problems
from mlfem_jax.data.releases.registry import DATASETS, find_dataset
from mlfem_jax.data.releases.toronto import read_toronto
from tests.data.release_files import cells, tiny_osie, write_image, write_map, write_mat, write_osie_mat

SUBJECT = ([2.0], [3.0], [100])


def osie_with(tmp_path, records):
    root = tiny_osie(tmp_path) / "data"
    write_osie_mat(root / "eye/fixations.mat", records)
    return root


def test_a_missing_folder_is_named_with_the_expected_tree(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: expected a folder, got none(.|\n)*stimuli/\*\.jpg\n  eye"):
        OSIE.root(tmp_path / "nowhere")


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=lambda dataset: dataset.name)
def test_an_empty_folder_says_what_was_looked_for(tmp_path, dataset):
    with pytest.raises(FileNotFoundError) as error:
        dataset.root(tmp_path)
    assert all(path in str(error.value) for layout in dataset.layouts for path in layout)
    assert dataset.tree in str(error.value)


def test_a_missing_file_is_named_in_the_folder_that_nearly_fits(tmp_path):
    (tiny_osie(tmp_path) / "data/eye/fixations.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected .*, got .*/data without eye/fixations\.mat\."):
        OSIE.root(tmp_path)


def test_both_the_folder_and_the_one_that_holds_data_are_roots(tmp_path):
    root = tiny_osie(tmp_path) / "data"
    for source in (tmp_path, root):
        assert OSIE.root(source).samefile(root)


def test_an_unknown_data_set_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"data set: expected one of cat2000, .* salicon/2015, .* got 'salicon'"):
        find_dataset("salicon")


@pytest.mark.parametrize("kept", [0.0, 0.2, 0.9, 0.999])
def test_a_truncated_mat_is_named(tmp_path, kept):
    root = tiny_osie(tmp_path) / "data"
    mat = root / "eye/fixations.mat"
    mat.write_bytes(mat.read_bytes()[: int(kept * mat.stat().st_size)])
    with pytest.raises(ValueError, match=r"eye/fixations\.mat: expected (a whole MATLAB file, got|the variable)"):
        read_osie(root, Problems())


def test_a_mat_with_another_variable_is_named(tmp_path):
    root = tiny_osie(tmp_path) / "data"
    write_mat(root / "eye/fixations.mat", gaze=np.ones(3), other=np.ones(2))
    with pytest.raises(ValueError, match=r"fixations\.mat: expected the variable 'fixations', got gaze, other"):
        read_osie(root, Problems())


def test_a_mat_of_version_7_3_says_how_to_save_it(tmp_path):
    import h5py

    root = tiny_osie(tmp_path) / "data"
    with h5py.File(root / "eye/fixations.mat", "w", userblock_size=512) as file:
        file["fixations"] = np.ones(3)
    header = b"MATLAB 7.3 MAT-file".ljust(124) + bytes([0, 2]) + b"IM"
    with (root / "eye/fixations.mat").open("r+b") as file:
        file.write(header)
    with pytest.raises(
        ValueError, match=r"fixations\.mat: expected .*, got a MATLAB 7\.3 file; save it again with -v7"
    ):
        read_osie(root, Problems())


def test_a_missing_field_names_the_record(tmp_path):
    root = tiny_osie(tmp_path) / "data"
    write_mat(root / "eye/fixations.mat", fixations=cells([{"img": "1001.jpg"}]))
    with pytest.raises(ValueError, match=r"fixations\.mat, image 1001: expected the field 'subjects', got img"):
        read_osie(root, Problems()).read("1001")


def test_lists_of_unequal_length_name_image_and_subject(tmp_path):
    root = osie_with(tmp_path, [("1001.jpg", [SUBJECT, ([1, 2], [1, 2], [9])])])
    with pytest.raises(ValueError, match=r"1001, subject 2: expected as many .*, got 2 fix_x, 2 fix_y, 1 fix_duration"):
        read_osie(root, Problems()).read("1001")


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_an_image_that_does_not_decode_is_named(tmp_path, kept, suffix):
    root = tmp_path / "data"
    image = write_image(root / f"stimuli/1001{suffix}", (64, 64))
    write_osie_mat(root / "eye/fixations.mat", [("1001.jpg", [SUBJECT])])
    image.write_bytes(image.read_bytes()[: int(kept * image.stat().st_size)])
    with pytest.raises(ValueError, match=rf"stimuli/1001{suffix}: expected an image"):
        read_osie(root, Problems()).read("1001")


def test_images_without_gaze_and_gaze_without_an_image_are_counted(tmp_path):
    root = osie_with(tmp_path, [("1002.jpg", [SUBJECT]), ("9.jpg", [SUBJECT]), ("8.jpg", [SUBJECT])])
    problems = Problems()
    assert read_osie(root, problems).splits == {"full": ("1002",)}
    assert problems.counts == {"images without gaze (left out)": 1, "gaze without an image (left out)": 2}
    assert problems.first["gaze without an image (left out)"] == ["8", "9"]


def test_an_image_that_nobody_fixated_is_left_out_and_counted(tmp_path):
    root = osie_with(tmp_path, [("1001.jpg", [([], [], [])]), ("1002.jpg", [([np.nan], [1.0], [5])])])
    problems = Problems()
    found = read_osie(root, problems)
    assert found.read("1001") is None
    assert found.read("1002") is None
    assert problems.counts["images without gaze (left out)"] == 2


def test_single_fixations_are_moved_or_dropped_and_counted(tmp_path):
    x = [0.5, 17.0, 18.0, np.nan, np.inf, 3.0]
    y = [1.0, 12.0, 1.0, 2.0, 2.0, 4.0]
    root = osie_with(tmp_path, [("1001.jpg", [(x, y, [1, 2, 3, 4, 5, 6])])])
    problems = Problems()
    example = read_osie(root, problems).read("1001")
    np.testing.assert_array_equal(example.fixations, [[0, 0], [11, 15], [3, 2]])
    assert example.durations.tolist() == [1, 2, 6]
    assert problems.counts == {
        "images without gaze (left out)": 1,  # 1002
        "fixations with a NaN coordinate (dropped)": 2,
        "fixations outside the frame (moved onto its border)": 2,
        "fixations more than a pixel outside the frame (dropped)": 1,
    }


def test_duplicate_records_and_duplicate_images_are_errors(tmp_path):
    root = osie_with(tmp_path, [("1001.jpg", [SUBJECT]), ("1001.jpg", [SUBJECT])])
    with pytest.raises(ValueError, match=r"fixations\.mat, fixations\{2\}: expected each id once, got '1001' again"):
        read_osie(root, Problems())
    write_image(root / "stimuli/1001.png")
    with pytest.raises(ValueError, match=r"id '1001': expected one file, got .*1001\.jpg and .*1001\.png"):
        read_osie(root, Problems())


def test_a_map_of_another_frame_is_an_error(tmp_path):
    write_image(tmp_path / "Original Image Set/1.jpg")
    maps = np.empty((1, 1), object)
    maps[0, 0] = np.ones((16, 12), np.uint8)
    write_mat(tmp_path / "origfixdata.mat", white=maps)
    with pytest.raises(ValueError, match=r"1\.jpg: expected \(16, 12\) .* gaze of 001, got \(12, 16\)"):
        read_toronto(tmp_path, Problems()).read("001")
    write_image(tmp_path / "Original Image Set/face.jpg")
    with pytest.raises(ValueError, match=r"face\.jpg: expected a number"):
        read_toronto(tmp_path, Problems())


def test_a_released_map_of_another_size_is_kept_and_counted(tmp_path):
    write_image(tmp_path / "images/a.jpg")
    write_map(tmp_path / "maps/a.png", (6, 8))
    problems = Problems()
    read_folder(tmp_path, problems).read("a")
    assert problems.first == {"density maps of another size than their image (kept)": ["a"]}


def test_an_image_that_viewers_would_rotate_is_counted(tmp_path):
    path = write_image(tmp_path / "images/a.jpg")
    exif = Image.Exif()
    exif[274] = 6  # orientation: rotate by 90 degrees
    Image.open(path).save(path, exif=exif)
    (tmp_path / "fixations.csv").write_text("image,observer,x,y\na,1,15,11\n")
    problems = Problems()
    assert read_folder(tmp_path, problems).read("a").size == (12, 16)
    assert problems.first == {"images with an EXIF orientation (read as stored, not rotated)": ["a"]}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("image,x,y\na,1,2\n", r"fixations\.csv: expected the columns .*, got image, x, y; no \['observer'\]"),
        ("", r"fixations\.csv: expected the columns .*, got nothing"),
        ("image,observer,x,y\na,1,2,3\na,1,left,3\n", r"fixations\.csv, line 3: .*'left'"),
        ("image,observer,x,y\na,1,2\n", r"fixations\.csv, line 2: "),
        ("image,observer,x,y\na,1,2,3,4\n", r"fixations\.csv, line 2: "),
        ("image,observer,x,y\n\u00e9,1,2,3\n".encode("latin-1"), r"fixations\.csv: expected UTF-8"),
    ],
)
def test_a_damaged_table_names_the_line(tmp_path, table, message):
    write_image(tmp_path / "images/a.jpg")
    (tmp_path / "fixations.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    with pytest.raises(ValueError, match=message):
        read_folder(tmp_path, Problems())


def test_a_table_with_nan_coordinates_drops_and_counts_them(tmp_path):
    write_image(tmp_path / "images/a.jpg")
    (tmp_path / "fixations.csv").write_text("image,observer,x,y\na,1,nan,2\na,1,4,5\n")
    problems = Problems()
    example = read_folder(tmp_path, problems).read("a")
    np.testing.assert_array_equal(example.fixations, [[5, 4]])
    assert problems.counts == {"fixations with a NaN coordinate (dropped)": 1}


def test_only_the_first_five_records_of_a_kind_are_kept_by_name():
    problems = Problems()
    problems.add_all("kind", (f"{i:02d}" for i in range(9)))
    problems.add("kind", "many", 4)
    assert problems.counts == {"kind": 13}
    assert problems.first == {"kind": ["00", "01", "02", "03", "04"]}
