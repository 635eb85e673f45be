"""Strict settings for every test: shapes checked, ranks and dtypes never promoted in silence.

Most of a test's time is XLA's, which compiles some thousand small programs: it does so without its costly passes, and
what it compiled is kept for the processes that tests start and for the next run. A test that computes longer than it
compiles asks for `optimized`; one of a network as it is run, with its activations stored once, for `stored_once`.
"""

import os
from pathlib import Path

os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_use_fusion_emitters=false"
    " --xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"
)
os.environ["KERAS_BACKEND"] = "jax"

import jax
import pytest
from jaxtyping import install_import_hook

install_import_hook("mlfem_jax", "beartype.beartype")

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

MAPS = Path("/proc/self/maps")
PLAIN = pytest.MonkeyPatch()
COMPILING = {
    "jax_disable_most_optimizations": True,
    "jax_persistent_cache_min_compile_time_secs": 0.1,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


def pytest_configure(config):
    for name, value in COMPILING.items() | {("jax_compilation_cache_dir", str(config.cache.mkdir("xla")))}:
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)
    read_plainly()


def read_plainly():
    PLAIN.setattr(
        "mlfem_jax.backbones.networks.once._behind_a_conditional", lambda function, *inputs: function(*inputs)
    )


@pytest.fixture(autouse=True, scope="module")
def programs_are_let_go():
    """JAX keeps programs, each a few memory maps, and at the 65,530 that Linux gives a process, XLA crashes.

    No module has more than 25,000, so that they are let go of while there is room for another one.
    """
    yield
    if not MAPS.exists() or MAPS.read_bytes().count(b"\n") > 25_000:
        jax.clear_caches()


@pytest.fixture
def optimized():
    """Level 1 instead of none: programs take four times as long to compile, and loops a tenth of the time to run."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def stored_once():
    """Networks as they are: each activation behind a conditional, which doubles the time that XLA takes to compile."""
    PLAIN.undo()
    yield
    read_plainly()


@pytest.fixture(scope="session")
def efficientnet():
    """EfficientNet-Lite0 with its real ImageNet weights."""
    from mlfem_jax import load_backbone

    return load_backbone("efficientnet_lite0")
