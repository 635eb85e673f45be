"""Checkpoints: exact, atomic, and refused by name when they are not what they should be."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import chex
import grain
import jax
import jax.numpy as jnp
import optax
import pytest

from mlfem_jax.training import checkpoints
from mlfem_jax.training.checkpoints import checkpoint_steps, open_checkpoints, restore_checkpoint, save_checkpoint


def state():
    params = {"kernel": jnp.arange(6.0).reshape(2, 3), "layers": {0: jnp.ones(2)}}
    key = jax.random.key_data(jax.random.key(3))
    return {"params": params, "optimizer": optax.adamw(1e-3).init(params), "step": jnp.int32(7), "key": key}


def reader(read=0):
    iterator = iter(grain.MapDataset.range(20).batch(2).to_iter_dataset())
    for _ in range(read):
        next(iterator)
    return iterator


def save(folder, *steps_and_scores):
    with open_checkpoints(folder, state()) as manager:
        for step, score in steps_and_scores:
            save_checkpoint(manager, step, state(), reader(3), score=score)


@pytest.fixture
def saved(tmp_path):
    save(tmp_path, (7, 0.5))
    return tmp_path


def test_what_comes_back_is_what_went_in(saved):
    batches = reader()
    found = restore_checkpoint(saved, 7, jax.eval_shape(state), batches)
    assert next(batches).tolist() == [6, 7]
    assert jax.tree.structure(found) == jax.tree.structure(state())
    chex.assert_trees_all_equal(found, jax.device_get(state()), strict=True)


def test_another_number_of_processes_goes_on_at_the_same_batch(saved):
    """As two processes would have left it: each reads its share of every batch."""
    place = saved / "step_00000007"
    (place / "reader" / "process_0-of-1.json").rename(place / "reader" / "process_0-of-2.json")
    manifest = (place / "checkpoint.json").read_text()
    (place / "checkpoint.json").write_text(manifest.replace("process_0-of-1", "process_0-of-2"))
    batches = reader()
    restore_checkpoint(saved, 7, state(), batches)
    assert next(batches).tolist() == [6, 7]


def test_a_full_disk_is_an_error_that_names_the_folder(saved, monkeypatch):
    def full(place):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoints, "_sync", full)
    with pytest.raises(OSError, match="No space left on device") as error:
        save(saved, (9, 0.7))
    assert error.value.filename == str(saved)
    monkeypatch.undo()
    save(saved, (9, 0.7))
    assert checkpoint_steps(saved) == (9,)


def test_only_the_newest_and_the_best_stay(saved):
    save(saved, (8, 0.9), (9, 0.1), (10, 0.8))
    assert checkpoint_steps(saved) == (8, 10)
    save(saved, (11, 0.7))  # by a process that has not seen the others
    assert checkpoint_steps(saved) == (8, 11)
    save(saved, (12, 0.9))
    assert checkpoint_steps(saved) == (12,), "of two that are as good, the newer"
    with pytest.raises(FileExistsError, match="expected no checkpoint of step 12, got one already"):
        save(saved, (12, 0.9))


def test_what_a_killed_process_left_is_no_checkpoint(saved):
    shutil.copytree(saved / "step_00000007", saved / "step_00000008.orbax-checkpoint-tmp")
    assert checkpoint_steps(saved) == (7,)
    save(saved, (8, 0.6))
    assert sorted(path.name for path in saved.iterdir()) == ["step_00000008"]


KILLED = """
import os, signal, sys
from mlfem_jax.training import checkpoints
from tests.training.test_checkpoints import save

def kill(place):
    assert (place / "state" / "manifest.ocdbt").exists()
    os.kill(os.getpid(), signal.SIGKILL)

checkpoints._hashes = kill
save(sys.argv[1], (8, 0.9))
"""


def test_a_process_killed_between_the_arrays_and_the_hashes_leaves_the_older_checkpoint(saved):
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    ended = subprocess.run([sys.executable, "-c", KILLED, str(saved)], env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert checkpoint_steps(saved) == (7,) and len(list(saved.iterdir())) == 2
    chex.assert_trees_all_equal(restore_checkpoint(saved, 7, state()), jax.device_get(state()), strict=True)
    save(saved, (8, 0.9))
    assert sorted(path.name for path in saved.iterdir()) == ["step_00000008"]


def test_truncation_is_named(saved):
    victim = max((path for path in saved.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-1])
    with pytest.raises(ValueError, match=rf"step_00000007: expected .*, got truncated or changed.*{victim.name}"):
        restore_checkpoint(saved, 7, state())


def test_a_flipped_byte_is_named(saved):
    """Orbax restores it in silence."""
    (data,) = (saved / "step_00000007" / "state" / "d").iterdir()
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with pytest.raises(ValueError, match=rf"expected .*, got truncated or changed.*{data.name}"):
        restore_checkpoint(saved, 7, state())


def test_a_missing_file_is_named(saved):
    (saved / "step_00000007" / "reader" / "process_0-of-1.json").unlink()
    with pytest.raises(ValueError, match=r"expected .*, got truncated or changed.*process_0-of-1.json"):
        restore_checkpoint(saved, 7, state())


@pytest.mark.parametrize("content", [None, "", "[]", '{"kind": "something else"}'])
def test_a_foreign_folder_is_named(tmp_path, content):
    (tmp_path / "step_00000003").mkdir()
    if content is not None:
        (tmp_path / "step_00000003" / "checkpoint.json").write_text(content)
    with pytest.raises(ValueError, match="step_00000003: expected a checkpoint of this library, got"):
        restore_checkpoint(tmp_path, 3, state())


def test_another_network_is_named(saved):
    other = state() | {"params": {"kernel": jnp.zeros((2, 4)), "layers": {0: jnp.ones(2)}}}
    with pytest.raises(ValueError, match=r"expected .* this network, got one of another network.*kernel.*\(2, 4\)"):
        restore_checkpoint(saved, 7, other)
