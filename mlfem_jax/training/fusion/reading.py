"""What a fusion network is trained on: what a frozen network shows of the images of a data set, with their fixations.

Two ways to the same numbers (to the rounding of float16): computed once and kept in a folder, or from the photographs
at every step.
"""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Int, UInt8

from mlfem_jax.backbones import Backbone
from mlfem_jax.data import ExampleFormat, RecordingFormat, Source, make_example, read_batches
from mlfem_jax.engine import BatchSize, Program, images_in_batch, run_batches
from mlfem_jax.files import keep_record, replacing
from mlfem_jax.fusion import MapRecipe
from mlfem_jax.gaze import fit, move_fixations, scale_sigma
from mlfem_jax.parallel import chosen_devices, is_first, replicate

Example = dict[str, Any]

_MAPS = 3  # to be raised when a recipe reads other maps, so that none of an older version is read


@dataclasses.dataclass(frozen=True)
class Kept:
    """What is kept of each image of a data set, in a file.

    Attributes:
        rows: (N, bytes) of each image, read from the file as they are needed.
        leaves: shape and dtype of what the bytes of an image hold, one after the other.
        structure: the pytree of these.
    """

    rows: UInt8[np.ndarray, "N B"]
    leaves: tuple[jax.ShapeDtypeStruct, ...]
    structure: Any

    def __len__(self) -> int:
        """Number of images."""
        return len(self.rows)

    def __getitem__(self, place: int) -> Any:
        """The pytree of one image.

        Raises:
            IndexError: there are not so many.
        """
        row, start, arrays = np.asarray(self.rows[place]), 0, []
        for leaf in self.leaves:
            end = start + int(np.prod(leaf.shape)) * leaf.dtype.itemsize
            arrays.append(row[start:end].view(leaf.dtype).reshape(leaf.shape))
            start = end
        return jax.tree.unflatten(self.structure, arrays)


def cached_maps(
    backbone: Backbone,
    source: Source,
    example_format: ExampleFormat | RecordingFormat,
    recipe: MapRecipe,
    folder: str | Path,
    *,
    positions: Int[np.ndarray, " part"] | None = None,
    batch_size: BatchSize = 16,
    on_batch: Callable[[int], None] = lambda images: None,
) -> Kept:
    """What a recipe reads of the images of a data set, from a file that is written where it is not there yet.

    The disk cost of a `MapRecipe` is 2 bytes x maps x (H / shrink) x (W / shrink) for an image: 17 layers x 9 values of
    k at shrink 8 of 224x224 are 240 kB, one k at full size 1.7 MB. That of a `MaskRecipe` is a bit for each position,
    channel and k of its layers: 570 kB for seven layers of EfficientNet-Lite0 and two k at 384x512. Of several
    processes, the first writes; all must see the folder.

    Args:
        backbone: the frozen network.
        source: records.
        example_format: the frame that the photographs are resized into.
        recipe: what is read.
        folder: where files are kept, one for each backbone (its weights included), recipe and data set.
        positions: of the images. Default: all.
        batch_size: images in a forward pass, over all devices of this process; "auto" is what fits their memory.
        on_batch: told how many images each batch had.

    Returns:
        What is kept of each, in the order of `positions`: importance maps (C, h, w) in float16, or the packed strong
        positions (K, h, w, B) of each layer.

    Raises:
        ValueError: a batch size below 1.
        MemoryError: the memory of a device does not suffice for a batch.
    """
    positions = np.arange(len(source)) if positions is None else positions
    path = Path(folder) / f"maps_{_fingerprint(backbone, source, example_format, recipe, positions)}.npy"
    leaves, structure = jax.tree.flatten(_kept_of_one(backbone, _one_image(example_format), recipe))
    length = sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)
    if is_first() and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        keep_record(path.parent)  # whose files these are, for `prepare`
        with replacing(path) as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(positions), length)}
            np.lib.format.write_array_header_1_0(file, header)
            for mask, kept in _kept_batches(backbone, source, example_format, recipe, positions, batch_size):
                rows = [_bytes(leaf, like)[: len(mask)] for leaf, like in zip(kept, leaves, strict=True)]
                file.write(np.concatenate(rows, axis=1)[mask].tobytes())
                on_batch(int(mask.sum()))
    while not path.exists():
        time.sleep(1)  # the first process writes it; should that die, JAX ends this one
    return Kept(np.load(path, mmap_mode="r"), tuple(leaves), structure)


def _one_image(example_format: ExampleFormat | RecordingFormat) -> jax.ShapeDtypeStruct:
    """Shape and dtype of a batch of one."""
    if isinstance(example_format, RecordingFormat):
        return jax.ShapeDtypeStruct((1, *example_format.shape), example_format.dtype)
    return jax.ShapeDtypeStruct((1, *example_format.shape, 3), np.uint8)


