"""Images, or other data, in, importance maps out: the two functions that most people need."""

import functools
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Literal, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float32

from mlfem_jax import attribution
from mlfem_jax.attribution import METHODS, Target, class_targets
from mlfem_jax.backbones import Backbone, Forward, Layers, select_layers
from mlfem_jax.engine.images import Image, Images, map_images
from mlfem_jax.engine.signs import warning_of_signs
from mlfem_jax.engine.stream import BatchSize
from mlfem_jax.parallel import chosen_devices
from mlfem_jax.photos import ResizeRule, place_map


# What comes back depends on the types of the arguments alone, never on the sizes of the images.
# fmt: off
@overload
def explain(
    backbone: Backbone, images: Image, *, method: str = ..., layers: Layers = ..., target: Target = ...,
    batch_size: BatchSize = ..., dtype: DTypeLike = ..., resize: ResizeRule = ..., output: Literal["input"] = ...,
    frame: tuple[int, int] | None = ...,
    devices: Sequence[jax.Device] | None = ..., **options: Hashable,
) -> Float32[Array, " N *S"]: ...
@overload
def explain(
    backbone: Backbone, images: Image, *, method: str = ..., layers: Layers = ..., target: Target = ...,
    batch_size: BatchSize = ..., dtype: DTypeLike = ..., resize: ResizeRule = ..., output: Literal["photo"],
    frame: tuple[int, int] | None = ...,
    devices: Sequence[jax.Device] | None = ..., **options: Hashable,
) -> Float32[np.ndarray, "N H W"]: ...
@overload
def explain(
    backbone: Backbone, images: Sequence[Image], *, method: str = ..., layers: Layers = ..., target: Target = ...,
    batch_size: BatchSize = ..., dtype: DTypeLike = ..., resize: Literal["stretch", "crop"] = ...,
    output: Literal["input"] = ..., frame: tuple[int, int] | None = ...,
    devices: Sequence[jax.Device] | None = ..., **options: Hashable,
) -> Float32[Array, " N *S"]: ...
@overload
def explain(
    backbone: Backbone, images: Sequence[Image], *, method: str = ..., layers: Layers = ..., target: Target = ...,
    batch_size: BatchSize = ..., dtype: DTypeLike = ..., resize: Literal["native"], output: Literal["input"] = ...,
    frame: tuple[int, int] | None = ...,
    devices: Sequence[jax.Device] | None = ..., **options: Hashable,
) -> list[Float32[Array, "..."]]: ...
@overload
def explain(
    backbone: Backbone, images: Sequence[Image], *, method: str = ..., layers: Layers = ..., target: Target = ...,
    batch_size: BatchSize = ..., dtype: DTypeLike = ..., resize: ResizeRule = ..., output: Literal["photo"],
    frame: tuple[int, int] | None = ...,
    devices: Sequence[jax.Device] | None = ..., **options: Hashable,
) -> list[Float32[np.ndarray, "_H _W"]]: ...
@overload
def explain(
    backbone: Backbone, images: Iterator[Image], *, method: str = ..., layers: Layers = ..., target: Target = ...,
    batch_size: BatchSize = ..., dtype: DTypeLike = ..., resize: ResizeRule = ..., output: Literal["input"] = ...,
    frame: tuple[int, int] | None = ...,
    devices: Sequence[jax.Device] | None = ..., **options: Hashable,
) -> Iterator[Float32[Array, "..."]]: ...
@overload
def explain(
    backbone: Backbone, images: Iterator[Image], *, method: str = ..., layers: Layers = ..., target: Target = ...,
    batch_size: BatchSize = ..., dtype: DTypeLike = ..., resize: ResizeRule = ..., output: Literal["photo"],
    frame: tuple[int, int] | None = ...,
    devices: Sequence[jax.Device] | None = ..., **options: Hashable,
) -> Iterator[Float32[np.ndarray, "_H _W"]]: ...
# fmt: on
def explain(
    backbone: Backbone,
    images: Images,
    *,
    method: str = "add",
    layers: Layers = None,
    target: Target = None,
    batch_size: BatchSize = 16,
    dtype: DTypeLike = jnp.float32,
    resize: str = "stretch",
    output: str = "input",
    frame: tuple[int, int] | None = None,
    devices: Sequence[jax.Device] | None = None,
    **options: Hashable,
) -> Image | list[Array] | list[np.ndarray] | Iterator[Image]:
    """What the network looked at in each image: importance maps in [0, 1].

    Images travel to the device as they are (uint8 is converted there), in batches of one size: the last one is padded,
    so that nothing is compiled twice, and the padding never comes back. The maps stay on the device until they are
    asked for. At most two batches are under way at a time.

    Args:
        backbone: the network, from `load_backbone` or an adapter.
        images: RGB, uint8 or float in [0, 1]: an array (N, H, W, 3); a sequence of (H_i, W_i, 3) photographs; or an
            iterator of them, which may never end. Of a network of other data, examples as it takes them, such as
            signals (N, L), with or without an axis for a single channel; they are never resized.
        method: one of `methods()`.
        layers: which layers the method uses: names, indices, or a slice; None is the method's default.
        target: the class to explain: None, the predicted one; a number, for all images; N numbers, one for each image;
            (N, K) or (1, K) numbers, several classes, whose scores are summed. A function of one example's logits
            (classes,), for all images: `mlfem.backbones.Contrast(281, 282)` is why one class rather than another.
            "self", of a network that tells no classes, is the image's own embedding, which None stands for there.
        batch_size: images in a forward pass, of all devices together; each device gets the same number, so it is
            rounded up to a multiple of theirs. "auto" is what fits the devices' memory: the largest power of two up to
            256 images a device (32 on a CPU, 16 on a TPU), or all images where they are fewer.
        dtype: of the forward pass, float32 or bfloat16; statistics are float32 in any case.
        resize: how a photograph gets to `backbone.input_size`: "stretch", "crop" (the center), or "native" (its own
            size; each size is compiled once). Other data has the network's own size, or any with "native".
        output: "input", maps at the size of the network's input; "photo", laid back onto the photograph, on the host.
        frame: (height, width) whose number of pixels each photograph gets, in its own proportions, in place of
            `backbone.input_size`: a portrait photograph is not squeezed (`photos.own_frame`; each size is compiled
            once). The learned fusion that ships for the nearest number of pixels is the one that "net" takes.
        devices: what each batch is split over, the parameters being copied to all of them. None: all devices of this
            process, or the one that `jax.default_device` names. To explain call after call on many devices, put the
            backbone there once: `jax.device_put(backbone, NamedSharding(mesh, PartitionSpec()))`.
        **options: those of the method: `k`, `alpha`, `normalize`, ... With `raw=True`, which most methods take, a map
            is signed and not normalized, and of the layer's own size where it has one; `sign` is left alone.

    Returns: For an array, (N, H, W) float32 on the first of the devices, in the order of the images; of other data (N,
        L), (N, H, W) or (N, T, H, W), by the spatial axes of the input. For a sequence the same; but a list of (H_i,
        W_i) where each map keeps the size or the proportions of its photograph: with `resize="native"`, with `frame`
        and with `output="photo"`. For an iterator, an iterator of (H_i, W_i), lazy. With `output="photo"` they are
        NumPy arrays. A blank map (all zeros) means that the method found no difference between positions, or that the
        network's activations were not finite.

    Warns:
        UserWarning: FEM saw activations below zero in the first batch, and neither the backbone nor `sign` says what
            that should mean; it names the layers.

    Raises:
        ValueError: an unknown method, option, layer or class; images of another shape, dtype or range, by number; no
            images.
        MemoryError: the memory of a device does not suffice for a batch; it says what that needs, and what would fit.

    Example:
        >>> backbone = load_backbone("efficientnet_lite0")
        >>> photos = np.random.default_rng(0).integers(0, 256, (2, 60, 80, 3), dtype=np.uint8)
        >>> explain(backbone, photos, method="add", alpha=0.3).shape
        (2, 224, 224)
        >>> apply = lambda params, sound: (sound.mean(axis=1, keepdims=True), {"power": jnp.square(sound)[..., None]})
        >>> explain(from_function(apply, (), input_shape=(16000,)), np.ones((3, 16000)), method="fem").shape
        (3, 16000)
    """
    seen = select_layers(backbone.layers, layers)
    if layers is not None:
        options["layers"] = seen
    bound = attribution.method(method, **options)
    if target is not None and not METHODS[method].of_class:
        of_class = ", ".join(name for name, entry in METHODS.items() if entry.of_class)
        raise ValueError(
            f"target: expected none, since {method!r} explains no particular class, got {target!r:.80}; "
            f"those that do are {of_class}"
        )
    if output not in ("input", "photo"):
        raise ValueError(f"output: expected 'input' or 'photo', got {output!r}")
    if output == "photo" and not backbone.photos:
        raise ValueError("output: expected 'input' for data other than photographs, which is not resized, got 'photo'")
    if output == "photo" and options.get("raw"):
        raise ValueError("output: expected 'input' for raw maps, which have their own size, got 'photo'")
    run = functools.partial(
        map_images,
        backbone,
        targets=class_targets(backbone, target, None if isinstance(images, Iterator) else len(images)),
        batch_size=batch_size,
        dtype=dtype,
        resize=resize,
        frame=frame,
        devices=devices,
    )
    run = warning_of_signs(backbone, bound, run, seen[-1:] if method == "fem" else seen)
    first = chosen_devices(devices)[0]
    if isinstance(images, Iterator):
        return _lazy(run, images, output, resize, first)
    if len(images) == 0:
        raise ValueError("images: expected at least one image, got none")
    alike = isinstance(images, np.ndarray | jax.Array)
    if output == "photo":
        maps = (importance for count, maps in run(images) for importance in np.asarray(maps)[:count])
        placed = [
            place_map(importance, np.shape(i)[:2], rule=resize) for importance, i in zip(maps, images, strict=True)
        ]
        return np.stack(placed) if alike else placed
    batches = [jax.device_put(maps if count == len(maps) else maps[:count], first) for count, maps in run(images)]
    if (resize == "native" or frame is not None) and not alike:
        return [importance for maps in batches for importance in maps]
    return batches[0] if len(batches) == 1 else jnp.concatenate(batches)


