"""What the names in a `torch.save` pickle stand for: tensors, storages, and objects that are left out."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from mlfem_jax.backbones.files.inert_pickle import Inert, ordered_dict

_MAX_RANK = 32

# Both layouts store little-endian elements (a zip made elsewhere says so in its member "byteorder").
_STORAGE_DTYPES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(jnp.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


@dataclasses.dataclass(frozen=True)
class Storage:
    """Elements of tensors, which lie elsewhere in the file.

    Attributes:
        dtype: of the elements.
        key: what the file calls it.
        length: number of elements.
    """

    dtype: np.dtype
    key: str
    length: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor as the pickle has it: a view of a storage.

    Attributes:
        storage: its elements, and perhaps those of others.
        offset: of its first element.
        size: its shape.
        stride: elements from one to the next, along each axis.
    """

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def persistent_storage(identity: object) -> Storage:
    """The storage that a persistent id names.

    Raises:
        ValueError: it names something else.
    """
    match identity:
        case ("storage", np.dtype() as dtype, str(key), _, int(length), *view) if length >= 0:
            if any(part is not None for part in view):
                raise ValueError("expected whole storages, got views, which torch stopped writing in 2017")
            return Storage(dtype, key, length)
    raise ValueError("expected storages, got another persistent id; refused, and nothing in it was run")


def _tensor(storage: object, offset: object, size: object, stride: object, *rest: object) -> Tensor:
    # rest: requires_grad, backward hooks, and flags (conjugate, negative) that would change the values.
    if not isinstance(storage, Storage) or any(rest[2:]):
        raise ValueError("expected plain tensors, got one of a kind that is not read")
    size, stride, (start,) = _integers(size), _integers(stride), _integers((offset,))
    if len(size) != len(stride):
        raise ValueError("expected tensors with a stride for each length, got another number of them")
    return Tensor(storage, start, size, stride)


def _integers(values: object) -> tuple[int, ...]:
    # Found values are not shown: a few bytes of pickle can hold a list that prints without end.
    if not isinstance(values, tuple) or len(values) > _MAX_RANK:
        raise ValueError("expected tensors with short tuples as size and stride, got another")
    if not all(type(value) is int and 0 <= value < 2**63 for value in values):
        raise ValueError("expected tensors with natural numbers as offset, size and stride, got another")
    return values


def _parameter(tensor: object, *_: object) -> object:
    return tensor


# Harmless objects that people keep beside their tensors. They are not made: an `Inert` takes the place of each.
_BESIDE = """
    argparse.Namespace types.SimpleNamespace collections.Counter collections.defaultdict collections.deque
    datetime.date datetime.datetime datetime.time datetime.timedelta datetime.timezone decimal.Decimal
    fractions.Fraction uuid.UUID pathlib.Path pathlib.PosixPath pathlib.WindowsPath pathlib.PurePosixPath
    pathlib.PureWindowsPath _codecs.encode copy_reg._reconstructor copyreg._reconstructor
    numpy.dtype numpy.ndarray numpy.core.multiarray.scalar numpy.core.multiarray._reconstruct
    numpy._core.multiarray.scalar numpy._core.multiarray._reconstruct numpy.core.numeric._frombuffer
    numpy._core.numeric._frombuffer torch.device torch.strided torch.contiguous_format torch.channels_last
    torch.serialization._get_layout torch.torch_version.TorchVersion
    pytorch_lightning.utilities.parsing.AttributeDict lightning_fabric.utilities.data.AttributeDict
    lightning.fabric.utilities.data.AttributeDict lightning.pytorch.utilities.parsing.AttributeDict
    omegaconf.dictconfig.DictConfig omegaconf.listconfig.ListConfig omegaconf.base.ContainerMetadata
    omegaconf.base.Metadata omegaconf.nodes.AnyNode typing.Any easydict.EasyDict addict.addict.Dict
    yacs.config.CfgNode box.box.Box
""".split()
_BUILTINS = "set frozenset complex range slice bytearray bytes list dict tuple int float str bool object".split()
_TORCH_DTYPES = """
    float16 float32 float64 half float double bfloat16 uint8 int8 int16 int32 int64 short int long bool complex64
    complex128
""".split()

NAMES: dict[str, object] = {
    **{name: Inert(name) for name in _BESIDE},
    **{f"{module}.{name}": Inert(name) for module in ("builtins", "__builtin__") for name in _BUILTINS},
    **{f"torch.{name}": Inert(f"torch.{name}") for name in _TORCH_DTYPES},
    "collections.OrderedDict": ordered_dict,
    "torch.Size": lambda values: values,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    **{f"torch.{name}": dtype for name, dtype in _STORAGE_DTYPES.items()},
    **{f"torch.cuda.{name}": dtype for name, dtype in _STORAGE_DTYPES.items()},
}
"""What each global of the pickle stands for, by "module.name"; see `read_pickle`."""
