import dataclasses
import gc
import json
import resource
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

grain = pytest.importorskip("grain", reason="needs Grain")

from mlfem_jax.data import workers  # noqa: E402
from mlfem_jax.data.batches import batches_per_epoch, open_dataset, read_batches, read_examples  # noqa: E402
from mlfem_jax.data.example import ExampleFormat, decode_photo, framed, make_example  # noqa: E402
from mlfem_jax.data.split import scan  # noqa: E402
from mlfem_jax.data.workers import worker_count  # noqa: E402
from mlfem_jax.gaze.density import gaze_densities, gaze_density  # noqa: E402
from tests.data.gaze_records import encode, make_record, make_source  # noqa: E402

FORMAT = ExampleFormat((6, 8), max_fixations=5, classes=3)


def read(source, example_format=FORMAT, **options):
    options = {"batch_size": 4, "process_index": 0, "process_count": 1} | options
    return list(read_batches(source, example_format, **options))


def ids(batches):
    return [str(image_id) for batch in batches for image_id in batch.ids[batch.mask]]


def test_every_example_appears_once_and_the_last_batch_is_padded():
    batches = read(make_source(10))
    assert ids(batches) == [f"image{i}" for i in range(10)]
    assert [batch.mask.tolist() for batch in batches] == [[True] * 4] * 2 + [[True, True, False, False]]
    last = batches[-1]
    assert not last.images[2:].any() and not last.fixation_mask[2:].any() and not last.labels[2:].any()
    assert list(last.ids[2:]) == ["", ""]
    assert len({tuple(np.shape(field) for field in dataclasses.astuple(b)) for b in batches}) == 1


def test_contents_of_an_example():
    source = make_source(6)
    batch = read(source, batch_size=6)[0]
    np.testing.assert_array_equal(batch.images[:, 0, 0, 0], range(6))
    np.testing.assert_array_equal(batch.clutter, range(6))
    np.testing.assert_array_equal(batch.fixation_mask.sum(1), [0, 1, 2, 3, 4, 0])
    np.testing.assert_array_equal(batch.labels.argmax(1), [0, 1, 2, 0, 1, 2])
    np.testing.assert_array_equal(batch.labels.sum(1), np.ones(6))
    np.testing.assert_array_equal(batch.size, [[12, 16]] * 6)
    np.testing.assert_array_equal(batch.content_box, [[0, 0, 6, 8]] * 6)
    # Half the size: (y + 1/2) / 2 - 1/2.
    np.testing.assert_allclose(batch.fixations[4][:4], source[4]["fixations"] / 2 - 0.25, atol=1e-6)
    np.testing.assert_array_equal(batch.observers[4], [0, 1, 2, 3, -1])
    np.testing.assert_array_equal(batch.durations[4], [200, 200, 200, 200, np.nan])
    assert batch.density is None


def test_letterbox_carries_the_content_box():
    photo = np.full((20, 10, 3), 125, np.uint8)
    photo[5:15] = 250
    record = make_record(0, shape=(20, 10), image=encode(photo), content_box=np.array([5, 0, 15, 10], np.int32))
    batch = read([record], ExampleFormat((10, 20), 3, rule="letterbox"), batch_size=1)[0]
    np.testing.assert_array_equal(batch.content_box, [[2, 7, 8, 12]])
    image = batch.images[0, ..., 0]
    assert not image[:, :7].any() and not image[:, 12:].any()
    assert (image[3:7, 7:12] == 250).all() and (image[:2, 7:12] < 130).all() and (image[0, 7:12] > 120).all()
    np.testing.assert_allclose(batch.fixations[0], record["fixations"] / 2 - 0.25 + [0, 7], atol=1e-6)


