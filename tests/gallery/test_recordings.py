"""`mlfem explain` of sound, film and arrays: maps of whole recordings, window by window."""

import wave

import numpy as np
import pytest

import mlfem_jax as mlfem
from mlfem_jax.data import decode
from mlfem_jax.gallery import explain
from mlfem_jax.gallery.names import file_names, photo_names
from mlfem_jax.gallery.read_recording import read_recording


@pytest.fixture(scope="module")
def crepe():
    return mlfem.load_backbone("crepe_tiny", weights="random")


def write_sound(path, samples, samples_per_s):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(samples_per_s)
        file.writeframes(np.repeat((samples * 32767).astype("<i2")[:, None], 2, axis=1).tobytes())


def test_arrays_are_explained_window_by_window(tmp_path, crepe, capsys):
    sound = np.random.default_rng(0).standard_normal(1500).astype(np.float32)
    np.save(tmp_path / "noise.npy", sound)
    (tmp_path / "bad.npy").write_bytes(b"nothing")
    out = tmp_path / "out"
    files = [str(tmp_path / name) for name in ("noise.npy", "bad.npy")]
    assert explain(tuple(files), out=out, backbone="crepe_tiny", weights="random", method="add", cache="none") == 1
    found = np.load(out / "noise.npy")
    filled = np.concatenate([sound, np.full(548, sound[-1])]).reshape(2, 1024)
    expected = np.concatenate(mlfem.explain(crepe, filled, method="add"))[:1500]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert {path.name for path in out.iterdir()} >= {"noise.png", "noise.overlay.png", "noise.sheet.png", "index.html"}
    printed = capsys.readouterr()
    assert "bad.npy: expected a recording" in printed.err
    assert "Hz in the 1024 from" in printed.out


def test_sound_is_read_at_the_rate_of_the_network(tmp_path, crepe):
    pytest.importorskip("av")
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    write_sound(tmp_path / "tone.wav", tone, 8000)
    found = read_recording(tmp_path / "tone.wav", crepe)
    assert found.shape == (16000,)
    spectrum = np.abs(np.fft.rfft(found))
    assert spectrum.argmax() == 440
    (tmp_path / "no.wav").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"no\.wav: expected a recording, got"):
        read_recording(tmp_path / "no.wav", crepe)


def test_films_are_read_at_the_size_of_the_network(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "gray.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 54, "bgr0"
        for level in (40, 120, 200):
            picture = np.full((54, 96, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    film = read_recording(tmp_path / "gray.mkv", mlfem.load_backbone("transnetv2", weights="random"))
    assert film.shape == (3, 27, 48, 3)
    np.testing.assert_allclose(film.mean(axis=(1, 2, 3)), [40, 120, 200], atol=2)


def test_arrays_of_another_shape_or_without_numbers_are_refused(tmp_path, crepe):
    np.save(tmp_path / "plane.npy", np.zeros((5, 5)))
    with pytest.raises(ValueError, match=r"plane\.npy: expected numbers of shape \('T',\)"):
        read_recording(tmp_path / "plane.npy", crepe)
    np.save(tmp_path / "column.npy", np.zeros((5, 1)))
    assert read_recording(tmp_path / "column.npy", crepe).shape == (5,)
    np.save(tmp_path / "gaps.npy", np.array([0, np.nan, 1, np.inf]))
    with pytest.raises(ValueError, match=r"gaps\.npy: expected finite numbers, got 2 that are not"):
        read_recording(tmp_path / "gaps.npy", crepe)
    np.save(tmp_path / "large.npy", np.array([0, 1e300]))
    with pytest.raises(ValueError, match=r"large\.npy: expected finite numbers, got 1 that"):
        read_recording(tmp_path / "large.npy", crepe)
    np.save(tmp_path / "objects.npy", np.array([None, 1]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"objects\.npy: expected a recording"):
        read_recording(tmp_path / "objects.npy", crepe)


def test_volumes_are_read_and_their_sizes_checked_first(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    volume = np.random.default_rng(0).standard_normal((4, 5, 6)).astype(np.float32)
    network = mlfem.from_function(
        lambda params, volumes: (volumes.mean(axis=(1, 2, 3))[:, None], {"voxels": volumes[..., None]}),
        (),
        input_shape=(4, 5, 6),
    )
    nibabel.save(nibabel.Nifti1Image(volume.T, np.eye(4)), tmp_path / "small.nii.gz")  # (x, y, z)
    np.testing.assert_array_equal(read_recording(tmp_path / "small.nii.gz", network), volume)
    header = nibabel.Nifti1Header()
    header.set_data_shape((32767,) * 7)  # more than 64 bits hold
    (tmp_path / "huge.nii").write_bytes(header.binaryblock + bytes(4))
    with pytest.raises(ValueError, match=r"huge\.nii: expected at most 268,435,456 voxels, got shape \(32767, "):
        read_recording(tmp_path / "huge.nii", network)


def test_what_is_decoded_is_counted_as_it_comes(monkeypatch):
    monkeypatch.setattr(decode, "MOST_NUMBERS", 10)
    taken = []

    def parts():
        for _ in range(100):
            taken.append(4)
            yield np.zeros(4)

    with pytest.raises(ValueError, match="expected at most 10 numbers, got more in 3 parts"):
        decode.kept(parts())
    assert len(taken) == 3, "the rest is not decoded"
    with pytest.raises(ValueError, match="expected a recording of some length, got one without"):
        decode.kept([])


def test_a_film_of_somebody_elses_is_not_written_over(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "clip.webp").write_bytes(b"mine")
    ((_, stem),) = photo_names([tmp_path / "clip.mp4"], tmp_path / "out")
    assert stem == "clip-2" and file_names(stem).film == "clip-2.webp"
