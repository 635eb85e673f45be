"""Maps as files: other people's, to be scored beside ours, and ours, in the form in which benchmarks take them."""

import dataclasses
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from PIL import Image

from mlfem_jax.data.density import read_density
from mlfem_jax.data.releases.mat import load_mat, mat_shapes
from mlfem_jax.files import npz_shapes, open_hdf5, printable, read_datasets, read_npz_array, replacing, walk
from mlfem_jax.gaze import FitRule, fit
from mlfem_jax.photos import open_image

_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm")
_SUFFIXES = (*_PICTURES, ".npy", ".mat")
_ARCHIVES = (".npz", ".h5", ".hdf5")


@dataclasses.dataclass(frozen=True)
class MapFile:
    """One map that has been found, not yet read.

    Attributes:
        name: for messages.
        shape: (height, width) in pixels, from its header.
        read: the values.
    """

    name: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True)
class MapCheck:
    """How the maps of a folder fit the images of a data set; counts come to be printed, names to be looked up.

    Attributes:
        found: ids of the images that have a map of their proportions.
        missing: ids of those that have none.
        extra: names of the maps that are of no image.
        wrong_sized: name, its size and the photograph's, of those of other proportions.
    """

    found: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    wrong_sized: tuple[str, ...]

    def __str__(self) -> str:
        """One line; up to three names of each kind."""
        kinds = {"missing": self.missing, "extra": self.extra, "wrong-sized": self.wrong_sized}
        return ", ".join([f"{len(self.found)} maps", *(_count(kind, names) for kind, names in kinds.items() if names)])


def _count(kind: str, names: tuple[str, ...]) -> str:
    return f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def find_maps(path: str) -> dict[str, MapFile]:
    """The maps of a folder, or of one file, by the id of their image.

    Args:
        path: a folder of pictures (.png, .jpg, ..., gray), .npy and .mat files (one 2-D variable), subfolders with it;
            or an .npz, .h5 or .hdf5 file that holds an array for each image, as pysaliency writes it. A map belongs to
            the image whose id is its name without the suffix, with the subfolders ("Action/001") or without.

    Returns:
        Id to map; for a map in a subfolder both names, but for those that two maps would have.

    Raises:
        FileNotFoundError: there is no such folder or file.
        ValueError: none of its files is a map, two are of one image, or the archive is damaged.
        ModuleNotFoundError: an HDF5 file, without h5py.
    """
    top = Path(path)
    if not top.exists():
        raise FileNotFoundError(f"{top}: expected a folder of maps, or an .npz or HDF5 file, got nothing")
    found = _of_archive(top) if top.is_file() else _of_folder(top)
    if not found:
        raise ValueError(f"{top}: expected maps ({', '.join(_SUFFIXES)}), got none")
    whole: dict[str, MapFile] = {}
    short: dict[str, list[MapFile]] = {}
    for name, file in ((unicodedata.normalize("NFC", name), file) for name, file in found):
        if name in whole:
            raise ValueError(f"{top}: expected one map of {name!r}, got {whole[name].name} and {file.name}")
        whole[name] = file
        short.setdefault(PurePosixPath(name).name, []).append(file)
    return {name: files[0] for name, files in short.items() if len(files) == 1} | whole


def check_maps(files: Mapping[str, MapFile], images: Iterable[tuple[str, tuple[int, int]]]) -> MapCheck:
    """How maps fit the images, from the headers alone.

    Args:
        files: from `find_maps`.
        images: id and (height, width) in pixels of each.
    """
    found, missing, wrong, used = [], [], [], set()
    for image_id, shape in images:
        file = files.get(image_id)
        if file is None:
            missing.append(image_id)
            continue
        used.add(file.name)
        if fits(file.shape, shape):
            found.append(image_id)
        else:
            wrong.append(f"{file.name} is {'x'.join(map(str, file.shape))}, the photograph {'x'.join(map(str, shape))}")
    extra = sorted({file.name for file in files.values()} - used)
    return MapCheck(tuple(found), tuple(missing), tuple(extra), tuple(wrong))


def fits(shape: tuple[int, ...], photo: tuple[int, int]) -> bool:
    """Whether a map has the photograph's proportions, to within a pixel of the map.

    Example:
        >>> fits((300, 400), (600, 800)), fits((300, 300), (600, 800)), fits((5, 9), (600, 800))
        (True, False, False)
    """
    if len(shape) != 2:
        return False
    height, width = shape
    return abs(height * photo[1] / photo[0] - width) <= 1 or abs(width * photo[0] / photo[1] - height) <= 1


