"""Tiny releases of every format: exact coordinates, and each trap of the format."""

import numpy as np
import pytest

from mlfem_jax.data.releases.cat2000 import CAT2000, content_box, read_cat2000
from mlfem_jax.data.releases.crowd import CROWD, face_classes, read_crowd
from mlfem_jax.data.releases.folder import read_folder
from mlfem_jax.data.releases.mexculture import MEXCULTURE142, read_gaze_text, read_mexculture
from mlfem_jax.data.releases.mit1003 import MIT1003, read_mit1003
from mlfem_jax.data.releases.osie import read_osie
from mlfem_jax.data.releases.records import Problems
from mlfem_jax.data.releases.toronto import TORONTO, read_toronto
from tests.data.release_files import cells, tiny_osie, write_image, write_map, write_mat, write_osie_mat, write_pixels


def mask(*points, size=(12, 16)):
    binary = np.zeros(size, np.uint8)
    for y, x in points:
        binary[y, x] = 1
    return binary


def test_osie(tmp_path):
    problems = Problems()
    found = read_osie(tiny_osie(tmp_path) / "data", problems)
    assert found.splits == {"full": ("1001", "1002")}
    first, second = found.read("1001"), found.read("1002")
    np.testing.assert_array_equal(first.fixations, np.float32([[0, 0], [7.25, 3.5], [11, 15], [2, 1]]))
    assert first.observers.tolist() == [0, 0, 1, 2]
    assert first.durations.tolist() == [100, 250, 90, 80]
    assert second.observers.tolist() == [0, 1]
    assert first.image == (tmp_path / "data/stimuli/1001.jpg").read_bytes()
    assert (first.labels, first.clutter, first.density, first.content_box) == ((), -1, b"", (0, 0, 12, 16))
    assert problems.counts == {}


def test_crowd_clutter_is_the_number_of_faces(tmp_path):
    root = tiny_osie(tmp_path) / "data"
    write_mat(root / "labels.mat", labels=cells([{"img": "1002.jpg", "nFaces": 17, "faces": cells([])}]))
    problems = Problems()
    found = read_crowd(CROWD.root(tmp_path), problems)
    assert (found.read("1001").clutter, found.read("1002").clutter) == (-1, 17)
    assert (found.read("1001").labels, found.read("1002").labels, found.class_names) == ((), (0,), ("17 faces",))
    assert problems.first == {"images without clutter labels (clutter -1)": ["1001"]}
    write_mat(root / "labels.mat", labels=cells([{"img": "1002.jpg", "nFaces": [1, 7]}]))
    with pytest.raises(ValueError, match=r"labels\.mat, labels\{1\}, field 'nFaces': expected one whole number"):
        read_crowd(root, problems)


def test_crowd_classes_are_quartiles_of_the_number_of_faces():
    # Sorted 2 2 3 3 3 5 6 6: two images are at most 2, four (five) at most 3, six at most 5.
    counts = dict(zip("hgfedcba", (6, 6, 5, 3, 3, 3, 2, 2), strict=True))
    names, classes = face_classes(counts)
    assert names == ("2 faces", "3 faces", "5 faces", "6 faces")
    assert classes == {"a": 0, "b": 0, "c": 1, "d": 1, "e": 1, "f": 2, "g": 3, "h": 3}
    assert face_classes({"a": 4, "b": 4, "c": 4}) == (("4 faces",), {"a": 0, "b": 0, "c": 0})
    assert face_classes({}) == ((), {})


