"""MIT1003 in both forms that circulate: its own, and one in OSIE's format."""

from pathlib import Path

from mlfem_jax.data.releases.files import named
from mlfem_jax.data.releases.names import by_stem, find_files
from mlfem_jax.data.releases.osie import read_fixations_mat
from mlfem_jax.data.releases.records import ALL, Dataset, Problems, Release, gaze_from_points, read_example
from mlfem_jax.photos import read_photo


def read_mit1003(root: Path, problems: Problems) -> Release:
    """The release below `root`: ALLSTIMULI and ALLFIXATIONMAPS, or stimuli and eye/fixations.mat.

    In the first form fixations are the bright pixels of <stem>_fixPts.jpg (half of 255 or more: JPEG blurs
    them), with observers unknown; where there is only <stem>_fixMap.jpg, that map is the truth.
    """
    if (root / "eye").is_dir():
        return read_fixations_mat(root / "stimuli", root / "eye" / "fixations.mat", problems)
    images = by_stem(find_files(root / "ALLSTIMULI", problems), problems)
    found = by_stem(find_files(root / "ALLFIXATIONMAPS", problems), problems)
    points = {stem.removesuffix("_fixPts"): path for stem, path in found.items() if stem.endswith("_fixPts")}
    maps = {stem.removesuffix("_fixMap"): path for stem, path in found.items() if stem.endswith("_fixMap")}
    gaze = points.keys() | maps.keys()
    problems.add_all("images without gaze (left out)", images.keys() - gaze)
    problems.add_all("gaze without an image (left out)", gaze - images.keys())
    problems.add_all("stray files (passed over)", (s for s in found if not s.endswith(("_fixPts", "_fixMap"))))

    def read(image_id: str):
        if image_id not in points:
            return read_example(image_id, images[image_id], density=maps[image_id], problems=problems)
        mask = (
            read_photo(points[image_id].read_bytes(), upright=False, name=named(points[image_id])).max(axis=-1) >= 128
        )
        frame = (mask.shape[0], mask.shape[1])
        density = maps.get(image_id)
        return read_example(
            image_id, images[image_id], gaze_from_points(mask), frame=frame, density=density, problems=problems
        )

    return Release({ALL: tuple(image_id for image_id in images if image_id in gaze)}, read)


MIT1003 = Dataset(
    name="mit1003",
    read=read_mit1003,
    layouts=(("ALLSTIMULI", "ALLFIXATIONMAPS"), ("stimuli", "eye/fixations.mat")),
    subfolders=(".", "data"),
    tree="""\
ALLSTIMULI/<stem>.jpeg
ALLFIXATIONMAPS/<stem>_fixPts.jpg, <stem>_fixMap.jpg
or
stimuli/*.jpeg
eye/fixations.mat""",
    homepage="https://people.csail.mit.edu/tjudd/WherePeopleLook/",
    sigma_px=35.0,
    sigma_source="one degree: a 19-inch screen of 1280x1024 seen from 61 cm (Judd et al. 2009), the benchmark's 35 px",
)
