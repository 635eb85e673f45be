"""How often XLA compiles: once for each (network, size, methods)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlfem_jax as mlfem
from mlfem_jax import faithfulness
from mlfem_jax.attribution.registry import method
from mlfem_jax.compilation import counted_compilations
from tests.networks import brightness_network, photographs


@pytest.fixture
def batches():
    """The functions compiled for a batch since the test began."""
    with counted_compilations() as names:
        yield lambda: sum("run_batch" in name for name in names)


def test_functions_are_counted_when_they_are_compiled():
    with counted_compilations() as names:
        twice = jax.jit(lambda x: x * 2)
        twice(np.ones(3, np.float32))
        twice(np.zeros(3, np.float32))
    twice(np.ones(4, np.float32))
    assert len(names) == 1


def test_one_function_for_any_number_of_images_and_batches(batches):
    network = brightness_network()
    mlfem.explain(network, photographs(9), batch_size=4)
    mlfem.explain(network, photographs(6), batch_size=4, output="photo")
    list(mlfem.explain(network, iter(photographs(5)), batch_size=4))
    mlfem.explain(network, [photographs(1, (20, 30))[0]] * 5, batch_size=4)
    assert batches() == 1


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16"])
def test_two_files_of_a_named_network_are_one_network_to_jit(name):
    one, other = (mlfem.load_backbone(name, weights="random") for _ in range(2))
    with counted_compilations() as names:
        for backbone in (one, other):
            mlfem.explain(backbone, photographs(1, (32, 32)), method="fem", resize="native")
    assert sum("run_batch" in name for name in names) == 1


def test_one_function_for_each_method_option_size_dtype_and_network(batches):
    network = brightness_network()
    for count, options in enumerate(
        [
            {"method": "add"},
            {"method": "max"},
            {"method": "add", "alpha": 0.25},
            {"method": "add", "dtype": jnp.bfloat16},
            {"method": "add", "batch_size": 2},
        ],
        start=1,
    ):
        for _ in range(2):
            mlfem.explain(network, photographs(4), **options)
        assert batches() == count
    mlfem.explain(network, photographs(4, (6, 10)), resize="native")
    assert batches() == 6
    mlfem.explain(brightness_network(), photographs(4))
    assert batches() == 7


def test_one_function_for_a_set_of_methods(batches):
    methods = method("add"), method("max"), method("fem")

    def all_of_them(forward):
        return [method(forward) for method in methods]

    network = brightness_network()
    for _ in range(2):
        assert len(list(mlfem.map_batches(network, photographs(5), all_of_them, batch_size=2))) == 5
    assert batches() == 1


def test_auto_runs_what_it_compiled_to_see_what_fits(batches):
    network = brightness_network()
    mlfem.explain(network, photographs(5), batch_size="auto")
    assert batches() == 1


def test_nothing_is_compiled_between_batches():
    with counted_compilations() as names:
        rows = mlfem.map_batches(
            brightness_network(), iter(photographs(11)), lambda forward: forward.logits, batch_size=4
        )
        next(rows)
        first = len(names)
        assert len(list(rows)) == 10  # the last of them from a batch that is filled up
    assert len(names) == first == 1


def test_scores_compile_one_function_for_a_data_set():
    pytest.importorskip("grain", reason="needs Grain")
    from mlfem_jax.data.batches import read_batches
    from mlfem_jax.data.example import ExampleFormat
    from mlfem_jax.scores.batch import score_batches
    from mlfem_jax.scores.plan import Plan
    from tests.scores.score_network import tiny_source

    plan = Plan((("add", method("add")),), ("pcc", "nss"), sigma_px=2.0, humans=True, map_size=4)
    network, totals = brightness_network(), np.zeros((8, 8), np.int32)
    batches = read_batches(tiny_source(11), ExampleFormat((8, 8), 4, classes=3), batch_size=4)
    with counted_compilations() as names:
        scored = score_batches(network, batches, plan, totals)
        next(scored)
        first = len(names)
        assert len(list(scored)) == 2
        assert len(list(score_batches(network, batches, plan, totals))) == 3
    assert len(names) == first
    assert sum("run_batch" in name for name in names) == 1


def test_cached_maps_compile_one_function_for_a_data_set(tmp_path):
    pytest.importorskip("grain", reason="needs Grain")
    from mlfem_jax.data.example import ExampleFormat, make_example
    from mlfem_jax.fusion.inputs import MapRecipe, image_maps
    from mlfem_jax.training.fusion.reading import cached_maps
    from tests.scores.score_network import tiny_source

    network, source, example_format = brightness_network(), tiny_source(11), ExampleFormat((8, 8), 4)
    recipe, seen = MapRecipe(("fine", "coarse"), (1.0, 2.0), 2), []
    with counted_compilations() as names:
        batches = {"batch_size": 4, "on_batch": lambda images: seen.append((images, len(names)))}
        maps = cached_maps(network, source, example_format, recipe, tmp_path, **batches)
    assert [images for images, _ in seen] == [4, 4, 3]
    assert seen[0][1] == seen[-1][1] == len(names) and sum("run_batch" in name for name in names) == 1
    photos = np.stack([make_example(record, example_format)["images"] for record in source])
    np.testing.assert_allclose(list(maps), image_maps(network, photos, recipe), atol=1e-3)  # kept as float16


@pytest.mark.parametrize("name", ["insertion_curve", "deletion_auc", "confidence_change", "local_lipschitz",
                                  "randomization_check"])  # fmt: skip
def test_faithfulness_compiles_one_function_for_images_of_a_size(name):
    network, key, fem = brightness_network(), jax.random.key(0), method("fem")
    maps = np.random.default_rng(0).random((3, 8, 8), np.float32)

    def score(image, importance):
        if name in ("local_lipschitz", "randomization_check"):
            return getattr(faithfulness, name)(network, key, image, method=fem)
        return getattr(faithfulness, name)(network, image, importance)

    with counted_compilations() as names:
        score(photographs(1)[0], maps[0])
        first = len(names)
        for image, importance in zip(photographs(2, seed=1), maps[1:], strict=True):
            score(image, importance)
    assert 1 <= len(names) == first
