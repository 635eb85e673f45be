"""MexCulture142: 284 images of Mexican architecture in three styles."""

import re
import reprlib
from pathlib import Path

import numpy as np

from mlfem_jax.data.releases.files import named, read_text
from mlfem_jax.data.releases.names import by_stem, find_files
from mlfem_jax.data.releases.records import ALL, Dataset, Gaze, Problems, Release, make_gaze, read_example
from mlfem_jax.files import printable

STYLES = ("Prehispanic", "Colonial", "Modern")


def read_mexculture(root: Path, problems: Problems) -> Release:
    """The release below `root`: Images, Density Maps, Fixations.

    The truth is the released density map, `SSS_XXX_YYY_GFDM_N_#.png` for the image `SSS_XXX_YYY_N_#.png`.
    Only an image without one is read from its `..._GazeFix_N_#.txt`. The label is the architectural style.
    """
    images = by_stem(find_files(root / "Images", problems), problems)
    maps = _by_image(root / "Density Maps", "GFDM", ".png", problems)
    texts = _by_image(root / "Fixations", "GazeFix", ".txt", problems)
    gaze = maps.keys() | texts.keys()
    problems.add_all("images without gaze (left out)", images.keys() - gaze)
    problems.add_all("gaze without an image (left out)", gaze - images.keys())
    ids = tuple(image_id for image_id in images if image_id in gaze)
    problems.add_all("images of no known style (no label)", (image_id for image_id in ids if not _style(image_id)))

    def read(image_id: str):
        fixations = None if image_id in maps else read_gaze_text(texts[image_id])
        return read_example(
            image_id,
            images[image_id],
            fixations,
            density=maps.get(image_id),
            labels=_style(image_id),
            problems=problems,
        )

    return Release({ALL: ids}, read, STYLES)


def read_gaze_text(path: Path) -> Gaze:
    """Fixations of one text file, taken as 0-based pixels.

    The release does not document its columns, so only what cannot be misread is accepted: two numeric columns
    (x, y), or a header line that names columns x and y (and duration); between them blanks, commas
    or semicolons.

    Raises:
        ValueError: anything else; names the file, the line and what was found there.
    """
    lines = [re.split(r"[\s,;]+", line.strip(" \t,;")) for line in read_text(path).splitlines() if line.strip()]
    names, first = ["x", "y"], 1
    if lines and not _is_number(lines[0][0]):
        names, first, lines = [name.lower() for name in lines[0]], 2, lines[1:]
    if not {"x", "y"} <= set(names):
        raise ValueError(f"{named(path)}: expected columns named x and y, got {printable(', '.join(names)[:200])}")
    if len(set(names)) < len(names):
        raise ValueError(f"{named(path)}: expected each column once, got {printable(', '.join(names)[:200])}")
    for number, words in enumerate(lines, start=first):
        if len(words) != len(names) or not all(map(_is_number, words)):
            expected = f"{len(names)} numbers ({printable(', '.join(names)[:200])})"
            raise ValueError(f"{named(path)}, row {number}: expected {expected}, got {reprlib.repr(' '.join(words))}")
    table = np.array(lines, float).reshape(-1, len(names))
    durations = table[:, names.index("duration")] if "duration" in names else None
    return make_gaze([(-1, table[:, [names.index("y"), names.index("x")]], durations)])


def _by_image(folder: Path, infix: str, suffix: str, problems: Problems) -> dict[str, Path]:
    """Files of `folder` by the stem of their image, which is their own without the infix."""
    found = by_stem(find_files(folder, problems, {suffix}), problems)
    problems.add_all(f"files without _{infix}_ in their name (left out)", (s for s in found if f"_{infix}_" not in s))
    return {stem.replace(f"_{infix}_", "_"): path for stem, path in found.items() if f"_{infix}_" in stem}


def _style(image_id: str) -> tuple[int, ...]:
    return tuple(i for i, style in enumerate(STYLES) if image_id[:3].lower() == style[:3].lower())


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


MEXCULTURE142 = Dataset(
    name="mexculture142",
    read=read_mexculture,
    layouts=(("Images", "Density Maps"), ("Images", "Fixations")),
    tree="""\
Images/SSS_XXX_YYY_N_#.png
Density Maps/SSS_XXX_YYY_GFDM_N_#.png
Fixations/SSS_XXX_YYY_GazeFix_N_#.txt   (read where an image has no density map)""",
    homepage="https://www.labri.fr/projet/AIV/MexCulture142.php",
    sigma_px=None,
    sigma_source="pixels per degree are not documented; the released maps follow Wooding 2002",
)
