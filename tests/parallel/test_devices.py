import jax
import numpy as np
import pytest

import mlfem_jax as mlfem
from mlfem_jax.parallel.devices import chosen_devices, replicate
from tests.forked import ended, start
from tests.networks import brightness_network, photographs
from tests.parallel import run_devices


def test_eight_devices_give_the_maps_of_one():
    assert ended(start(run_devices.main)) == (0, "all equal\n")


def test_the_default_device_is_respected():
    device = jax.local_devices()[0]
    assert chosen_devices(None) == tuple(jax.local_devices())
    with jax.default_device(device):
        assert chosen_devices(None) == (device,)
    with jax.default_device("cpu"):
        assert chosen_devices(None) == tuple(jax.local_devices(backend="cpu"))


@pytest.mark.parametrize("count", [0, 2])
def test_no_device_or_the_same_twice_is_refused(count):
    with pytest.raises(ValueError, match="devices: expected at least one device, each of them once"):
        mlfem.explain(brightness_network(), photographs(2), devices=jax.local_devices()[:1] * count)


def test_parameters_that_are_there_are_not_put_again():
    device = jax.local_devices()[0]
    placed = jax.device_put(brightness_network(), device)
    assert replicate(placed, (device,)) is placed
    on_host = mlfem.Backbone(**{**vars(placed), "params": np.float32(1)})
    assert replicate(on_host, (device,)).params.devices() == {device}
