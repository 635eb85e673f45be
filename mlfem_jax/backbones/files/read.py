"""Weight files of every usual kind to a flat dict of arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from mlfem_jax.backbones.files.hdf5_process import read_apart
from mlfem_jax.backbones.files.onnx_file import read_onnx_file
from mlfem_jax.backbones.files.orbax_folder import METADATA, read_orbax_folder
from mlfem_jax.backbones.files.safetensors_file import INDEX, read_safetensors_file, read_shards
from mlfem_jax.backbones.files.torch_file import LEGACY_MAGIC, read_torch_file
from mlfem_jax.files import naming, open_zip, read_npz_file, shown

_KINDS = (
    ".safetensors, a torch .pth/.pt state dict, .npz, a Keras .h5, an .onnx file, an orbax folder, "
    "or one of Hugging Face"
)
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_HUGGING_FACE = ("model.safetensors", f"model.safetensors{INDEX}", "pytorch_model.bin", f"pytorch_model.bin{INDEX}")
# What torch's wrappers put into the names of what they wrap: DataParallel at the beginning, the others anywhere.
_WRAPPER = "module."
_WRAPPED = frozenset(("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
_OF_RUN = "weights"  # the folder in a run's folder
LABELS = "classifier.json"


def read_weights(path: str | Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The arrays of a weight file, by the names that they have in it.

    The kind is told by the content, not by the suffix, and nothing in any kind of file is executed. What a file
    declares is compared with the bytes that are there before memory is taken (`files.limits`). A torch state dict
    inside a dict ("state_dict", "model_state_dict", "model" and the like) is unwrapped, objects beside its tensors are
    left out, the prefix "module." of torch's DataParallel is taken off when every name has it, and so is what
    torch.compile, FSDP and checkpointed activations put into names ("layer1._orig_mod.0"). Keras arrays are called
    "layer/kernel", those of an orbax folder by their keys joined with ".".

    Args:
        path: .safetensors; a torch state dict (.pth, .pt, .bin: zip or legacy layout); .npz; .h5 that Keras wrote
            (needs h5py); .onnx; an orbax folder; the folder of a run of `mlfem train classifier`; a folder of Hugging
            Face (`model.safetensors` or `pytorch_model.bin`), in shards too, or the index of such shards.

    Returns:
        The arrays as they are in the file: dtype (bfloat16 and float8 as `ml_dtypes` has them) and axis order are kept,
        and so are integer entries such as `num_batches_tracked`. They may be read-only.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of no known kind, is damaged, or holds anything but arrays; names the file.
        ModuleNotFoundError: a Keras file, and h5py is not installed.

    Example:
        >>> import pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp(), "weights.npz")
        >>> np.savez(file, **{"fc.weight": np.ones((2, 3), np.float32)})
        >>> {name: array.shape for name, array in read_weights(file).items()}
        {'fc.weight': (2, 3)}
    """
    path = Path(path)
    path.stat()  # FileNotFoundError
    with naming(path):
        return _unwrapped(_read_folder(path) if path.is_dir() else _read_file(path))


def save_weights(folder: str | Path, arrays: Mapping[str, Any]) -> None:
    """Writes arrays to a new orbax folder, which `read_weights` reads back.

    Args:
        folder: where to write; orbax writes beside it and renames, and refuses a folder that exists.
        arrays: arrays by name, in nested dicts if need be.
    """
    from mlfem_jax.files import own_checkpointer

    with own_checkpointer() as checkpointer:
        checkpointer.save(Path(folder).absolute(), dict(arrays))


def weights_folder(path: Path) -> Path:
    """The weights in the folder of a run; any other path as it is."""
    inner = path / _OF_RUN
    return inner if (inner / LABELS).is_file() and not inner.is_symlink() else path


def _read_file(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise ValueError("expected a file or folder, got a pipe or device")
    if path.name.endswith(INDEX):
        return read_shards(path, _read_file)
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(_HDF5_MAGIC):
        return read_apart(path)
    if path.suffix == ".onnx":  # the one kind whose content does not tell
        return read_onnx_file(path)
    if LEGACY_MAGIC in head[:24]:
        return read_torch_file(path)
    if head.startswith(b"PK"):
        return read_npz_file(path) if _is_npz(path) else read_torch_file(path)
    if head[8:9] == b"{":
        return read_safetensors_file(path)
    raise ValueError(f"expected {_KINDS}, got a file that begins {head[:16]!r}")


def _is_npz(path: Path) -> bool:
    with open_zip(path) as archive:
        names = archive.namelist()
    if "model.weights.h5" in names:
        raise ValueError(
            'expected weights alone, got a .keras file; save its weights: model.save_weights("a.weights.h5")'
        )
    return any(name.endswith(".npy") for name in names) and not any(name.endswith("data.pkl") for name in names)


def _read_folder(path: Path) -> dict[str, np.ndarray]:
    folder = weights_folder(path)
    # A CheckpointManager or a composite save puts the arrays into a folder of this name.
    inner = folder / "default"
    folder = inner if inner.is_dir() and not inner.is_symlink() else folder
    if (folder / METADATA).exists():
        return read_orbax_folder(folder)
    # Not looked at for links: the cache of Hugging Face is made of them.
    found = next((folder / name for name in _HUGGING_FACE if (folder / name).is_file()), None)
    if found is None:
        raise ValueError(f"expected {_KINDS}, got another folder; an orbax folder has {METADATA} in it")
    with naming(found.name):
        return _read_file(found)


def _unwrapped(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Without the parts of names that say nothing."""
    if any(len(name) > 1000 for name in arrays):
        raise ValueError(f"expected names of at most 1000 letters, got {shown(max(arrays, key=len))!r}")
    bare = {".".join(part for part in name.split(".") if part not in _WRAPPED): name for name in arrays}
    if len(bare) < len(arrays):
        raise ValueError("expected arrays of distinct names, got two that differ in what a wrapper put into them")
    arrays = {short: arrays[name] for short, name in bare.items()}
    for _ in range(2):
        if all(name.startswith(_WRAPPER) for name in arrays):
            arrays = {name.removeprefix(_WRAPPER): array for name, array in arrays.items()}
    return arrays
