"""Recordings with a table of events: what is written, and what is refused."""

import io
import wave

import numpy as np
import pytest

pytest.importorskip("tensorflow_datasets", reason="needs TFDS")

from mlfem_jax.data.batches import open_dataset, read_batches
from mlfem_jax.data.example import ExampleFormat, make_example
from mlfem_jax.data.prepared.write import prepare
from mlfem_jax.data.recording import RecordingFormat, recording_example
from mlfem_jax.data.releases.recording_form import Cut
from mlfem_jax.data.releases.recordings import read_recordings
from mlfem_jax.data.releases.records import Problems
from mlfem_jax.data.split import fixation_totals, k_folds, scan


def write(root, recordings, events, labels=None):
    (root / "recordings").mkdir(parents=True)
    for name, values in recordings.items():
        np.save(root / "recordings" / f"{name}.npy", values)
    (root / "events.csv").write_text(events)
    if labels:
        (root / "labels.csv").write_text(labels)
    return root


def write_sound(path, samples, samples_per_s):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(samples_per_s)
        file.writeframes((samples * 9999).astype("<i2").tobytes())


def series():
    return {"a": np.arange(10.0), "b": np.arange(7.0) * 2, "c": np.zeros(4)}


EVENTS = "recording,t,observer\na,1,ann\na.npy,4.6,bob\na,9.8,\na,12,ann\nb,2,bob\nd,1,bob\n"


def test_windows_are_cut_around_events_and_filled_up(tmp_path, capsys):
    root = write(tmp_path / "raw", series(), EVENTS, "recording,label\na,fast\nb,slow\n")
    folder = prepare("recordings", root, tmp_path / "data", sigma_px=1.5, length=4)
    source = open_dataset(folder)
    found = {record["id"].decode(): record for record in (source[i] for i in range(len(source)))}
    expected = {  # numbers, events, observers, what exists
        "a@0": ([0, 1, 2, 3], [1], [0], 4),
        "a@4": ([4, 5, 6, 7], [0.6], [1], 4),
        "a@8": ([8, 9, 9, 9], [1], [-1], 2),
        "b@0": ([0, 2, 4, 6], [2], [1], 4),
    }
    assert found.keys() == expected.keys()
    for name, (numbers, events, observers, end) in expected.items():
        record = found[name]
        values = np.load(io.BytesIO(record["image"]))
        assert values.tolist() == numbers and values.dtype == np.float32
        np.testing.assert_allclose(record["fixations"], np.array(events)[:, None], atol=1e-6)
        assert record["observers"].tolist() == observers
        assert record["size"].tolist() == [4] and record["content_box"].tolist() == [0, end]
        assert record["labels"].tolist() == [name.startswith("b")]
        assert record["recording"].decode() == name[0]
    metadata = source.dataset_info.metadata
    assert metadata["sigma_px"] == [1.5] and metadata["recording"] == {"shape": [4], "dtype": "float32"}
    counts = {kind: problem["count"] for kind, problem in metadata["problems"].items()}
    assert counts == {
        "recordings without events (left out)": 1,
        "events without a recording (left out)": 1,
        "events outside the recording (moved onto its border)": 1,
        "events more than a sample outside the recording (dropped)": 1,
        "windows without events (left out)": 1,
    }
    assert "split full: 4 recordings, 4 events" in capsys.readouterr().out
    form = RecordingFormat((4, 1), scan(source).max_fixations, axes=1, classes=2)
    assert fixation_totals(source, form).tolist() == [0, 3, 1, 0]  # 0.6 rounds to 1
    (batch,) = read_batches(source, form, batch_size=5)
    assert batch.images.shape == (5, 4, 1) and batch.mask.tolist() == [True] * 4 + [False]
    with pytest.raises(ValueError, match=r"record '.@\d': expected a photograph, got a recording"):
        make_example(source[0], ExampleFormat((4, 4), 1))
    with pytest.raises(ValueError, match=r"record 'x': expected \(4, 1\) of uint8, got \(4,\) of float32"):
        recording_example(source[0], "x", RecordingFormat((4, 1), 1, axes=1, dtype="uint8"))


def test_sound_and_its_events_get_another_rate(tmp_path):
    pytest.importorskip("av")
    write_sound(tmp_path / "recordings" / "tone.wav", np.sin(np.arange(800) / 5), 8000)
    (tmp_path / "events.csv").write_text("recording,t\ntone.wav,100\n")
    folder = prepare("recordings", tmp_path, tmp_path / "data", sigma_px=10.0, samples_per_s=16000)
    source = open_dataset(folder)
    assert source[0]["fixations"].tolist() == [[200.5]] and source[0]["size"].tolist() == [1600]
    assert source.dataset_info.metadata["sigma_px"] == [20.0]
    assert source.dataset_info.metadata["recording"]["samples_per_s"] == 16000