def map_batches(
    backbone: Backbone,
    images: Images,
    function: Callable[[Forward], Any],
    *,
    target: Target = None,
    batch_size: BatchSize = 16,
    dtype: DTypeLike = jnp.float32,
    resize: str = "stretch",
    frame: tuple[int, int] | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Iterator[Any]:
    """Anything computed from one forward pass over each batch, image by image: several methods for the price of one.

    Args:
        backbone: see `explain`.
        images: see `explain`.
        function: from a `Forward` to a pytree of arrays whose first axis is the image. It is traced once for each size
            of image; pass the same function object again to use what was compiled.
        target: see `explain`; `function` finds it in `Forward.classes`.
        batch_size: see `explain`.
        dtype: see `explain`.
        resize: see `explain`.
        frame: see `explain`.
        devices: see `explain`.

    Returns:
        An iterator of one pytree an image, in order, as NumPy arrays.

    Raises:
        ValueError: see `explain`.
        MemoryError: see `explain`.

    Example:
        >>> backbone = load_backbone("efficientnet_lite0")
        >>> images = np.zeros((3, 224, 224, 3), np.uint8)
        >>> sum(1 for logits in map_batches(backbone, images, lambda forward: forward.logits))
        3
    """
    targets = class_targets(backbone, target, None if isinstance(images, Iterator) else len(images))
    for count, outputs in map_images(
        backbone,
        images,
        function=function,
        targets=targets,
        batch_size=batch_size,
        dtype=dtype,
        resize=resize,
        frame=frame,
        devices=devices,
    ):
        on_host = jax.device_get(outputs)
        yield from (jax.tree.map(lambda leaf, i=index: leaf[i], on_host) for index in range(count))


def _lazy(
    run: Callable[[Images], Iterator[tuple[int, Array]]],
    images: Iterator[Image],
    output: str,
    rule: str,
    device: jax.Device,
) -> Iterator[Float32[Array, "H W"] | Float32[np.ndarray, "H W"]]:
    """Map after map, each laid back onto its photograph where that is asked for."""
    shapes: deque[tuple[int, int]] = deque()

    def noting_shapes() -> Iterator[Image]:
        for image in images:
            shapes.append(tuple(np.shape(image)[:2]))
            yield image

    for count, maps in run(noting_shapes()):
        ready = np.asarray(maps) if output == "photo" else jax.device_put(maps, device)
        for index in range(count):
            shape = shapes.popleft()
            yield place_map(ready[index], shape, rule=rule) if output == "photo" else ready[index]
