"""Which file a name means: files by their id, and the images that the names in a release's tables stand for.

Composed and decomposed spellings of a letter (NFC, NFD) are one spelling.
"""

import unicodedata
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from mlfem_jax.data.releases.files import named
from mlfem_jax.data.releases.records import Problems
from mlfem_jax.files import walk
from mlfem_jax.photos import PHOTO_SUFFIXES


def find_files(
    folder: Path,
    problems: Problems,
    suffixes: Collection[str] = PHOTO_SUFFIXES,
    *,
    deep: bool = False,
    without: Collection[Path] = (),
) -> tuple[Path, ...]:
    """The files of a folder by suffix, sorted; none where there is no such folder.

    Args:
        folder: of images, or of what else `suffixes` says.
        problems: where everything that is left out is counted.
        suffixes: in lower case.
        deep: whether to read subfolders.
        without: subfolders to pass over without counting them.
    """
    if not folder.exists():
        return ()
    found = walk(folder, suffixes, deep=deep, without=without)
    for kind, paths in found.left_out.items():
        problems.add_all(kind, (path.relative_to(folder.parent).as_posix() for path in paths))
    return found.files


def by_stem(paths: Iterable[Path], problems: Problems) -> dict[str, Path]:
    """The files by their name without its suffix.

    Raises:
        ValueError: two files have the same stem, so one id would stand for two images.
    """
    return _by_id(((path.stem, path) for path in paths), problems)


def by_path(paths: Iterable[Path], folder: Path, problems: Problems) -> dict[str, Path]:
    """The files by their path below `folder` without its suffix: "day1/p0".

    Raises:
        ValueError: two files differ in nothing but their suffix.
    """
    return _by_id(((_bare(PurePosixPath(path.relative_to(folder))), path) for path in paths), problems)


def without_suffix(name: str, suffixes: Collection[str] = PHOTO_SUFFIXES) -> str:
    """A name in a table without the suffix of an image; a dot may have another meaning, as in `scene1.5`.

    Example:
        >>> [without_suffix(name) for name in ("scene1.5.png", "scene1.5", "day1/p0.PNG")]
        ['scene1.5', 'scene1.5', 'day1/p0']
    """
    path = PurePosixPath(name)
    return _bare(path) if path.suffix.lower() in suffixes else name


def _bare(path: PurePosixPath) -> str:
    """Without the suffix, which may be `.nii.gz`."""
    bare = path.with_suffix("")
    return str(bare.with_suffix("") if (path.suffix + bare.suffix).lower() == ".gz.nii" else bare)


def match_names(
    names: Iterable[str],
    images: Mapping[str, Path],
    folder: Path,
    table: Path,
    suffixes: Collection[str] = PHOTO_SUFFIXES,
) -> dict[str, str]:
    """The id of the image that each name stands for; a name that stands for none is not in it.

    A name stands for the image of that path below `folder` (or below the folder that holds it), with or without its
    suffix. Where no path fits, a name without a folder stands for the image of that name in whatever subfolder, and
    where there is none, for the image whose name differs in its suffix.

    Args:
        names: as a table spells them.
        images: id to file.
        folder: that the images lie in.
        table: what errors name.
        suffixes: that names may have, in lower case.

    Raises:
        ValueError: a name fits several images, or two files' names fit one.

    Example:
        >>> images = {"day1/p0": Path("images/day1/p0.png"), "scene1": Path("images/scene1.png")}
        >>> match_names(["scene1.5", "p0.jpg", "day2/p0.png", "scene1"], images, Path("images"), Path("table.csv"))
        {'p0.jpg': 'day1/p0', 'scene1': 'scene1'}
    """
    steps = _steps(images, folder)
    matched: dict[str, str] = {}
    files: dict[str, tuple[str, str]] = {}
    for name in names:
        spelled = unicodedata.normalize("NFC", name.strip()).replace("\\", "/")
        found = _candidates(spelled, steps, suffixes)
        if len(found) > 1:
            raise ValueError(
                f"{named(table)}: expected the name of one image, got {name!r}, which could be any of "
                f"{', '.join(found)}; give its folder and suffix"
            )
        if not found:
            continue
        (matched[name],) = found
        if without_suffix(spelled, suffixes) != spelled:
            file, first = files.setdefault(found[0], (str(PurePosixPath(spelled)), name))
            if PurePosixPath(file).name != PurePosixPath(spelled).name:
                raise ValueError(
                    f"{named(table)}: expected one name of {images[found[0]].name}, got {first!r} and {name!r}, which "
                    "are two images"
                )
    return matched


def _steps(images: Mapping[str, Path], folder: Path) -> list[dict[str, list[str]]]:
    """For each way that a name can fit, from the first tried to the last: name to ids."""
    steps: list[dict[str, list[str]]] = [{}, {}, {}, {}]
    for image_id, path in images.items():
        below = PurePosixPath(unicodedata.normalize("NFC", path.relative_to(folder).as_posix()))
        bare = PurePosixPath(_bare(below))
        whole, without = ([str(name), f"{folder.name}/{name}"] for name in (below, bare))
        fits = (whole, [image_id, *without], [below.name], [bare.name])
        for step, names in zip(steps, fits, strict=True):
            for name in dict.fromkeys(names):
                step.setdefault(name, []).append(image_id)
    return steps


def _candidates(name: str, steps: list[dict[str, list[str]]], suffixes: Collection[str]) -> list[str]:
    path = str(PurePosixPath(name))  # "./a" is "a"
    bare = without_suffix(path, suffixes)
    tried = [(path, steps[0]), (path, steps[1]), (bare, steps[1])]
    if "/" not in path:
        tried += [(path, steps[2]), (path, steps[3]), (bare, steps[3])]
    return next((step[name] for name, step in tried if name in step), [])


def _by_id(files: Iterable[tuple[str, Path]], problems: Problems) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for image_id, path in sorted(files, key=lambda file: file[1]):
        image_id = unicodedata.normalize("NFC", image_id)
        if image_id.encode(errors="replace") != image_id.encode(errors="surrogatepass"):
            problems.add("files whose names are not UTF-8 (left out)", str(path))
        elif image_id in found:
            raise ValueError(f"id {image_id!r}: expected one file, got {named(found[image_id])} and {named(path)}")
        else:
            found[image_id] = path
    return found
