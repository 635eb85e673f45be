"""A tiny training run for a process of its own (tests/forked.py); prints each step's loss exactly."""

import re

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from mlfem_jax.backbones.architectures import ARCHITECTURES
from mlfem_jax.backbones.trainable import initial_weights, make_classifier
from mlfem_jax.data.batches import read_batches, read_examples
from mlfem_jax.data.example import ExampleFormat
from mlfem_jax.fusion.network import PaperNet
from mlfem_jax.parallel import devices as meshes
from mlfem_jax.parallel.devices import batch_sharding
from mlfem_jax.parallel.processes import Processes, start
from mlfem_jax.runs import claim
from mlfem_jax.training.classifier import step as classifier_step
from mlfem_jax.training.classifier.recipe import Recipe
from mlfem_jax.training.fusion import step as fusion_step
from mlfem_jax.training.loop import train
from tests.data.gaze_records import encode, make_record
from tests.training.tiny_classifier import SIZE, TINY

STEPS, EPOCHS, BATCH = 9, 3, 8


def example(position):
    """Maps and fixations, for the fusion."""
    rng = np.random.default_rng(position)
    return {
        "maps": rng.uniform(size=(2, 16, 16)).astype(np.float32),
        "fixations": rng.uniform(0, 15, (6, 2)).astype(np.float32),
        "fixation_mask": np.arange(6) < position % 6,
        "sigma_px": np.full(2, 2.0, np.float32),
    }


def compiled_once(step):
    """The step, compiled before it is first called: it gathers parameters and no activation, and takes the state."""
    compiled = []

    def checked(state, batch):
        first = not compiled
        if first:
            compiled.append(step.lower(state, batch).compile())
            gathered = re.findall(r"= \w+\[([\d,]*)\]\S* all-gather", compiled[0].as_text())
            large = [leaf.shape for leaf in jax.tree.leaves(state.params) if not leaf.is_fully_replicated]
            assert len(large) == 4 * (jax.device_count() > 1)
            assert sorted(tuple(map(int, dims.split(","))) for dims in gathered) == sorted(large)
        after = compiled[0](state, batch)
        # Later a checkpoint may still be being written from it.
        assert not first or all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
        return after

    return checked


def fusion():
    """(reader, what makes the state, step, sharding) of the fusion network."""
    net, recipe = PaperNet(2), fusion_step.Recipe(EPOCHS, batch_size=BATCH, learning_rate=1e-2)
    count = jax.process_count()
    own = {"batch_size": BATCH // count, "process_index": jax.process_index(), "process_count": count}
    reading = read_examples(example, np.arange(20), seed=0, epochs=EPOCHS, **own)
    step = fusion_step.make_step(net, recipe, STEPS, (16, 16))
    return reading, Partial(lambda: fusion_step.initial_state(net, recipe, STEPS)), step, batch_sharding(BATCH)


def classifier():
    """The same of a classifier, augmentation and all; two devices share a large array."""
    ARCHITECTURES["tiny"] = TINY
    network, recipe = make_classifier("tiny", 3), Recipe(epochs=EPOCHS, batch_size=BATCH, learning_rate=1e-2)
    photos = np.random.default_rng(0).integers(0, 256, (26, 20, 24, 3), dtype=np.uint8)
    source = [make_record(i, image=encode(photo), shape=(20, 24)) for i, photo in enumerate(photos)]
    order = {"seed": 0, "epochs": EPOCHS, "remainder": "drop"}
    example_format = ExampleFormat(SIZE, max_fixations=3, classes=3)
    reading = read_batches(source, example_format, batch_size=BATCH // jax.process_count(), **order)
    initial = Partial(
        lambda: classifier_step.initial_state(network, recipe, STEPS, *initial_weights(network, weights="random"))
    )
    sharding = batch_sharding(BATCH, shards=2 if jax.device_count() > 1 else 1)
    step = classifier_step.make_step(network, recipe, STEPS, "softmax", sharding[1])
    return reading.map(classifier_step.batch_fields), initial, compiled_once(step), sharding


def main(kind, folder, devices=1, port=None, *processes):
    """Trains in a folder, with so many simulated devices, as one of several processes where a port is given."""
    jax.config.update("jax_num_cpu_devices", devices)
    if port is not None:
        start(Processes(False, f"localhost:{port}", *processes, lost_after_s=5))
    meshes.LARGE = 40
    reading, initial, step, sharding = {"fusion": fusion, "classifier": classifier}[kind]()
    claim(folder, {"kind": kind})
    state = train(
        folder,
        initial,
        iter(reading),
        step,
        steps=STEPS,
        every=2,
        validate=lambda state: {"score": float(state.step)},
        score="score",
        sharding=sharding,
        on_loss=lambda step, loss: print(step, float(loss).hex(), flush=True),
    )
    result = state.beside if kind == "fusion" else (state.params, state.beside)
    # Compiled, since a process may have a part alone.
    total = jax.jit(lambda leaves: sum(jnp.abs(leaf).sum() for leaf in leaves))(jax.tree.leaves(result))
    print("end", float(total).hex(), jax.device_count(), flush=True)
