"""The devices that are compiled for where there are none: what their compilers must be told, and their peaks."""

import dataclasses
import importlib.util
import os
from collections.abc import Mapping

import jax
from jax.experimental import topologies

from mlfem_jax.parallel import Devices


@dataclasses.dataclass(frozen=True)
class Target:
    """A kind of device.

    Attributes:
        platform: as JAX names it to a compiler.
        topologies: number of devices to the machine with as many.
        extra: the optional packages that compile for it.
        module: one of them, by which they are found.
        flops_per_s: peak of bfloat16 products; 0 is not known.
        bytes_per_s: peak of its large memory.
        config: what a compiler that sees no device must be told of it, in protobuf's text form.
    """

    platform: str
    topologies: Mapping[int, str] = dataclasses.field(default_factory=dict)
    extra: str = ""
    module: str = ""
    flops_per_s: float = 0.0
    bytes_per_s: float = 0.0
    config: str = ""


# The facts of an H100 SXM: what its driver tells of it.
_H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  threads_per_block_limit: 1024 threads_per_core_limit: 2048 threads_per_warp: 32
  registers_per_block_limit: 65536 registers_per_core_limit: 65536
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
  l2_cache_size: 52428800 memory_bandwidth: 3352320000000 device_memory_size: 84942979072
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 12 minor: 8 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
_TPU, _CUDA = {"platform": "tpu", "extra": "tpu-compile", "module": "libtpu"}, "jax_plugins.xla_cuda12"
TARGETS: Mapping[str, Target] = {
    "v5e": Target(**_TPU, topologies={4: "v5e:2x2", 16: "v5e:4x4"}, flops_per_s=197e12, bytes_per_s=819e9),
    "v6e": Target(**_TPU, topologies={4: "v6e:2x2", 16: "v6e:4x4"}, flops_per_s=918e12, bytes_per_s=1640e9),
    "v5p": Target(**_TPU, topologies={4: "v5p:2x2x1", 16: "v5p:2x2x4"}, flops_per_s=459e12, bytes_per_s=2765e9),
    "h100": Target("cuda", {4: "1x1x4", 16: "1x2x8"}, "cuda-compile", _CUDA, 989e12, 3352e9, _H100),
    "cpu": Target("cpu"),
}
"""By name. "cpu" is this machine, whose peaks nobody stated."""

# Without a TPU, libtpu would ask the network which machine this is; and a lock would let one process in at a time.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",  # cuDNN is not needed to compile
}


def compile_only() -> None:
    """Keeps JAX to the CPU, before it looks for devices; and says to the compilers that there are none."""
    jax.config.update("jax_platforms", "cpu")
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def target_devices(name: str, count: int) -> Devices:
    """Devices that can be compiled for, and nothing else.

    Args:
        name: in `TARGETS`.
        count: how many; of an accelerator up to 16.

    Raises:
        ValueError: what compiles for it is not installed; fewer devices than that.
    """
    target = TARGETS[name]
    topology = next((place for most, place in target.topologies.items() if count <= most), "")
    if target.platform == "cpu":
        found = tuple(jax.devices("cpu"))
    elif not is_installed(name):
        raise ValueError(f"targets: expected pip install 'mlfem-jax[{target.extra}]' before {name!r}, got no compiler")
    elif not topology:
        found = ()
    elif target.platform == "tpu":
        found = tuple(topologies.get_topology_desc(platform="tpu", topology_name=topology).devices)
    else:
        about = {"target_config": target.config, "topology": topology}
        found = tuple(topologies.get_topology_desc(platform="cuda", **about).devices)
    if not 0 < count <= len(found):
        raise ValueError(
            f"devices: expected 1 to {max(target.topologies, default=len(found))} of {name!r}, got {count}"
        )
    return found[:count]


def is_installed(name: str) -> bool:
    """Whether what compiles for a target is installed."""
    module = TARGETS[name].module
    if not module:
        return True
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False
