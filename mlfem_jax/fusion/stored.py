"""Trained fusion networks on disk: parameters as safetensors, and beside them a JSON file with what they were made for.

Those that ship are in `mlfem_jax/fusion/packaged/`.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mlfem_jax.files import read_json, replacing
from mlfem_jax.fusion.architectures import make_net
from mlfem_jax.fusion.network import ArrayTree, FusionNet
from mlfem_jax.importance import SIGNS

PACKAGED: dict[tuple[str, str], dict[tuple[int, int], str]] = {
    ("net", "efficientnet_lite0"): {(224, 224): "net_efficientnet_lite0.safetensors"},
    ("unet", "efficientnet_lite0"): {(224, 224): "unet_efficientnet_lite0.safetensors"},
    ("channels", "efficientnet_lite0"): {
        (224, 224): "channels_efficientnet_lite0_224x224.safetensors",
        (384, 512): "channels_efficientnet_lite0_384x512.safetensors",
    },
    ("channels", "efficientnet_lite1"): {(384, 512): "channels_efficientnet_lite1_384x512.safetensors"},
    ("channels", "efficientnet_lite2"): {(384, 512): "channels_efficientnet_lite2_384x512.safetensors"},
    ("channels", "dinov2_vits14"): {(384, 512): "channels_dinov2_vits14_384x512.safetensors"},
    ("linear", "efficientnet_lite0"): {(384, 512): "linear_efficientnet_lite0_384x512.safetensors"},
}
"""(architecture, backbone) to the files of the fusions that the library brings along, by the frame of their training.

The files are in `mlfem_jax/fusion/packaged/`.
"""


@dataclasses.dataclass(frozen=True)
class TrainedFusion:
    """A trained fusion network and what it was trained for.

    Attributes:
        net: its shape.
        params: its parameters, NumPy arrays.
        backbone: name of the network whose importance maps it reads.
        layers: names of the layers, in order.
        ks: values of k, for each layer.
        provenance: command, data, seed, versions, scores: for people.
        signs: of each layer, see `mlfem_jax.fem`; none: activations are taken as they are.
    """

    net: FusionNet
    params: ArrayTree
    backbone: str
    layers: tuple[str, ...]
    ks: tuple[float, ...]
    provenance: Mapping[str, Any]
    signs: tuple[str, ...] = ()


def save_fusion(path: str | Path, trained: TrainedFusion) -> None:
    """Writes `path` (.safetensors), and the same name with .json beside it.

    Args:
        path: the file to write; an existing one is replaced.
        trained: what to write.
    """
    import safetensors.numpy

    path = Path(path)
    arrays = {name: np.ascontiguousarray(leaf, np.float32) for name, leaf in _flat(trained.params).items()}
    described = {
        "net": {"architecture": trained.net.architecture, **dataclasses.asdict(trained.net)},
        "backbone": trained.backbone,
        "layers": trained.layers,
        "ks": trained.ks,
        "signs": trained.signs,
        "provenance": trained.provenance,
    }
    with replacing(path) as file:
        file.write(safetensors.numpy.save(arrays))
    with replacing(path.with_suffix(".json")) as file:
        file.write((json.dumps(described, indent=1) + "\n").encode())


def load_fusion(path: str | Path) -> TrainedFusion:
    """What `save_fusion` wrote.

    Args:
        path: the .safetensors file; the JSON file must be beside it.

    Raises:
        FileNotFoundError: one of the two is not there.
        ValueError: one of them is damaged, or the arrays are not those of the network described; names the file.
    """
    from mlfem_jax.backbones import check_values, check_weights, read_weights

    path = Path(path)
    about = path.with_suffix(".json")
    if not about.is_file():
        raise FileNotFoundError(f"{about}: expected a file that says what {path.name} was trained for, got none")
    try:
        described = read_json(about)
        net = make_net(**_with_tuples(described["net"]))
        layers, ks = tuple(described["layers"]), tuple(float(k) for k in described["ks"])
        backbone, provenance = described["backbone"], described["provenance"]
        signs = tuple(described.get("signs", ()))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{about}: expected a description of a fusion network, got another ({error!r})") from error
    if not np.isfinite(ks).all():
        raise ValueError(f"{about}: expected finite numbers as ks, got {ks}")
    if any(sign not in SIGNS for sign in signs) or len(signs) not in (0, len(layers)):
        raise ValueError(f"{about}: expected signs of {len(layers)} layers, each of {', '.join(SIGNS)}, got {signs}")
    if net.channels != len(layers) * len(ks):
        raise ValueError(f"{about}: expected {len(layers)} layers times {len(ks)} k channels, got {net.channels}")
    arrays = read_weights(path)
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0)))
    expected = {name: leaf.shape for name, leaf in _flat(shapes).items()}
    check_weights(arrays, expected, source=path)
    check_values(arrays, expected, source=path)
    params = jax.tree_util.tree_map_with_path(lambda keys, _: arrays[_name(keys)], shapes)
    return TrainedFusion(net, params, backbone, layers, ks, provenance, signs)


def packaged_fusion(architecture: str, backbone: str, size: tuple[int, int] | None = None) -> Path:
    """The file of a fusion network that ships with the library.

    Args:
        architecture: its name.
        backbone: name of the network that it fuses the maps of.
        size: (height, width) of the network's input: of several files, the one whose frame has the nearest number of
            pixels (by ratio). Default: the first.

    Raises:
        ValueError: none was trained for that; lists what there is.

    Example:
        >>> packaged_fusion("unet", "efficientnet_lite0").name
        'unet_efficientnet_lite0.safetensors'
    """
    if (architecture, backbone) not in PACKAGED:
        there = ", ".join(f"{a!r} for {b}" for a, b in PACKAGED)
        raise ValueError(
            f"architecture: expected one that ships for the backbone {backbone!r} (there is {there}), "
            f"got {architecture!r}; train one with `mlfem train fusion` and pass its file as `weights`"
        )
    files = PACKAGED[architecture, backbone]

    def distance(frame: tuple[int, int]) -> float:
        return 0.0 if size is None else abs(math.log(frame[0] * frame[1] / (size[0] * size[1])))

    return Path(__file__).parent / "packaged" / files[min(files, key=distance)]


def _with_tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def _flat(params: ArrayTree) -> dict[str, Any]:
    return {_name(keys): leaf for keys, leaf in jax.tree_util.tree_leaves_with_path(params)}


def _name(keys: tuple[Any, ...]) -> str:
    return ".".join(str(key.key) for key in keys)
