"""What a weight file says about its network, and whether it is one of ImageNet's published files."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlfem_jax.backbones.base import Output
from mlfem_jax.backbones.files.hugging_face import network_config
from mlfem_jax.backbones.files.read import LABELS, weights_folder
from mlfem_jax.files import naming, read_json, shown

_CONFIG = "config.json"  # of Hugging Face
_PUBLISHED = frozenset(
    """
    f37072fd 5c106cde b627a593 333f7ec4 0676ba61 11ad3fa6 19c8e357 63fe2227 cd907fc2 5d3b4d8f 394f9c45 f82ba261 b121ed2d
    397923af dcbb9e9d 6c64b313 c79401a0 57934424
    6075fbad ea097f82 0c510722 983f1562 a639ec97 8d451a50 b2777c0a c1103571 59c71312 dc08266a dd5fe13b 0cc3c7bd
    5c1a4163 8738ca79 047dcff4 2007eb11 ba3796d7 a12f2b72 e3633e7f 6eb8fdc6 9d47f8d0 7071aa85 f342aeae 62229a5f
    adf1edd5 94a99ebd ad17e45c 03ceed89 2b70d774 cbe8ce12 c8ce3e52 3e4a00f9 9e6ed7dd f3ec0043 43afe44d 0d7bc02a
    b11a554e 4dee3f7a 8db6d4b5 e1583746 04fdfa75 9180c971 b5a9779c c65dace8 e6988f5f 1b27b58c 58fc7688 d0d0e4a8
    dc2b1b54 68c6b09e 5e29d889 704ceda3 781e5279 637d8ceb b137f0e2 77cc7160 9656183e
    """.split()
)
"""First digits of the SHA-256 of torchvision's published ImageNet files of the networks that have a name here (all
generations) and of EfficientNet-Lite0's to 2's, which bear them in their names."""
_PUBLISHED_KERAS = "2cb95161c43110f7111970584f804107"
"""MD5 of keras.applications' ResNet-50 of ImageNet."""


@dataclasses.dataclass(frozen=True)
class About:
    """What a weight file says about its network; nothing in most.

    Attributes:
        backbone: name of the architecture, in the folder of a run.
        labels: names of the classes, in the order of the logits; empty where it does not say.
        output: how its logits were trained to be read; None where it does not say.
        imagenet: whether its classes are known to be the 1000 of ImageNet, in the usual order.
        input_shape: of its examples, channels last, in the folder of a run on recordings.
        config: what a config.json says of the network itself (`hugging_face.network_config`).
    """

    backbone: str | None = None
    labels: tuple[str, ...] = ()
    output: Output | None = None
    imagenet: bool = False
    input_shape: tuple[int, ...] = ()
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)


def read_about(path: str | Path) -> About:
    """What stands beside or in a weight file about its network.

    The folder of a run of `mlfem train classifier` says all in its classifier.json. A folder of Hugging Face says the
    classes and the kind of problem in its config.json; timm's says by a tag that ends in "in1k" that it is ImageNet's.
    Any other file is ImageNet's where its bytes are those of a published file, by their hash, whatever its name is.

    Args:
        path: as for `read_weights`.

    Raises:
        ValueError: what it says is damaged; names the file.

    Example:
        >>> read_about("/nowhere/weights.npz")
        About(backbone=None, labels=(), output=None, imagenet=False, input_shape=())
    """
    path = weights_folder(Path(path))
    if path.is_file():
        return About(imagenet=_is_published(path))
    for name, said in ((LABELS, _of_run), (_CONFIG, _of_hugging_face)):
        if (path / name).exists():
            with naming(path / name):
                return said(read_json(path / name))
    return About()


def _of_run(content: Mapping[str, Any]) -> About:
    labels, output, backbone = content.get("labels"), content.get("loss"), content.get("backbone")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels) or not labels:
        raise ValueError(f"labels: expected a list of names, got {_shown(labels)}")
    if output not in (None, "softmax", "sigmoid"):
        raise ValueError(f"loss: expected softmax or sigmoid, got {_shown(output)}")
    if not isinstance(backbone, str | None):
        raise ValueError(f"backbone: expected a name, got {_shown(backbone)}")
    shape = content.get("input_shape", [])
    if not isinstance(shape, list) or not all(isinstance(side, int) and 0 < side < 2**31 for side in shape):
        raise ValueError(f"input_shape: expected numbers above 0, got {_shown(shape)}")
    if shape and len(shape) not in (2, 3, 4):
        raise ValueError(f"input_shape: expected one to three axes and channels, got {_shown(shape)}")
    return About(backbone, tuple(shown(label) for label in labels), output, input_shape=tuple(shape))


def _of_hugging_face(content: Mapping[str, Any]) -> About:
    output = "sigmoid" if content.get("problem_type") == "multi_label_classification" else None
    timm = content.get("pretrained_cfg")
    tag = timm.get("tag") if isinstance(timm, dict) else None
    imagenet = isinstance(tag, str) and tag.endswith("in1k") and content.get("num_classes", 1000) == 1000
    said = content.get("label_names") or content.get("id2label") or []
    names = [said.get(str(index)) for index in range(len(said))] if isinstance(said, dict) else said
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"id2label: expected a name for each number from 0, got {_shown(said)}")
    if all(name == f"LABEL_{index}" for index, name in enumerate(names)):
        names = []  # what transformers writes where nobody named the classes
    return About(None, tuple(shown(name) for name in names), output, imagenet, config=network_config(content))


def _is_published(path: Path) -> bool:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256[:8] in _PUBLISHED:
            return True
        file.seek(0)
        is_hdf5 = file.read(4) == b"\x89HDF"
        file.seek(0)
        return is_hdf5 and hashlib.file_digest(file, "md5").hexdigest() == _PUBLISHED_KERAS


def _shown(value: object) -> str:
    return shown(json.dumps(value))