def test_released_densities_are_resized_and_normalized():
    density = np.zeros((12, 16), np.uint8)
    density[:, :8] = 200
    source = [make_record(0, density=encode(density)), make_record(1)]
    maps = read(source, dataclasses.replace(FORMAT, density=True), batch_size=3)[0].density
    np.testing.assert_allclose(maps.sum((1, 2)), [1, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(maps[0, :, :3], 1 / 24, rtol=0.1)
    np.testing.assert_array_equal(maps[0, :, 5:], np.zeros((6, 3)))


def test_densities_of_a_batch_are_those_of_the_photographs():
    source = [make_record(0, shape=(24, 32)), make_record(1, shape=(48, 32))]
    batch = read(source, ExampleFormat((24, 32), 5), batch_size=3)[0]
    densities = gaze_densities(batch.fixations, (24, 32), sigma_px=6.0 * batch.scale, mask=batch.fixation_mask)
    first, second = (gaze_density(r["fixations"], tuple(r["size"].tolist()), sigma_px=6.0) for r in source)
    np.testing.assert_allclose(densities[0], first, rtol=1e-4, atol=1e-8)
    binned = second.reshape(24, 2, 32).sum(axis=1)
    np.testing.assert_allclose(densities[1], binned, atol=0.02 * float(binned.max()))
    np.testing.assert_array_equal(densities[2], np.zeros((24, 32)))


def test_shuffling_depends_on_seed_and_epoch_alone():
    source = make_source(23)
    orders = {seed: ids(read(source, seed=seed, epochs=2)) for seed in (0, 7)}
    assert orders[0] == ids(read(source, seed=0, epochs=2))
    assert orders[0] != orders[7]
    assert orders[0][:23] != orders[0][23:]
    for order in orders.values():
        assert sorted(order[:23]) == sorted(order[23:]) == sorted(f"image{i}" for i in range(23))


@pytest.mark.parametrize(("count", "processes"), [(10, 3), (9, 4), (2, 4), (16, 2)])
@pytest.mark.parametrize("seed", [None, 3])
def test_uneven_shards_get_as_many_batches_and_lose_nothing(count, processes, seed):
    source = make_source(count)
    shards = [
        read(source, batch_size=2, process_index=i, process_count=processes, seed=seed, epochs=2)
        for i in range(processes)
    ]
    expected = batches_per_epoch(count, 2, processes)
    assert [len(shard) for shard in shards] == [2 * expected] * processes
    for epoch in (slice(0, expected), slice(expected, None)):
        seen = [image_id for shard in shards for image_id in ids(shard[epoch])]
        assert sorted(seen) == sorted(f"image{i}" for i in range(count))


def test_positions_select_records():
    assert ids(read(make_source(9), positions=np.array([7, 2, 5]))) == ["image7", "image2", "image5"]


@pytest.mark.parametrize(("workers", "later"), [(0, 2), (2, 0)])
def test_resuming_with_other_workers_gives_the_batches_that_were_left(workers, later):
    source = make_source(11)
    options = {"batch_size": 2, "seed": 1, "epochs": 2, "process_index": 0, "process_count": 1}
    iterator = iter(read_batches(source, FORMAT, workers=workers, **options))
    start = [next(iterator) for _ in range(4)]
    state = json.loads(json.dumps(iterator.get_state()))
    rest = list(iterator)
    iterator.close()
    resumed = iter(read_batches(source, FORMAT, workers=later, **options))
    resumed.set_state(state)
    again = list(resumed)
    resumed.close()
    assert len(start) + len(rest) == 12 and len(again) == 8
    for batch, twin in zip(rest, again, strict=True):
        for name, values in vars(batch).items():
            np.testing.assert_array_equal(values, getattr(twin, name))
    assert ids(start) + ids(rest) == ids(read(source, batch_size=2, seed=1, epochs=2))


def test_a_reader_at_its_end_goes_on_with_nothing_and_one_without_end_goes_on():
    options = {"batch_size": 2, "process_index": 0, "process_count": 1}
    ended = iter(read_batches(make_source(3), FORMAT, **options))
    ended.set_state({"next_index": 2})
    assert list(ended) == [] and list(ended) == []
    endless = iter(read_batches(make_source(3), FORMAT, epochs=None, **options))
    endless.set_state({"next_index": 101})
    assert next(endless).ids.tolist() == ["image2", ""]


def test_a_closed_reader_reads_no_more():
    reader = iter(read_batches(make_source(3), FORMAT, batch_size=2, process_index=0, process_count=1))
    next(reader)
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        next(reader)


def test_workers_of_their_own_are_for_many_examples_and_for_devices_that_are_no_cpu(monkeypatch):
    def count(platform, cores, examples, free, batch_bytes=10):
        monkeypatch.setattr(workers.jax, "local_devices", lambda: [SimpleNamespace(platform=platform)])
        monkeypatch.setattr(workers, "_cores", lambda: cores)
        monkeypatch.setattr(workers.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
        monkeypatch.setattr(workers, "_SHARED", Path("/"))
        return worker_count("auto", examples=examples, batch_bytes=batch_bytes)

    assert count("cpu", 64, 10**6, 10**9) == 0
    assert count("gpu", 12, 10**6, 10**9) == 11
    assert count("tpu", 96, 10**6, 10**9) == 16
    assert count("gpu", 12, 700, 10**9) == 0
    assert count("gpu", 12, 3999, 10**9) == 3
    assert count("gpu", 12, 10**6, 64 * 2**20, batch_bytes=5 * 2**20) == 4
    assert count("gpu", 1, 10**6, 10**9) == 0


def test_memory_is_flat_over_epochs():
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    source = [make_record(i, shape=(300, 400), image=encode(pixels)) for i in range(6)]
    iterator = iter(
        read_batches(source, ExampleFormat((256, 256), 5), batch_size=2, epochs=10, process_index=0, process_count=1)
    )
    for _ in range(6):
        next(iterator)
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert sum(1 for _ in iterator) == 24
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 8192  # the 24 batches together are 9.2 MiB, the decoded photographs 17 MiB


@pytest.mark.parametrize(
    ("record", "example_format", "message"),
    [
        (make_record(3, fixations=9), FORMAT, "record 'image3': expected at most max_fixations=5 fixations, got 9"),
        (make_record(3, image=b"GIF89a"), FORMAT, "image of record 'image3': expected an image"),
        (make_record(3, image=make_record(3)["image"][:50]), FORMAT, "'image3': expected an image"),
        (make_record(3, size=np.array([12, 15])), FORMAT, r"'image3': expected an image of \(12, 15\)"),
        (
            make_record(3, labels=np.array([0, 3])),
            FORMAT,
            r"'image3': expected labels from 0 to 2, got \[0, 3\]",
        ),
        (
            make_record(3, density=b"P5"),
            dataclasses.replace(FORMAT, density=True),
            "density map of record 'image3': expected an image",
        ),
    ],
    ids=["fixations", "no image", "truncated", "size", "label", "density"],
)
def test_a_bad_record_is_named(record, example_format, message):
    with pytest.raises(ValueError, match=message):
        read([make_record(0), record], example_format)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"positions": np.zeros(0, int)}, "positions: expected some of 3 records, got none; there is nothing to read"),
        ({"positions": np.array([0, 3])}, "positions: expected 0 to 2, got 0 to 3"),
        ({"batch_size": 0}, "batch_size: expected a whole number above 0, got 0"),
        ({"process_index": 2, "process_count": 2}, "process_index: expected 0 to 1, got 2"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        read(make_source(3), **options)


def test_a_prepared_data_set_is_read_by_workers(tmp_path, capsys):
    prepare = pytest.importorskip("mlfem_jax.data.prepared.write", reason="needs tensorflow-datasets").prepare
    release = tmp_path / "release"
    (release / "images").mkdir(parents=True)
    for i in range(5):
        (release / "images" / f"dog{i}.png").write_bytes(make_record(i)["image"])
    rows = [f"dog{i}.png,{observer},{2 * i},{i}" for i in range(5) for observer in range(2)]
    (release / "fixations.csv").write_text("\n".join(["image,observer,x,y", *rows, ""]))
    prepare("folder", release, tmp_path / "built", sigma_px=5.0)
    source = open_dataset(tmp_path / "built")
    assert source.dataset_info.metadata["sigma_px"] == 5
    index = scan(source)
    assert sorted(index.ids) == [f"dog{i}" for i in range(5)] and index.max_fixations == 2
    iterator = iter(read_batches(source, ExampleFormat((12, 16), 2), batch_size=3, workers=1, seed=0))
    batches = list(iterator)
    iterator.close()
    assert sorted(ids(batches)) == sorted(index.ids)
    for batch in batches:
        for i, fixations in zip(batch.images[:, 0, 0, 0], batch.fixations * batch.mask[:, None, None], strict=True):
            np.testing.assert_array_equal(fixations, [[i, 2 * i]] * 2)
    with pytest.raises(ValueError, match="expected one of the splits full, got test"):
        open_dataset(tmp_path / "built", "test")


def test_a_missing_data_set_is_named(tmp_path):
    pytest.importorskip("tensorflow_datasets", reason="needs tensorflow-datasets")
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}: expected a prepared data set, .* below it, got none"):
        open_dataset(tmp_path)


def test_examples_of_another_kind_never_share_a_batch():
    kinds = [number % 3 == 0 for number in range(10)]
    shapes = {True: (2, 3), False: (3, 2)}

    def example(position):
        return {"x": np.full(shapes[kinds[position]], position)}

    options = {"batch_size": 2, "kinds": kinds, "seed": 0, "epochs": 2}
    orders, epochs = [], []
    for process in range(2):
        reading = read_examples(example, np.arange(10), process_index=process, process_count=2, **options)
        batches = list(reading)
        assert len(batches) == 2 * (1 + 2)  # 4 of one kind and 6 of the other, in batches of 4 of both processes
        orders.append([batch["x"].shape for batch in batches])
        epochs.append([batch["x"][batch["mask"], 0, 0].tolist() for batch in batches])
    assert orders[0] == orders[1]
    first_epoch = [number for mine in epochs for batch in mine[:3] for number in batch]
    assert sorted(first_epoch) == list(range(10))


def test_a_framed_photograph_is_read_as_it_was_stretched():
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    plain = make_record(0, shape=(24, 32), image=encode(pixels))
    small = plain | {"image": framed(plain["image"], (12, 8), name="it")}
    expected, found = (make_example(record, ExampleFormat((12, 8), 5)) for record in (plain, small))
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    with pytest.raises(ValueError, match=r"'image0': expected at most \(12, 8\), for which .*, got \(12, 9\)"):
        make_example(small, ExampleFormat((12, 9), 5))
    with pytest.raises(ValueError, match="'image0': expected the photograph, got what `mlfem prepare --frame` made"):
        decode_photo(small)


def test_records_are_not_printed_to_be_read():
    class Source(list):
        def __repr__(self):
            raise AssertionError("printed: all records of a data set")

    assert [batch.mask.sum() for batch in read_batches(Source(make_source(3)), FORMAT, batch_size=2)] == [2, 1]
