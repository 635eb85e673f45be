"""Toronto (Bruce and Tsotsos): 120 images of 681x511."""

from pathlib import Path

from mlfem_jax.data.releases.files import mask, named
from mlfem_jax.data.releases.mat import load_mat
from mlfem_jax.data.releases.names import by_stem, find_files
from mlfem_jax.data.releases.records import ALL, Dataset, Problems, Release, gaze_from_points, read_example


def read_toronto(root: Path, problems: Problems) -> Release:
    """The release below `root`: Original Image Set/N.jpg, and the N-th binary map of origfixdata.mat.

    Observers and durations are unknown. Ids are the numbers, padded so that they sort: "007".

    Raises:
        ValueError: an image whose name is no number, or damage in the MATLAB file.
    """
    mat = root / "origfixdata.mat"
    maps = load_mat(mat, "white").ravel()
    if maps.dtype != object:
        raise ValueError(f"{named(mat)}: expected `white` to be a cell array of maps, got {maps.dtype}")
    images: dict[int, Path] = {}
    for stem, path in by_stem(find_files(root / "Original Image Set", problems), problems).items():
        if not (stem.isascii() and stem.isdecimal() and len(stem) < 10):
            raise ValueError(
                f"{named(path)}: expected a number as the name, the index of its map in {mat.name}, got another"
            )
        if int(stem) in images:
            raise ValueError(
                f"id {int(stem):03d}: expected one image, got {named(images[int(stem)])} and {named(path)}"
            )
        images[int(stem)] = path
    numbers = range(1, len(maps) + 1)
    problems.add_all("images without gaze (left out)", (f"{n:03d}" for n in images if n not in numbers))
    problems.add_all("gaze without an image (left out)", (f"{n:03d}" for n in numbers if n not in images))

    def read(image_id: str):
        points = mask(maps[int(image_id) - 1], f"{named(mat)}, white{{{int(image_id)}}}")
        frame = (int(points.shape[0]), int(points.shape[1]))
        return read_example(image_id, images[int(image_id)], gaze_from_points(points), frame=frame, problems=problems)

    return Release({ALL: tuple(f"{n:03d}" for n in sorted(images) if n in numbers)}, read)


TORONTO = Dataset(
    name="toronto",
    read=read_toronto,
    layouts=(("Original Image Set", "origfixdata.mat"),),
    subfolders=("fixdens", "."),
    tree="""\
fixdens/
  Original Image Set/N.jpg
  origfixdata.mat""",
    homepage="http://www-sop.inria.fr/members/Neil.Bruce/",
    sigma_px=23.0,
    sigma_source="not documented; chosen as one degree if 681 px fill a screen 0.40 m wide seen from 0.75 m",
)
