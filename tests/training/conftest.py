"""What the tests of training share."""

import pytest

from mlfem_jax.backbones.architectures import ARCHITECTURES
from tests.training.tiny_classifier import TINY


@pytest.fixture(scope="module")
def tiny():
    """A network in the registry that is trained in seconds, under the name "tiny"."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "tiny", TINY)
        yield
