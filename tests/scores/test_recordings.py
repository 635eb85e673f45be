"""Signals and films with events: their rows are those of slow loops; what is for photographs alone is refused."""

import contextlib
import dataclasses
import io
import math

import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("grain", reason="needs Grain")
pytest.importorskip("pyarrow", reason="needs pyarrow")

import mlfem_jax as mlfem
from mlfem_jax.data.split import scan
from mlfem_jax.scores.config import Config
from mlfem_jax.scores.recordings import recording_format, without_flat_metrics
from mlfem_jax.scores.run import score_records
from mlfem_jax.scores.small import FRAMES, shown_frames
from mlfem_jax.scores.table import read_pictures, read_scores
from tests.networks import brightness_network
from tests.scores.score_network import CONFIG

LENGTH = 16
SIGNALS = {
    "name": "signals",
    "sigma_px": [1.5],
    "class_names": [],
    "recording": {"shape": [LENGTH], "dtype": "float32"},
}
METRICS = ("pcc", "nss", "mass_inside", "pointing_game")


def signal_network():
    """Layer "fine" is the signal itself, "coarse" the means of pairs."""

    def apply(params, signals):
        pairs = signals.reshape(len(signals), LENGTH // 2, 2).mean(axis=2)
        return signals[:, :2], {"fine": signals[..., None] * params, "coarse": pairs[..., None] * params}

    return mlfem.from_function(apply, jnp.float32(1), input_shape=(LENGTH,))


def stored(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def record(name, values, events, *, end=None, observers=None):
    events, shape = np.array(events, np.float32), np.shape(values)
    size = np.array(shape[: events.shape[1]], np.int32)
    box = np.concatenate([np.zeros_like(size), size])
    box[len(size)] = end or size[0]
    return {
        "image": stored(values), "id": name.encode(), "size": size, "fixations": events,
        "observers": np.array(observers or [-1] * len(events), np.int32), "density": b"",
        "durations": np.zeros(len(events), np.float32), "labels": np.zeros(0, np.int32), "clutter": np.int32(-1),
        "content_box": box,
    }  # fmt: skip


def signals():
    draw = np.random.default_rng(0)
    values = (draw.uniform(0, 1, (3, LENGTH)) ** 6).astype(np.float32)  # few are strong, for FEM
    return [
        record("one", values[0], [[4.2]]),
        record("two", values[1], [[2.0], [9.6]]),
        record("short", values[2], [[7.5]], end=11),
    ]


def scored(out, source, dataset, network, **options):
    config = dataclasses.replace(CONFIG, out=out, methods=("add", "center"), metrics=METRICS, **options)
    score_records(config, source, dataset, network)
    return read_scores(out).to_pylist()


def by_hand(importance, events, sigma, end):
    """The four scores of a map over the first `end` samples, by loops."""
    values = [float(value) for value in importance[:end]]
    density = [sum(math.exp(-0.5 * ((i - t) / sigma) ** 2) for t in events) for i in range(end)]
    a, b = (np.array(numbers) - np.mean(numbers) for numbers in (values, density))
    places = [math.floor(t + 0.5) for t in events]
    near = [any(abs(i - t) <= 2 * sigma for t in events) for i in range(end)]
    return {
        "pcc": (a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum()),
        "nss": np.mean([a[place] for place in places]) / np.std(values),
        "mass_inside": sum(value for value, inside in zip(values, near, strict=True) if inside) / sum(values),
        "pointing_game": float(near[int(np.argmax(values))]),
    }


def test_rows_of_signals_are_those_of_loops(tmp_path):
    source, network = signals(), signal_network()
    rows = scored(tmp_path / "out", source, SIGNALS, network)
    assert [(row["id"], row["method"]) for row in rows] == [
        (name, method) for name in ("one", "two", "short") for method in ("add", "center")
    ]
    maps = np.asarray(mlfem.explain(network, np.stack([np.load(io.BytesIO(r["image"])) for r in source]), method="add"))
    for row, importance, own in zip(rows[::2], maps, source, strict=True):
        expected = by_hand(importance, own["fixations"][:, 0].tolist(), 1.5, int(own["content_box"][1]))
        for metric, value in expected.items():
            np.testing.assert_allclose(row[metric], value, rtol=1e-4, err_msg=f"{row['id']}: {metric}")
    pictures = list(read_pictures(tmp_path / "out"))
    assert len(pictures) == 3
    for (picture, kept), importance in zip(pictures, maps, strict=True):
        np.testing.assert_array_equal(np.load(io.BytesIO(picture["photo"])).shape, (LENGTH, 1))
        shown = np.frombuffer(kept[0]["map"], np.uint8)  # a row of LENGTH: shorter than eight sides of a small map
        np.testing.assert_allclose(shown, np.rint(importance / importance.max() * 255), atol=1)


def test_cuts_of_a_film_are_compared_with_the_course_of_a_map(tmp_path):
    draw, shape = np.random.default_rng(1), (10, 4, 6, 3)
    network = mlfem.from_function(
        lambda params, clips: (clips.mean(axis=(1, 2, 3)), {"change": clips * params}),
        jnp.float32(1),
        input_shape=shape,
        preprocess=lambda clips: clips.astype(jnp.float32) / 255,
    )
    clips = (255 * draw.uniform(0, 1, (2, *shape)) ** 6).astype(np.uint8)  # few are strong, for FEM
    dataset = {"name": "films", "sigma_px": [1.0], "class_names": [], "recording": {"shape": shape, "dtype": "uint8"}}
    source = [record("a", clips[0], [[3.5]], observers=[0]), record("b", clips[1], [[6.0]], observers=[1])]
    rows = scored(tmp_path / "out", source, dataset, network, batch_size=1)
    maps = np.asarray(mlfem.explain(network, clips, method="add"))
    for row, importance, at in zip([rows[0], rows[3]], maps, (3.5, 6.0), strict=True):
        assert row["method"] == "add"
        for metric, value in by_hand(importance.mean(axis=(1, 2)), [at], 1.0, 10).items():
            np.testing.assert_allclose(row[metric], value, rtol=1e-4, err_msg=metric)
    assert rows[2]["method"] == "humans"  # there are observers
    (picture, kept), _ = read_pictures(tmp_path / "out")
    strip = np.load(io.BytesIO(picture["photo"]))
    assert strip.shape == (149, 224 * FRAMES, 3) and strip.dtype == np.uint8
    assert len(kept[0]["map"]) == 4 * 4 * FRAMES  # sides of 4


def test_the_frame_of_an_event_is_in_the_strip():
    assert shown_frames(100, jnp.float32(40.4)).tolist() == [0, 14, 28, 40, 57, 71, 85, 99]
    assert shown_frames(5, np.float32(9)).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ("emd", "irof")}, "metrics: expected what recordings lend themselves to, got emd, irof"),
        ({"metrics": ("gaze", "irof")}, "metrics: expected what recordings lend themselves to, got irof"),
        ({"compare_in": "photo"}, "compare_in: expected what recordings lend themselves to, got photo"),
        ({"frame": (4, 4)}, "frame: expected"),
        ({"rule": "letterbox"}, "rule: expected"),
        ({"bars": True}, "bars: expected"),
        ({"gold": True}, "gold: expected at least two observers"),
    ],
)
def test_what_is_for_photographs_alone_is_refused(tmp_path, options, message):
    config = Config(tmp_path, tmp_path / "out", methods=("center",), **options)
    with pytest.raises(ValueError, match=message):
        score_records(config, signals(), SIGNALS, signal_network())
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_recordings_of_another_length_are_refused_before_anything_is_computed(tmp_path):
    config = Config(tmp_path, tmp_path / "out")
    dataset = SIGNALS | {"recording": {"shape": [20], "dtype": "float32"}}
    with pytest.raises(
        ValueError, match=r"signals: expected recordings of shape \(16,\), as .* got recordings of shape"
    ):
        score_records(config, signals(), dataset, signal_network())
    with pytest.raises(ValueError, match=r"signals: expected photographs, as .* takes, got recordings"):
        score_records(config, signals(), SIGNALS, brightness_network())


def test_sound_of_another_rate_than_the_networks_is_refused(tmp_path):
    network = dataclasses.replace(signal_network(), name="crepe_tiny")
    for rate, refused in ((8000, True), (16000, False), (None, False)):
        dataset = {"name": "tones", "class_names": [], "recording": {"shape": [LENGTH], "samples_per_s": rate}}
        dataset["recording"]["dtype"] = "float32"
        message = "tones: expected 16000 samples a second, as crepe_tiny takes, got 8000; see .*--samples-per-s 16000"
        with pytest.raises(ValueError, match=message) if refused else contextlib.nullcontext():
            recording_format(dataset, scan(signals()), network)


def test_a_kind_of_metrics_leaves_those_of_photographs_out(capsys):
    config = dataclasses.replace(CONFIG, metrics=("gaze", "model"))
    kept = without_flat_metrics(config).metrics
    assert {"pcc", "nss", "insertion"} <= set(kept) and not {"emd", "irof"} & set(kept)
    assert capsys.readouterr().err == "metrics: emd, irof left out, for photographs alone\n"
    named = dataclasses.replace(CONFIG, metrics=("emd", "gaze"))
    assert "emd" in without_flat_metrics(named).metrics  # which is refused by name
    assert capsys.readouterr().err == ""
