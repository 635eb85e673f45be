"""What a fusion network is trained on: the importance maps of the images of a data set, with their fixations.

Two ways to the same numbers (to the rounding of float16): computed once and kept in a folder, or from the photographs
at every step.
"""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
from jaxtyping import Array, Float, Int

from mlfem_jax.attribution.net import map_stack
from mlfem_jax.backbones.base import Backbone
from mlfem_jax.data.example import ExampleFormat, make_example
from mlfem_jax.data.pipeline import batches_per_epoch, read_batches
from mlfem_jax.data.split import Source
from mlfem_jax.distributed import is_first
from mlfem_jax.files import replacing
from mlfem_jax.frames import fit, move_fixations, scale_sigma

Example = dict[str, np.ndarray]

_MAPS = 2  # to be raised when `map_stack` gives other maps, so that none of an older version is read


@dataclasses.dataclass(frozen=True)
class MapRecipe:
    """Which importance maps a fusion network reads.

    Attributes:
        layers: names, first layer first.
        ks: values of k; each layer gives one map for each.
        shrink: the maps are made at 1 / `shrink` of the input's resolution.
    """

    layers: tuple[str, ...]
    ks: tuple[float, ...]
    shrink: int

    @property
    def channels(self) -> int:
        """Number of maps."""
        return len(self.layers) * len(self.ks)

    def size(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Of the maps, for an input of (height, width)."""
        return -(-shape[0] // self.shrink), -(-shape[1] // self.shrink)


def default_maps(
    architecture: str, layers: tuple[str, ...], ks: tuple[float, ...] | None = None, shrink: int | None = None
) -> MapRecipe:
    """The maps that an architecture reads where nothing else is said.

    "net": the paper's, k = 2 at full size. "unet": nine values of k at an eighth of the size; chosen on training images
    of OSIE, where fewer, more, and leaving out the first layers gave less.

    Example:
        >>> default_maps("net", ("first", "second"), shrink=4)
        MapRecipe(layers=('first', 'second'), ks=(2.0,), shrink=4)
    """
    if architecture == "net":
        return MapRecipe(layers, ks or (2.0,), shrink or 1)
    return MapRecipe(layers, ks or (-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0), shrink or 8)


def image_maps(backbone: Backbone, images: Array, recipe: MapRecipe) -> Float[Array, "N C h w"]:
    """Stacks of a batch of images (N, H, W, 3), already at the size of the network's input."""
    inputs = backbone.preprocess(images)
    _, height, width, _ = inputs.shape
    _, activations = backbone.apply(backbone.params, inputs)
    size = recipe.size((height, width))
    return jax.vmap(lambda example: map_stack(example, size, layers=recipe.layers, ks=recipe.ks))(activations)


_image_maps = jax.jit(image_maps, static_argnames="recipe")


def cached_maps(
    backbone: Backbone,
    source: Source,
    format: ExampleFormat,
    recipe: MapRecipe,
    folder: str | Path,
    *,
    batch_size: int = 16,
    on_batch: Callable[[int], None] = lambda images: None,
) -> Float[np.ndarray, "N C h w"]:
    """The stacks of all images of a data set, from a file that is written where it is not there yet.

    The disk cost is 2 bytes x maps x (H / shrink) x (W / shrink) for an image: 17 layers x 9 values of k at shrink 8
    of 224x224 are 240 kB, one k at full size 1.7 MB. Of several processes, the first writes; all must see the folder.

    Args:
        backbone: the frozen network.
        source: records.
        format: the frame that the photographs are resized into.
        recipe: which maps.
        folder: where files are kept, one for each backbone (its weights included), recipe and data set.
        batch_size: images in a forward pass.
        on_batch: told how many images each batch had.

    Returns:
        (N, C, h, w) float16, read from the file as it is needed.
    """
    path = Path(folder) / f"maps_{_fingerprint(backbone, source, format, recipe)}.npy"
    if is_first() and not path.exists():
        shape = (len(source), recipe.channels, *recipe.size(format.shape))
        with replacing(path) as file:
            header = {"descr": "<f2", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            reading = read_batches(source, format, batch_size=batch_size, process_index=0, process_count=1)
            for batch in reading:
                maps = _image_maps(backbone, batch.images, recipe)
                file.write(np.asarray(maps)[batch.mask].astype("<f2").tobytes())
                on_batch(int(batch.mask.sum()))
    while not path.exists():
        time.sleep(1)  # the first process writes it; should that die, JAX ends this one
    return np.load(path, mmap_mode="r")


def map_example(record: Any, maps: np.ndarray | None, format: ExampleFormat, sigma_px: float) -> Example:
    """One example of the fusion's training: maps, or the photograph where there are none, and fixations.

    Args:
        record: of a prepared data set.
        maps: (C, h, w) from `cached_maps`; None leaves it to the training step to compute them from `images`.
        format: the frame.
        sigma_px: of the GFDM, in pixels of the photograph.

    Returns:
        `maps` or `images`; `fixations` (n, 2) and `fixation_mask` (n,), padded; `sigma_px` (2,) along (y, x). Both are
        in pixels of the frame.
    """
    shape = int(record["size"][0]), int(record["size"][1])
    box = fit(shape, format.shape, rule=format.rule)
    count, padded = len(record["fixations"]), np.zeros((format.max_fixations, 2), np.float32)
    padded[:count] = move_fixations(record["fixations"], shape, box)
    images = {"images": make_example(record, format)["images"]} if maps is None else {"maps": maps.astype(np.float32)}
    return images | {
        "fixations": padded,
        "fixation_mask": np.arange(format.max_fixations) < count,
        "sigma_px": scale_sigma(sigma_px, shape, box),
    }


def read_examples(
    example: Callable[[int], Example],
    positions: Int[np.ndarray, " part"],
    *,
    batch_size: int,
    seed: int | None = None,
    epochs: int | None = 1,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.IterDataset[Example]:
    """Batches of examples, each exactly once in an epoch; the last batch is filled up, with `mask` False there.

    Args:
        example: from a position to a dict of arrays.
        positions: to read.
        batch_size: examples in a batch of one process.
        seed: of the shuffling, which differs in every epoch. Default: no shuffling.
        epochs: how often to read everything; None is for ever.
        process_index: which share of every batch to read, of `process_count`. Default: all of it.
        process_count: number of shares, `batch_size` examples each.

    Returns:
        An iterable of dicts of arrays whose iterators have `get_state` and `set_state`.

    Raises:
        ValueError: no positions.

    Example:
        >>> reading = read_examples(lambda i: {"x": np.float32(i)}, np.arange(3), batch_size=2)
        >>> [(batch["x"].tolist(), batch["mask"].tolist()) for batch in reading]
        [([0.0, 1.0], [True, True]), ([2.0, 0.0], [True, False])]
    """
    if len(positions) == 0:
        raise ValueError("positions: expected at least one, got none: nothing to read")
    order = grain.MapDataset.source([(int(position), True) for position in positions])
    if seed is not None:
        order = order.shuffle(seed)
    together = batch_size * process_count
    padding = batches_per_epoch(len(positions), batch_size, process_count) * together - len(positions)
    if padding:
        order = grain.MapDataset.concatenate([order, grain.MapDataset.source([(int(positions[0]), False)] * padding)])
    examples = order.map(lambda item: example(item[0]) | {"mask": np.array(item[1])})
    batches = examples.batch(batch_size).slice(slice(process_index, None, process_count)).repeat(epochs)
    return batches.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=1))


def _fingerprint(backbone: Backbone, source: Source, format: ExampleFormat, recipe: MapRecipe) -> str:
    """Of everything that the maps depend on: the network with its weights, the photographs, and how both are used."""
    digest = hashlib.sha256(
        json.dumps([_MAPS, backbone.name, format.shape, format.rule, dataclasses.astuple(recipe)]).encode()
    )
    for leaf in jax.tree.leaves(backbone.params):
        digest.update(np.asarray(leaf).tobytes())
    for position in range(len(source)):
        digest.update(source[position]["image"])
    return digest.hexdigest()[:16]
