"""Checkpoints: exact, atomic, and refused by name when they are not what they should be."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mlfem_jax.training.checkpoints import checkpoint_steps, restore_checkpoint, save_checkpoint


def state():
    params = {"kernel": jnp.arange(6.0).reshape(2, 3), "layers": {0: jnp.ones(2)}}
    key = jax.random.key_data(jax.random.key(3))
    return {"params": params, "optimizer": optax.adamw(1e-3).init(params), "step": jnp.int32(7), "key": key}


@pytest.fixture
def saved(tmp_path):
    save_checkpoint(tmp_path, 7, state(), {"next_index": np.int64(5), "parent": {"exhausted": False}})
    return tmp_path


def test_what_comes_back_is_what_went_in(saved):
    found, position = restore_checkpoint(saved, 7, jax.eval_shape(state))
    assert position == {"next_index": 5, "parent": {"exhausted": False}}
    assert jax.tree.structure(found) == jax.tree.structure(state())
    jax.tree.map(np.testing.assert_array_equal, found, jax.device_get(state()))


def test_only_the_newest_and_what_is_kept_stay(saved):
    for step in (8, 9, 10):
        save_checkpoint(saved, step, state(), {}, keep=(8,))
    assert checkpoint_steps(saved) == (8, 10)


def test_what_a_killed_process_left_is_no_checkpoint(saved):
    shutil.copytree(saved / "step_00000007", saved / ".step_00000008.part")
    assert checkpoint_steps(saved) == (7,)
    save_checkpoint(saved, 8, state(), {})
    assert checkpoint_steps(saved) == (8,)


def test_truncation_is_named(saved):
    victim = max((path for path in saved.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-1])
    with pytest.raises(ValueError, match=rf"step_00000007: truncated or changed.*{victim.name}"):
        restore_checkpoint(saved, 7, state())


def test_a_missing_file_is_named(saved):
    (saved / "step_00000007" / "position.json").unlink()
    with pytest.raises(ValueError, match=r"truncated or changed.*position.json"):
        restore_checkpoint(saved, 7, state())


@pytest.mark.parametrize("content", [None, "", "[]", '{"kind": "something else"}'])
def test_a_foreign_folder_is_named(tmp_path, content):
    (tmp_path / "step_00000003").mkdir()
    if content is not None:
        (tmp_path / "step_00000003" / "checkpoint.json").write_text(content)
    with pytest.raises(ValueError, match="step_00000003: not a checkpoint of this library"):
        restore_checkpoint(tmp_path, 3, state())


def test_another_network_is_named(saved):
    other = state() | {"params": {"kernel": jnp.zeros((2, 4)), "layers": {0: jnp.ones(2)}}}
    with pytest.raises(ValueError, match=r"another network.*kernel.*\(2, 4\)"):
        restore_checkpoint(saved, 7, other)
