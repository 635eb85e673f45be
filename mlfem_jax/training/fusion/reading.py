"""What a fusion network is trained on: the importance maps of the images of a data set, with their fixations.

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
from jaxtyping import Bool, Float

from mlfem_jax.backbones import Backbone
from mlfem_jax.data import ExampleFormat, Source, make_example, read_batches
from mlfem_jax.engine import BatchSize, Program, images_in_batch, run_batches
from mlfem_jax.files import keep_record, replacing
from mlfem_jax.fusion import MapRecipe, image_maps
from mlfem_jax.gaze import fit, move_fixations, scale_sigma
from mlfem_jax.parallel import chosen_devices, is_first, replicate

Example = dict[str, np.ndarray]

_MAPS = 2  # to be raised when `map_stack` gives other maps, so that none of an older version is read


def cached_maps(
    backbone: Backbone,
    source: Source,
    example_format: ExampleFormat,
    recipe: MapRecipe,
    folder: str | Path,
    *,
    batch_size: BatchSize = 16,
    on_batch: Callable[[int], None] = lambda images: None,
) -> Float[np.ndarray, "N C h w"]:
    """The stacks of all images of a data set, from a file that is written where it is not there yet.

    The disk cost is 2 bytes x maps x (H / shrink) x (W / shrink) for an image: 17 layers x 9 values of k at shrink 8
    of 224x224 are 240 kB, one k at full size 1.7 MB. Of several processes, the first writes; all must see the folder.

    Args:
        backbone: the frozen network.
        source: records.
        example_format: the frame that the photographs are resized into.
        recipe: which maps.
        folder: where files are kept, one for each backbone (its weights included), recipe and data set.
        batch_size: images in a forward pass, over all devices of this process; "auto" is what fits their memory.
        on_batch: told how many images each batch had.

    Returns:
        (N, C, h, w) float16, read from the file as it is needed.

    Raises:
        ValueError: a batch size below 1.
        MemoryError: the memory of a device does not suffice for a batch.
    """
    path = Path(folder) / f"maps_{_fingerprint(backbone, source, example_format, recipe)}.npy"
    if is_first() and not path.exists():
        shape = (len(source), recipe.channels, *recipe.size(example_format.shape))
        path.parent.mkdir(parents=True, exist_ok=True)
        keep_record(path.parent)  # whose files these are, for `prepare`
        with replacing(path) as file:
            header = {"descr": "<f2", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for mask, maps in _map_batches(backbone, source, example_format, recipe, batch_size):
                file.write(np.asarray(maps)[: len(mask)][mask].astype("<f2").tobytes())
                on_batch(int(mask.sum()))
    while not path.exists():
        time.sleep(1)  # the first process writes it; should that die, JAX ends this one
    return np.load(path, mmap_mode="r")


def _map_batches(
    backbone: Backbone, source: Source, example_format: ExampleFormat, recipe: MapRecipe, batch_size: BatchSize
) -> Iterator[tuple[Bool[np.ndarray, " N"], Float[jax.Array, "M C h w"]]]:
    """(which images are real, their maps, padded to what the devices divide) of batch after batch."""
    devices = chosen_devices(None)
    program = Program(image_maps, replicate(backbone, devices), recipe, devices)
    example = jax.ShapeDtypeStruct((1, *example_format.shape, 3), np.uint8)
    size = images_in_batch(program, example, batch_size, most=len(source))
    batches = read_batches(source, example_format, batch_size=size, process_index=0, process_count=1)
    return run_batches(program, ((batch.mask, batch.images) for batch in batches))


def map_example(record: Any, maps: np.ndarray | None, example_format: ExampleFormat, sigma_px: float) -> Example:
    """One example of the fusion's training: maps, or the photograph where there are none, and fixations.

    Args:
        record: of a prepared data set.
        maps: (C, h, w) from `cached_maps`; None leaves it to the training step to compute them from `images`.
        example_format: the frame.
        sigma_px: of the GFDM, in pixels of the photograph.

    Returns:
        `maps` or `images`; `fixations` (n, 2) and `fixation_mask` (n,), padded; `sigma_px` (2,) along (y, x). Both are
        in pixels of the frame.
    """
    shape = int(record["size"][0]), int(record["size"][1])
    box = fit(shape, example_format.shape, rule=example_format.rule)
    count, padded = len(record["fixations"]), np.zeros((example_format.max_fixations, 2), np.float32)
    padded[:count] = move_fixations(record["fixations"], shape, box)
    images = (
        {"images": make_example(record, example_format)["images"]}
        if maps is None
        else {"maps": maps.astype(np.float32)}
    )
    return images | {
        "fixations": padded,
        "fixation_mask": np.arange(example_format.max_fixations) < count,
        "sigma_px": scale_sigma(sigma_px, shape, box),
    }


def _fingerprint(backbone: Backbone, source: Source, example_format: ExampleFormat, recipe: MapRecipe) -> str:
    """Of everything that the maps depend on: the network with its weights, the photographs, and how both are used."""
    digest = hashlib.sha256(
        json.dumps(
            [_MAPS, backbone.name, example_format.shape, example_format.rule, dataclasses.astuple(recipe)]
        ).encode()
    )
    for leaf in jax.tree.leaves(backbone.params):
        digest.update(np.asarray(leaf).tobytes())
    for position in range(len(source)):
        digest.update(source[position]["image"])
    return digest.hexdigest()[:16]