def test_fixations_on_film_go_where_its_frames_go(tmp_path):
    av = pytest.importorskip("av")
    (tmp_path / "recordings").mkdir()
    with av.open(str(tmp_path / "recordings" / "gray.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 16, 8, "bgr0"
        for level in (40, 120, 200):
            picture = np.full((8, 16, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    (tmp_path / "events.csv").write_text("recording,t,y,x,observer\ngray,2,3.5,7.5,ann\n")
    folder = prepare("recordings", tmp_path, tmp_path / "data", sigma_px=(1.0, 4.0, 8.0), frame=(4, 4))
    source = open_dataset(folder)
    assert source[0]["fixations"].tolist() == [[2, 1.5, 1.5]] and source[0]["size"].tolist() == [3, 4, 4]
    assert source.dataset_info.metadata["sigma_px"] == [1, 2, 2]
    values = np.load(io.BytesIO(source[0]["image"]))
    assert values.dtype == np.uint8
    np.testing.assert_allclose(values.mean(axis=(1, 2, 3)), [40, 120, 200], atol=2)


def test_a_plane_may_have_events_along_both_axes(tmp_path):
    root = write(tmp_path, {"plane": np.zeros((3, 5))}, "recording,y,x\nplane,1,4\n")
    release = read_recordings(root, Problems())
    (example,) = release.read("plane")
    assert example.size == (3, 5) and example.content_box == (0, 0, 3, 5) and example.fixations.tolist() == [[1, 4]]


REFUSED = [
    (series(), "recording,t\na,1\nb,2\n", {"sigma_px": 1.0},
     r"b\.npy: expected \(10,\) of float32, as in .*a\.npy, got \(7,\).*; --length cuts"),
    (series() | {"b": np.zeros((10, 2))}, "recording,t\na,1\nb,2\n", {"sigma_px": 1.0},
     r"expected \(10,\) .*got \(10, 2\)"),
    (series(), "recording,t\na,1\n", {}, "sigma_px: expected one number of samples, or one for each of t, got none"),
    (series(), "recording,t\na,1\n", {"sigma_px": (1.0, 2.0)}, r"one for each of t, got \(1\.0, 2\.0\)"),
    (series(), "recording,when\na,1\n", {"sigma_px": 1.0}, "events.csv: expected the columns recording and t, or y"),
    (series(), "recording,y,x\na,1,1\n", {"sigma_px": 1.0}, r"a\.npy: expected events with 1 coordinates .*got 2"),
    (series(), "recording,t\na,40\n", {"sigma_px": 1.0}, r"expected recordings with events, got 1 without \(.*outside"),
    (series(), "recording,t\nz,40\n", {"sigma_px": 1.0}, r"expected recordings with events, got none \(rec"),
    (series(), "recording,t\na,0.1\na,0.3\n", {"sigma_px": 1.0}, "expected events in samples, .* are they seconds"),
    (series(), "recording,t\na,soon\n", {"sigma_px": 1.0}, "line 2: expected a number as t, got 'soon'"),
    ({"a": np.array([1.0, 1e300])}, "recording,t\na,1\n", {"sigma_px": 1.0},
     r"a\.npy: expected finite numbers, got 1 "),
    (series(), "recording,t\na,1\n", {"sigma_px": 1.0, "frame": (3, 3)},
     r"frame: expected none but for film, got \(3, 3\)"),
    (series(), "recording,t\na,1\n", {"sigma_px": 1.0, "samples_per_s": 7},
     r"samples_per_s: expected none but for sound, got 7 for .*a\.npy"),
    (series() | {"a@4": np.zeros(4)}, "recording,t\na,5\na@4,2\n", {"sigma_px": 1.0, "length": 4},
     r"a@4\.npy: expected a name that no window has, got that of one of .*a\.npy"),
    ({"a": np.array([1.0, np.nan])}, "recording,t\na,1\n", {"sigma_px": 1.0}, r"a\.npy: expected finite numbers"),
    ({}, "recording,t\na,1\n", {"sigma_px": 1.0}, r"recordings: expected files \(\.avi"),
    (series(), "recording,t\na,1\n", {"sigma_px": 1.0, "length": 0}, "expected numbers above 0"),
]  # fmt: skip


@pytest.mark.parametrize(("recordings", "events", "options", "message"), REFUSED)
def test_what_cannot_be_scored_is_refused_by_name(tmp_path, recordings, events, options, message):
    root = write(tmp_path / "raw", recordings, events)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        prepare("recordings", root, tmp_path / "data", **options)
    assert not list(tmp_path.rglob("dataset_info.json"))


def test_options_of_recordings_are_refused_for_photographs(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "fixations.csv").write_text("image,observer,x,y\n")
    with pytest.raises(ValueError, match="length, samples_per_s, sigma_px: expected none, and one number"):
        prepare("folder", tmp_path, tmp_path / "data", length=3)
    with pytest.raises(ValueError, match="length, frame and samples_per_s: expected numbers above 0"):
        Cut(length=-1)


def test_coordinates_of_volumes_are_z_y_x(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    voxels = np.zeros((4, 5, 6), np.float32)  # (x, y, z), as NIfTI has them
    voxels[1, 2, 5] = 7
    (tmp_path / "recordings").mkdir()
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "brain.nii.gz")
    (tmp_path / "brain.nii.gz").rename(tmp_path / "recordings" / "brain.NII.GZ")
    (tmp_path / "events.csv").write_text("recording,z,y,x\nbrain.nii,5,2,1\n")
    (example,) = read_recordings(tmp_path, Problems()).read("brain")
    values = np.load(io.BytesIO(example.image))
    assert example.size == values.shape == (6, 5, 4)
    assert values[tuple(example.fixations[0].astype(int))] == 7


def test_other_options_build_anew(tmp_path, capsys):
    pytest.importorskip("av")
    write_sound(tmp_path / "raw" / "recordings" / "tone.wav", np.sin(np.arange(800) / 5), 8000)
    (tmp_path / "raw" / "events.csv").write_text("recording,t\ntone,100\n")
    for option, again in (("length", False), ("samples_per_s", False), ("samples_per_s", True)):
        prepare("recordings", tmp_path / "raw", tmp_path / "data", sigma_px=10.0, **{option: 8000})
        assert ("nothing to do" in capsys.readouterr().out) == again


@pytest.mark.parametrize("names", [("a.nii", "a.nii.gz"), ("a.npy", "a.nii.gz"), ("a.npy", "a.wav")])
def test_two_files_of_one_name_are_refused(tmp_path, names):
    (tmp_path / "recordings").mkdir()
    for name in names:
        (tmp_path / "recordings" / name).write_bytes(b"x")
    (tmp_path / "events.csv").write_text("recording,t\na,1\n")
    with pytest.raises(ValueError, match=r"id 'a': expected one file, got .*/a\..* and .*/a\."):
        read_recordings(tmp_path, Problems())


@pytest.mark.parametrize("name", ["a.wav", "./a.npy", "recordings/a", "a.NPY", "a"])
def test_names_are_matched_as_those_of_images_are(tmp_path, name):
    root = write(tmp_path, {"a": np.arange(8.0)}, f"recording,t\n{name},5\n", f"recording,label\n{name},fast\n")
    problems = Problems()
    release = read_recordings(root, problems)
    (example,) = release.read("a")
    assert example.fixations.tolist() == [[5]] and example.labels == (0,) and not problems.counts


def test_suffixes_may_be_in_capitals(tmp_path):
    root = write(tmp_path, {"a": np.arange(8.0)}, "recording,t\na,5\n")
    (root / "recordings" / "a.npy").rename(root / "recordings" / "a.NPY")
    (example,) = read_recordings(root, Problems()).read("a")
    assert example.size == (8,)


def test_windows_of_a_recording_are_in_one_fold(tmp_path):
    names = [f"s{i}" for i in range(8)]
    events = "".join(f"{name},{t}\n" for name in names for t in (0, 4, 8, 12))
    root = write(tmp_path / "raw", {name: np.arange(16.0) for name in names}, "recording,t\n" + events)
    index = scan(open_dataset(prepare("recordings", root, tmp_path / "data", sigma_px=1.0, length=4)))
    assert len(set(index.ids)) == 32 and set(index.groups) == set(names)
    folds = [{index.ids[position].split("@")[0] for position in fold} for fold in k_folds(index.groups, 2)]
    assert folds[0] and folds[1] and not folds[0] & folds[1]


def test_the_first_recording_with_events_decides_the_form(tmp_path):
    recordings = {"a": np.arange(5.0), "b": np.arange(8.0), "c": np.zeros(8)}
    root = write(tmp_path / "raw", recordings, "recording,t\nb,3\nc,4\n")
    source = open_dataset(prepare("recordings", root, tmp_path / "data", sigma_px=1.0))
    assert len(source) == 2 and source.dataset_info.metadata["recording"]["shape"] == [8]


def test_events_at_the_onset_of_every_clip_are_no_shares(tmp_path):
    names = [f"s{i:02}" for i in range(12)]
    clips = {name: np.zeros((6, 4, 4)) for name in names}
    root = write(tmp_path / "raw", clips, "recording,t,y,x\n" + "".join(f"{name},0,3.5,2\n" for name in names))
    assert len(open_dataset(prepare("recordings", root, tmp_path / "data", sigma_px=1.0))) == 12
    (root / "events.csv").write_text("recording,t,y,x\n" + "".join(f"{name},0,0.5,0.2\n" for name in names))
    with pytest.raises(ValueError, match=r"events\.csv: expected events in samples, .* lie in \[0, 1\]"):
        prepare("recordings", root, tmp_path / "data", sigma_px=1.0)


def test_sound_of_several_rates_is_refused(tmp_path):
    pytest.importorskip("av")
    for name, rate in (("a", 8000), ("b", 16000)):
        write_sound(tmp_path / "recordings" / f"{name}.wav", np.zeros(800), rate)
    (tmp_path / "events.csv").write_text("recording,t\na,100\nb,100\n")
    release = read_recordings(tmp_path, Problems())
    with pytest.raises(ValueError, match=r"b\.wav: expected 8000 samples a second, as in .*a\.wav, got 16000; --samp"):
        release.read("b")
    with pytest.raises(ValueError, match=r"frame: expected none but for film, got \(3, 3\) for .*a\.wav"):
        read_recordings(tmp_path, Problems(), cut=Cut(frame=(3, 3)))
