"""Runs that are killed, split over devices, or asked for with another config: each in a process of its own."""

import json
import socket

import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from mlfem_jax.data.batches import read_examples
from mlfem_jax.parallel.devices import batch_sharding
from mlfem_jax.runs import claim
from mlfem_jax.training.loop import train
from mlfem_jax.training.run import plot_curves, read_metrics
from tests.forked import ended, start
from tests.training import run_split, run_tiny


def finished(started):
    """The lines of a process that is to end well."""
    code, said = ended(started)
    assert code == 0
    return said.splitlines()


def killed(started, step):
    """Kills a process (SIGKILL) when it has done a step."""
    process, output = started
    assert any(line.split()[0] == step for line in output)
    process.kill()
    assert ended(started)[0] == -9


def losses(lines):
    return {int(step): loss for step, loss in (line.split() for line in lines if line[0].isdigit())}


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def assert_same_losses(lines, expected):
    found, expected = losses(lines), losses(expected)
    assert found.keys() == expected.keys()
    for step, loss in found.items():
        assert float.fromhex(loss) == pytest.approx(float.fromhex(expected[step]), rel=1e-5)


@pytest.fixture(scope="module", params=["fusion", "classifier"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def whole(kind, tmp_path_factory):
    """A run that nobody disturbed: (folder, its lines)."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, finished(start(run_tiny.main, kind, folder))


@pytest.mark.parametrize("killed_at", [5])
def test_a_killed_run_goes_on_to_the_same_losses(kind, whole, tmp_path, killed_at):
    killed(start(run_tiny.main, kind, tmp_path), str(killed_at))
    lines = finished(start(run_tiny.main, kind, tmp_path))
    resumed, expected = losses(lines), losses(whole[1])
    assert min(resumed) > 1, "it began anew"
    assert resumed == {step: expected[step] for step in resumed}
    assert lines[-1] == whole[1][-1]
    assert read_metrics(tmp_path) == read_metrics(whole[0])


def test_devices_share_a_batch_and_the_losses_agree(kind, whole, tmp_path):
    lines = finished(start(run_tiny.main, kind, tmp_path, 8))
    assert lines[-1].split()[-1] == "8"
    assert_same_losses(lines, whole[1])


def test_no_device_ever_holds_more_of_the_state_than_its_part(tmp_path):
    assert finished(start(run_split.main, tmp_path)) == ["checked"]


def two_processes(kind, folder):
    port = free_port()
    return [start(run_tiny.main, kind, folder, 1, port, index, 2) for index in range(2)]


def test_processes_share_a_batch_and_one_that_dies_ends_the_run_which_goes_on(kind, whole, tmp_path):
    first, second = two_processes(kind, tmp_path)
    killed(second, "5")
    first[0].join(60)
    assert first[0].exitcode is not None and ended(first)[0] != 0
    assert max(row["step"] for row in read_metrics(tmp_path)) < 9
    for lines in map(finished, two_processes(kind, tmp_path)):
        assert lines[-1].split()[-1] == "2"
        resumed, expected = losses(lines), losses(whole[1])
        assert 1 < min(resumed) and max(resumed) == 9
        assert_same_losses(lines, [f"{step} {expected[step]}" for step in resumed])
    assert [row["step"] for row in read_metrics(tmp_path)] == [2, 4, 6, 8, 9]


def test_metrics_and_curves(whole):
    folder, lines = whole
    rows = read_metrics(folder)
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 9]
    assert [loss for row in rows for loss in row["losses"]] == [float.fromhex(v) for v in losses(lines).values()]
    assert plot_curves(folder).read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "run.json").read_text())["versions"]["jax"]


@pytest.mark.parametrize("line", ['{"step": 1, "lo', "[]", "{}", '{"step": "x"}'])
def test_damaged_metrics_are_named(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n' + line)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/metrics\.jsonl, line 2: expected a report of a training"):
        read_metrics(tmp_path)


def test_training_learns(whole):
    rows = read_metrics(whole[0])
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_another_config_is_an_error_that_shows_the_difference(tmp_path):
    claim(tmp_path, {"seed": 0, "layers": ("a", "b")})
    claim(tmp_path, {"seed": 0, "layers": ("a", "b")})
    with pytest.raises(ValueError, match=r"other settings.*\(seed: expected 0, got 1\)$"):
        claim(tmp_path, {"seed": 1, "layers": ("a", "b")})
    with pytest.raises(FileExistsError, match="expected a folder without a run, got one that holds a run already"):
        claim(tmp_path, {"seed": 0, "layers": ("a", "b")}, resume=False)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    reading = read_examples(lambda position: {"x": np.float32(position)}, np.arange(2), batch_size=1, epochs=2)
    with pytest.raises(ValueError, match=r"expected a finite loss by step 2, got \[nan"):
        train(
            tmp_path,
            Partial(lambda: {"weight": jnp.zeros(())}),
            iter(reading),
            lambda state, batch: (state, jnp.float32(np.nan)),
            steps=4,
            every=2,
            validate=lambda state: {"score": 0.0},
            score="score",
            sharding=batch_sharding(1),
        )


def test_an_uneven_batch_is_named():
    import jax

    with pytest.raises(ValueError, match=r"batch_size: expected a multiple of the 2 devices, got 3"):
        batch_sharding(3, jax.local_devices() * 2)