def test_cat2000(tmp_path):
    train = tmp_path / "trainSet"
    for category, name, seed in (("Action", "001", 1), ("Action", "002", 2), ("Satelite", "001", 3)):
        write_image(train / f"Stimuli/{category}/{name}.jpg", (48, 96), seed=seed)
        locations = mask((0, 0), (47, 95), (5, 7), size=(48, 96))
        write_mat(train / f"FIXATIONLOCS/{category}/{name}.mat", fixLocs=locations)
    padded = np.full((48, 96, 3), 126, np.uint8)
    padded[:, 16:80] = np.random.default_rng(0).integers(0, 256, (48, 64, 3))
    write_pixels(train / "Stimuli/Satelite/001.jpg", padded, quality=90)
    write_image(train / "Stimuli/Action/Output/001_SaliencyMap.jpg")
    write_image(train / "Stimuli/Output/001.jpg")
    write_mat(train / "FIXATIONLOCS/Output/001.mat", fixLocs=mask((0, 0)))
    write_image(tmp_path / "testSet/Stimuli/Action/101.jpg")
    problems = Problems()
    found = read_cat2000(CAT2000.root(tmp_path), problems)
    assert found.splits == {"full": ("Action/001", "Action/002", "Satelite/001")}
    assert found.class_names == ("Action", "Satelite")
    example = found.read("Satelite/001")
    np.testing.assert_array_equal(example.fixations, [[0, 0], [5, 7], [47, 95]])
    assert example.observers.tolist() == [-1, -1, -1]
    assert example.labels == (1,)
    # JPEG's subsampled color bleeds a pixel into the bars.
    np.testing.assert_allclose(example.content_box, (0, 16, 48, 80), atol=1)
    assert found.read("Action/001").content_box == (0, 0, 48, 96)
    assert problems.first == {"test images (left out: truth not released)": ["Action/101"]}


@pytest.mark.parametrize("box", [(8, 0, 40, 96), (0, 16, 48, 64), (3, 5, 41, 90)])
def test_content_box_finds_bars_on_any_side_within_the_tolerance(box):
    rng = np.random.default_rng(0)
    frame = rng.integers(121, 130, (48, 96, 3), np.uint8)
    y0, x0, y1, x1 = box
    frame[y0:y1, x0:x1] = rng.integers(0, 256, (y1 - y0, x1 - x0, 3))
    assert content_box(frame) == box


def test_content_box_of_nothing_but_gray_is_the_whole_frame():
    assert content_box(np.full((4, 6, 3), 125, np.uint8)) == (0, 0, 4, 6)


def test_content_box_keeps_a_dark_and_a_colored_border():
    frame = np.full((4, 6, 3), 125, np.uint8)
    frame[:, 0] = 100
    frame[:, 5, 0] = 140
    assert content_box(frame) == (0, 0, 4, 6)


def test_toronto_n_th_map_belongs_to_image_n(tmp_path):
    for n in (2, 10):
        write_image(tmp_path / f"fixdens/Original Image Set/{n}.jpg", seed=n)
    maps = np.empty((1, 11), object)
    for i in range(11):
        maps[0, i] = mask((i, i + 1))
    write_mat(tmp_path / "fixdens/origfixdata.mat", white=maps)
    problems = Problems()
    found = read_toronto(TORONTO.root(tmp_path), problems)
    assert found.splits == {"full": ("002", "010")}
    np.testing.assert_array_equal(found.read("010").fixations, [[9, 10]])
    assert problems.counts == {"gaze without an image (left out)": 9}
    write_image(tmp_path / "fixdens/Original Image Set/12.jpg")
    problems = Problems()
    assert read_toronto(TORONTO.root(tmp_path), problems).splits == {"full": ("002", "010")}
    assert problems.first["images without gaze (left out)"] == ["012"]


def test_mit1003_points_survive_jpeg(tmp_path):
    points = [(0, 0), (5, 30), (20, 7), (31, 39)]
    write_image(tmp_path / "ALLSTIMULI/i05june.jpeg", (32, 40))
    write_pixels(
        tmp_path / "ALLFIXATIONMAPS/i05june_fixPts.jpg",
        mask(*points, size=(32, 40)) * np.uint8(255),
        quality=75,
    )
    write_map(tmp_path / "ALLFIXATIONMAPS/i05june_fixMap.jpg", (32, 40))
    write_image(tmp_path / "ALLSTIMULI/i2.jpeg", (32, 40))
    released = write_map(tmp_path / "ALLFIXATIONMAPS/i2_fixMap.jpg", (32, 40))
    write_image(tmp_path / "ALLFIXATIONMAPS/stray.jpg", (32, 40))
    problems = Problems()
    found = read_mit1003(MIT1003.root(tmp_path), problems)
    example = found.read("i05june")
    np.testing.assert_array_equal(example.fixations, points)
    assert example.density == b""
    assert found.read("i2").density == released.read_bytes()
    assert problems.first == {"stray files (passed over)": ["stray"]}


