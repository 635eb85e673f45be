"""A weighted sum of the maps of signals, trained on where their events are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("tensorflow_datasets", reason="needs TFDS")

import mlfem_jax as mlfem
from mlfem_jax.data.prepared.write import prepare
from mlfem_jax.fusion import load_fusion
from mlfem_jax.fusion.network import WeightedSum
from mlfem_jax.training.fusion import task
from mlfem_jax.training.fusion.step import Recipe
from mlfem_jax.training.fusion.task import Config, train_fusion

LENGTH = 16


def two_layers():
    """Layer "event" is the signal itself, "elsewhere" the same, moved by half its length."""

    def apply(params, signals):
        moved = jnp.roll(signals, LENGTH // 2, axis=1)
        return signals[:, :2], {"elsewhere": moved[..., None] * params, "event": signals[..., None] * params}

    return mlfem.from_function(apply, jnp.float32(1), input_shape=(LENGTH,), signs="as_is", name="two")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root, draw = tmp_path_factory.mktemp("spikes"), np.random.default_rng(0)
    (root / "recordings").mkdir()
    rows = ["recording,t"]
    for number in range(16):
        signal, at = draw.normal(0, 0.1, LENGTH), int(draw.integers(2, LENGTH - 2))
        signal[at] += 3
        np.save(root / "recordings" / f"s{number:02}.npy", signal)
        rows.append(f"s{number:02},{at}")
    (root / "events.csv").write_text("\n".join([*rows, ""]))
    return prepare("recordings", root, root / "built", sigma_px=1.0)


def test_the_sum_by_hand():
    net, maps = WeightedSum(2), jnp.array([[0.0, 1.0, 3.0], [2.0, 0.0, 0.0]])
    params = {"logits": jnp.log(jnp.array([0.25, 0.75]))}
    np.testing.assert_allclose(net.apply(params, maps), np.array([1.5, 0.25, 0.75]) / 2.5, rtol=1e-6)
    volume = maps.reshape(2, 1, 3, 1)
    np.testing.assert_allclose(net.apply(params, volume).ravel(), net.apply(params, maps), rtol=1e-6)
    assert net.apply(params, jnp.zeros((2, 3))).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match=r"maps: expected a stack \(2, \*S\), got shape \(3, 2\)"):
        net.apply(params, jnp.zeros((3, 2)))


@pytest.mark.parametrize("maps", ["cached", "computed"])
def test_it_learns_which_layer_shows_the_event(data, tmp_path, monkeypatch, maps):
    monkeypatch.setattr(task, "load_backbone", lambda name, weights: two_layers())
    recipe = Recipe(epochs=10, batch_size=8, learning_rate=0.3)
    train_fusion(
        Config(data, tmp_path / "out", "two", architecture="weights", ks=(1.0,), validation=0.0, maps=maps, every=20,
               cache=tmp_path / "maps", recipe=recipe)
    )  # fmt: skip
    file = tmp_path / "out" / "fusion.safetensors"
    _, event = jax.nn.softmax(jnp.asarray(load_fusion(file).params["logits"]))
    assert event > 0.75
    signal = np.zeros((1, LENGTH), np.float32)
    signal[0, 5] = 1
    (found,) = mlfem.explain(two_layers(), signal, method="net", weights=str(file))
    assert found.shape == (LENGTH,) and found.argmax() == 5


def test_what_recordings_cannot_be_trained_on_is_refused(data, tmp_path, monkeypatch):
    monkeypatch.setattr(task, "load_backbone", lambda name, weights: two_layers())
    with pytest.raises(ValueError, match=r"architecture: expected architecture 'weights', and no frame, .* got 'unet'"):
        train_fusion(Config(data, tmp_path / "out", "two"))
    with pytest.raises(ValueError, match="shrink: expected 1 for recordings, whose maps are not made smaller, got 2"):
        train_fusion(Config(data, tmp_path / "out", "two", architecture="weights", shrink=2))
    other = mlfem.from_function(
        lambda params, x: (x[:, :2], {"x": x[..., None]}), (), input_shape=(9,), signs="as_is", name="two"
    )
    monkeypatch.setattr(task, "load_backbone", lambda name, weights: other)
    with pytest.raises(ValueError, match=r"expected recordings of shape \(9,\), as two takes, got .*\(16,\)"):
        train_fusion(Config(data, tmp_path / "out", "two", architecture="weights"))