def read_map(
    files: Mapping[str, MapFile],
    image_id: str,
    photo: tuple[int, int],
    frame: tuple[int, int],
    *,
    rule: FitRule = "stretch",
) -> Float32[np.ndarray, "H W"]:
    """The map of an image, in the frame that its photograph is resized into.

    Args:
        files: from `find_maps`.
        image_id: of the image.
        photo: (height, width) of the photograph, in pixels.
        frame: (height, width) of the frame, in pixels.
        rule: how the photograph gets there.

    Returns:
        (H, W) float32, bilinear, on the scale that the file has; zero outside the photograph, and all zeros where there
        is no map, or one of other proportions.

    Raises:
        ValueError: naming the file: it does not decode, or holds no finite numbers.
    """
    out = np.zeros(frame, np.float32)
    file = files.get(image_id)
    if file is None or not fits(file.shape, photo):
        return out
    values = np.asarray(file.read(), np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"{file.name}: expected finite numbers, got NaN or infinity")
    y0, x0, y1, x1 = fit(photo, frame, rule=rule)
    out[y0:y1, x0:x1] = np.asarray(Image.fromarray(values).resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR))
    return out


def write_map(folder: str | Path, image_id: str, importance: Float[np.ndarray, "H W"], *, form: str = "png") -> Path:
    """Writes one map as the MIT/Tuebingen benchmark takes it: a file of the photograph's name and size.

    Args:
        folder: that gets it; subfolders as the id has them.
        image_id: of the image.
        importance: (H, W) of the photograph's size, in [0, 1].
        form: "png", gray of 8 bits, 255 for 1 (equal levels become ties); or "npy", float32 as it is.

    Returns:
        The file.

    Raises:
        ValueError: an unknown form, or an id that leads out of the folder.
    """
    if form not in ("png", "npy"):
        raise ValueError(f"form: expected 'png' or 'npy', got {form!r}")
    if PurePosixPath(image_id).is_absolute() or ".." in PurePosixPath(image_id).parts:
        raise ValueError(f"image_id: expected a name in the folder, got {image_id!r}")
    path = Path(folder) / f"{image_id}.{form}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        if form == "npy":
            np.save(file, np.asarray(importance, np.float32))
        else:
            Image.fromarray(np.rint(np.clip(importance, 0, 1) * 255).astype(np.uint8)).save(file, "PNG")
    return path


def _of_folder(top: Path) -> list[tuple[str, MapFile]]:
    files = walk(top, _SUFFIXES).files
    return [(path.relative_to(top).with_suffix("").as_posix(), _map_file(path)) for path in sorted(files)]


def _map_file(path: Path) -> MapFile:
    if path.suffix.lower() == ".npy":
        array = _of_file(path, lambda file: np.lib.format.open_memmap(file, mode="r"))
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{path}: expected an array of numbers, got {array.dtype}")
        return MapFile(str(path), array.shape, lambda: np.lib.format.open_memmap(path, mode="r"))
    if path.suffix.lower() == ".mat":
        name, shape = _mat_variable(path)
        return MapFile(str(path), shape, lambda: load_mat(path, name))
    with open_image(path.read_bytes(), name=str(path)) as image:
        shape = image.size[1], image.size[0]
    return MapFile(str(path), shape, lambda: read_density(path.read_bytes(), str(path)))


def _mat_variable(path: Path) -> tuple[str, tuple[int, ...]]:
    """Name and shape of the one matrix in a MATLAB file."""
    matrices = [(name, shape) for name, shape in mat_shapes(path) if len(shape) == 2]
    if len(matrices) != 1:
        raise ValueError(f"{path}: expected one matrix, the map, got {', '.join(n for n, _ in matrices) or 'none'}")
    return matrices[0]


def _of_archive(path: Path) -> list[tuple[str, MapFile]]:
    if path.suffix.lower() not in _ARCHIVES:
        raise ValueError(f"{path}: expected a folder of maps, or a file {', '.join(_ARCHIVES)}, got another file")
    npz = path.suffix.lower() == ".npz"
    names = _of_file(path, npz_shapes if npz else _hdf5_shapes)
    read = read_npz_array if npz else _read_hdf5

    def reader(name: str) -> Callable[[], np.ndarray]:
        return lambda: np.asarray(_of_file(path, lambda file: read(file, name)), np.float32)

    return [(_without_suffix(name), MapFile(f"{path}:{name}", shape, reader(name))) for name, shape in names.items()]


def _of_file(path: Path, read: Callable[[Path], Any]) -> Any:
    """What `read` finds in a file; ValueError that names it where that is none of arrays."""
    try:
        return read(path)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # h5py and zipfile raise whatever they trip over
        text = " ".join(str(error).split())
        raise ValueError(f"{path}: expected arrays of numbers, got something else ({printable(text, 300)})") from error


def _without_suffix(name: str) -> str:
    pure = PurePosixPath(name)
    return str(pure.with_suffix("")) if pure.suffix.lower() in (*_SUFFIXES, ".gif") else name


def _hdf5_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    with open_hdf5(path) as (_, datasets):
        return {name: dataset.shape for name, dataset in datasets.items() if len(dataset.shape or ()) == 2}


def _read_hdf5(path: Path, name: str) -> np.ndarray:
    with open_hdf5(path) as (_, datasets):
        return read_datasets({name: datasets[name]}, path.stat().st_size)[name]