def test_mit1003_in_osies_format_clips_what_is_a_pixel_outside(tmp_path):
    write_image(tmp_path / "stimuli/a.jpeg")
    gaze = [([16.9, 0.2, 18.5], [1.0, 12.8, 3.0], [1, 2, 3])]
    write_osie_mat(tmp_path / "eye/fixations.mat", [("a.jpeg", gaze)])
    problems = Problems()
    example = read_mit1003(MIT1003.root(tmp_path), problems).read("a")
    np.testing.assert_array_equal(example.fixations, [[0, 15], [11, 0]])
    assert example.durations.tolist() == [1, 2]
    assert problems.counts == {
        "fixations outside the frame (moved onto its border)": 2,
        "fixations more than a pixel outside the frame (dropped)": 1,
    }


def test_mexculture_takes_the_released_map_and_the_style(tmp_path):
    for name in ("Col_Casa_Azul_1_2", "Mod_Torre_Alta_5_1", "Pre_Uxmal_Sur_9_1"):
        write_image(tmp_path / f"Images/{name}.png")
    released = write_map(tmp_path / "Density Maps/Col_Casa_Azul_GFDM_1_2.png", seed=1)
    texts = tmp_path / "Fixations"
    texts.mkdir()
    (texts / "Col_Casa_Azul_GazeFix_1_2.txt").write_text("not read, for there is a map")
    (texts / "Mod_Torre_Alta_GazeFix_5_1.txt").write_text("3 4\n5.5 6\n")
    problems = Problems()
    found = read_mexculture(MEXCULTURE142.root(tmp_path), problems)
    assert found.class_names == ("Prehispanic", "Colonial", "Modern")
    colonial, modern = found.read("Col_Casa_Azul_1_2"), found.read("Mod_Torre_Alta_5_1")
    assert (colonial.density, colonial.labels) == (released.read_bytes(), (1,))
    np.testing.assert_array_equal(modern.fixations, [[4, 3], [6, 5.5]])
    assert (modern.density, modern.labels) == (b"", (2,))
    assert problems.first == {"images without gaze (left out)": ["Pre_Uxmal_Sur_9_1"]}


def test_mexculture_text_with_a_header(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("Duration;Y;X\r\n120;4;3\r\n80;6;5\r\n")
    gaze = read_gaze_text(path)
    np.testing.assert_array_equal(gaze.fixations, [[4, 3], [6, 5]])
    assert gaze.durations.tolist() == [120, 80]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3\n", r"a\.txt, row 1: expected 2 numbers \(x, y\), got '1 2 3'"),
        ("1 2\n3 four\n", r"a\.txt, row 2: expected 2 numbers"),
        ("time gaze\n1 2\n", r"a\.txt: expected columns named x and y, got time, gaze"),
    ],
)
def test_mexculture_text_that_could_be_misread_is_an_error(tmp_path, text, message):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_gaze_text(tmp_path / "a.txt")


def test_folder_with_a_table(tmp_path):
    write_image(tmp_path / "images/b.v2.png", seed=1)
    write_image(tmp_path / "images/a.jpg", seed=2)
    write_image(tmp_path / "images/c.jpg", seed=3)
    released = write_map(tmp_path / "maps/c.png", seed=4)
    (tmp_path / "fixations.csv").write_text(
        "\ufeffimage,observer,x,y,duration\na.jpg,zoe,3,4,100\na,amy,15,11,\nb.v2.png,zoe,0,0.5,7\n"
        "b.v2,amy,1,2,8\ngone.jpg,amy,1,1,\n"
    )
    (tmp_path / "labels.csv").write_text("image,label,clutter\na.jpg,dog,4\na.jpg,cat,4\nc,cat,\n")
    problems = Problems()
    found = read_folder(tmp_path, problems)
    assert found.splits == {"full": ("a", "b.v2", "c")}
    assert found.class_names == ("cat", "dog")
    a, b, c = (found.read(image_id) for image_id in found.splits["full"])
    np.testing.assert_array_equal(a.fixations, [[4, 3], [11, 15]])
    assert a.observers.tolist() == [1, 0]
    np.testing.assert_array_equal(a.durations, [100, np.nan])
    assert (a.labels, a.clutter) == ((0, 1), 4)
    np.testing.assert_array_equal(b.fixations, [[0.5, 0], [2, 1]])
    assert (c.density, c.labels, c.clutter) == (released.read_bytes(), (0,), -1)
    assert problems.first == {"gaze without an image (left out)": ["gone"]}