def _kept_of_one(backbone: Backbone, images: jax.ShapeDtypeStruct, recipe: MapRecipe) -> Any:
    """Shapes and dtypes of what is kept of one image: floats are kept as float16."""
    found = jax.eval_shape(recipe.read, backbone, images)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], np.dtype("<f2" if leaf.dtype == np.float32 else leaf.dtype)),
        found,
    )


def _bytes(leaf: Any, like: jax.ShapeDtypeStruct) -> UInt8[np.ndarray, "N B"]:
    whole = np.ascontiguousarray(np.asarray(leaf), like.dtype)
    return whole.reshape(len(whole), -1).view(np.uint8)


def _kept_batches(
    backbone: Backbone,
    source: Source,
    example_format: ExampleFormat | RecordingFormat,
    recipe: MapRecipe,
    positions: Int[np.ndarray, " part"],
    batch_size: BatchSize,
) -> Iterator[tuple[Bool[np.ndarray, " N"], list[jax.Array]]]:
    """(which images are real, what is kept of them, padded to what the devices divide) of batch after batch."""
    devices = chosen_devices(None)
    program = Program(_read, replicate(backbone, devices), recipe, devices)
    example = _one_image(example_format)
    size = images_in_batch(program, example, batch_size, most=len(positions))
    one = {"process_index": 0, "process_count": 1}
    batches = read_batches(source, example_format, batch_size=size, positions=positions, **one)
    return run_batches(program, ((batch.mask, batch.images) for batch in batches))


def _read(backbone: Backbone, images: Any, recipe: MapRecipe) -> list[jax.Array]:
    return jax.tree.leaves(recipe.read(backbone, images))


def recording_maps(
    record: Any, maps: Any, example_format: RecordingFormat, sigma_px: tuple[float, ...], *, photograph: bool = False
) -> Example:
    """`map_example` of a recording: what is asked for and given is the same, along its own axes, in its samples."""
    example = make_example(record, example_format)
    given = {} if maps is None else {"maps": jax.tree.map(_as_float32, maps)}
    if maps is None or photograph:
        given["images"] = example["images"]
    return given | {
        "frame": np.zeros((*example_format.shape[:-1], 0), np.uint8),
        "fixations": example["fixations"],
        "fixation_mask": example["fixation_mask"],
        "sigma_px": np.array(sigma_px, np.float32),
    }


def map_example(
    record: Any, maps: Any, example_format: ExampleFormat, sigma_px: float, *, photograph: bool = False
) -> Example:
    """One example of the fusion's training: maps, or the photograph where there are none, and fixations.

    Args:
        record: of a prepared data set.
        maps: of the image, from `cached_maps`; None leaves it to the training step to compute them from `images`.
        example_format: the frame.
        sigma_px: of the GFDM, in pixels of the photograph.
        photograph: give the photograph beside the maps too.

    Returns:
        `maps` (float16 as float32) or `images`, or both; `frame`, no bytes, whose shape is (H, W, 0); `fixations`
        (n, 2) and `fixation_mask` (n,), padded; `sigma_px` (2,) along (y, x). Both are in pixels of the frame.
    """
    shape = int(record["size"][0]), int(record["size"][1])
    box = fit(shape, example_format.shape, rule=example_format.rule)
    count, padded = len(record["fixations"]), np.zeros((example_format.max_fixations, 2), np.float32)
    padded[:count] = move_fixations(record["fixations"], shape, box)
    given = {} if maps is None else {"maps": jax.tree.map(_as_float32, maps)}
    if maps is None or photograph:
        given["images"] = make_example(record, example_format)["images"]
    return given | {
        "frame": np.zeros((*example_format.shape, 0), np.uint8),
        "fixations": padded,
        "fixation_mask": np.arange(example_format.max_fixations) < count,
        "sigma_px": scale_sigma(sigma_px, shape, box),
    }


def _as_float32(leaf: np.ndarray) -> np.ndarray:
    return leaf.astype(np.float32) if leaf.dtype == np.float16 else leaf


def _fingerprint(
    backbone: Backbone,
    source: Source,
    example_format: ExampleFormat | RecordingFormat,
    recipe: MapRecipe,
    positions: Int[np.ndarray, " part"],
) -> str:
    """Of everything that the maps depend on: the network with its weights, the photographs, and how both are used."""
    signs = [backbone.sign(layer) for layer in recipe.layers]
    digest = hashlib.sha256(
        json.dumps(
            [
                _MAPS,
                backbone.name,
                example_format.shape,
                example_format.rule if isinstance(example_format, ExampleFormat) else example_format.dtype,
                type(recipe).__name__,
                dataclasses.astuple(recipe),
                *(signs if {*signs} != {"as_is"} else ()),
            ]
        ).encode()
    )
    for leaf in jax.tree.leaves(backbone.params):
        digest.update(np.asarray(leaf).tobytes())
    for position in positions.tolist():
        digest.update(source[position]["image"])
    return digest.hexdigest()[:16]
