"""A folder that is written into: by one at a time, never over what others made, and clean of what the dead left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlfem_jax.files.errors import naming_full_disk, printable
from mlfem_jax.files.locks import remove_orphans
from mlfem_jax.files.outputs import foreign, note_tree, refuse_foreign, writing
from mlfem_jax.files.whole import replace_folder, replacing

ROOT = Path(__file__).parents[2]
ORPHAN = ".a.txt.0123456789abcdef0123456789abcdef.part"


def write(path, content=b"ours"):
    with replacing(path) as file:
        file.write(content)


def elsewhere(script, *arguments):
    """A process that prints a line when it is ready, and ends when its input does."""
    command = [sys.executable, "-c", f"import sys\n{script}", *map(str, arguments)]
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, **options)
    assert process.stdout.readline() == "ready\n"
    return process


HOLDS = """
from mlfem_jax.files import writing
with writing(sys.argv[1], process_index=int(sys.argv[2]) if sys.argv[2:] else None):
    print("ready", flush=True)
    sys.stdin.read()
"""
WRITES = """
from mlfem_jax.files import replacing
with replacing(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(("theirs", "own"), [((), None), ((0,), None), ((), 0), ((0,), 0)])
def test_another_process_is_named_until_it_dies(tmp_path, theirs, own):
    with elsewhere(HOLDS, tmp_path, *theirs) as process:
        with pytest.raises(
            ValueError,
            match=rf"{tmp_path}: .*, got process {process.pid} on .+ is writing here; wait",
        ):
            with writing(tmp_path, process_index=own):
                raise AssertionError
        process.kill()
    with writing(tmp_path, process_index=own):  # what it left counts no longer
        pass
    assert [path.name for path in tmp_path.iterdir()] in ([], [".mlfem.lock"])


def test_processes_of_one_run_share_its_folder(tmp_path):
    with elsewhere(HOLDS, tmp_path, 0) as process:
        with writing(tmp_path, process_index=1):
            pass
        process.communicate("")
    assert process.returncode == 0
    assert not (tmp_path / ".mlfem.lock").exists()


def test_what_the_dead_left_is_removed_and_what_others_write_or_made_is_not(tmp_path):
    (tmp_path / ORPHAN).write_bytes(b"half")
    (tmp_path / ".a.txt.part").write_bytes(b"not ours")
    with elsewhere(WRITES, tmp_path / "b.txt") as process:
        assert remove_orphans(tmp_path) == 1
        assert len(list(tmp_path.glob(".b.txt.*.part"))) == 1
        process.kill()
    with writing(tmp_path):
        assert not list(tmp_path.glob(".b.txt.*.part"))
    assert [path.name for path in tmp_path.iterdir()] == [".a.txt.part"]


def test_what_we_wrote_is_ours_until_somebody_changes_it(tmp_path):
    (tmp_path / "theirs.txt").write_bytes(b"mine")
    with writing(tmp_path):
        for name in ("a.txt", "b.txt", "c.txt"):
            write(tmp_path / name)
    (tmp_path / "b.txt").write_bytes(b"mine")  # of the same length
    names = ["a.txt", "b.txt", "c.txt", "theirs.txt", "new.txt"]
    assert foreign(tmp_path, names) == ["b.txt", "theirs.txt"]
    assert foreign(tmp_path) == ["b.txt", "theirs.txt"]
    with pytest.raises(
        FileExistsError,
        match=r"expected .* this program made, got .*b\.txt, theirs\.txt, which would be",
    ):
        refuse_foreign(tmp_path, names)
    with writing(tmp_path):  # the next run's record still has them
        write(tmp_path / "a.txt", b"longer than before")
    assert foreign(tmp_path, names) == ["b.txt", "theirs.txt"]


def test_a_write_that_was_killed_before_the_rename_leaves_the_old_file_ours(tmp_path, monkeypatch):
    with writing(tmp_path):
        write(tmp_path / "a.txt")
        monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "a.txt", b"newer")
        monkeypatch.undo()
        assert foreign(tmp_path, ["a.txt"]) == []
    with (tmp_path / ".mlfem.jsonl").open("a") as file:
        file.write('["cut')
    with writing(tmp_path):
        write(tmp_path / "b.txt")
    assert foreign(tmp_path, ["a.txt", "b.txt"]) == []


def test_folders_below_have_records_of_their_own_or_are_in_that_of_the_whole(tmp_path):
    write(tmp_path / "deep" / "a.txt")
    assert foreign(tmp_path) == ["deep/a.txt"]
    note_tree(tmp_path)
    with writing(tmp_path / "below"):
        write(tmp_path / "below" / "b.txt")
    assert foreign(tmp_path) == []


def test_links_are_not_ours(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with writing(tmp_path):
        write(tmp_path / "a.txt")
        (tmp_path / "link.txt").symlink_to("photo.jpg")
        (tmp_path / "broken.txt").symlink_to("nowhere")
    assert foreign(tmp_path, ["a.txt", "link.txt", "broken.txt"]) == ["link.txt", "broken.txt"]


def test_a_long_name_leaves_room_for_the_part(tmp_path):
    path = tmp_path / ("\N{SNOWMAN}" * 80 + ".png")  # 244 bytes
    write(path)
    assert path.read_bytes() == b"ours"


FULL = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
import numpy as np
from PIL import Image
from mlfem_jax.files import replacing
from pathlib import Path
noise = np.random.default_rng(0).integers(0, 256, (99, 99, 3), dtype=np.uint8)
writers = {
    "raw": lambda file: file.write(bytes(9999)),
    "npy": lambda file: np.save(file, noise),
    "png": lambda file: Image.fromarray(noise).save(file, "PNG"),
}
for name, writer in writers.items():
    try:
        with replacing(Path(sys.argv[1]) / name) as file:
            writer(file)
    except OSError as error:
        print(name, error.filename == str(Path(sys.argv[1]) / name), error.strerror)
print(*Path(sys.argv[1]).iterdir())
"""


def test_a_full_disk_names_the_file_whatever_writes_it(tmp_path):
    command = [sys.executable, "-c", f"import sys\n{FULL}", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert ended.stdout.splitlines() == [f"{name} True File too large" for name in ("raw", "npy", "png")] + [""]


def test_a_full_disk_in_words_of_another_library_has_the_file_too():
    with pytest.raises(OSError, match=r"No space left on device: '/data/step_3'") as caught:
        with naming_full_disk("/data/step_3"):
            try:
                raise RuntimeError("INTERNAL: write: No space left on device [os error 28]")
            except RuntimeError as error:
                raise ValueError("could not save") from error
    assert caught.value.errno == 28
    with pytest.raises(ValueError, match=r"^other$"), naming_full_disk("/data"):
        raise ValueError("other")


def test_a_folder_takes_the_place_of_another_or_of_none(tmp_path, monkeypatch):
    for exchange in (True, False):
        if not exchange:
            monkeypatch.setattr("mlfem_jax.files.whole._exchange", lambda one, other: False)
        for content in ("first", "second"):
            (tmp_path / "new").mkdir()
            (tmp_path / "new" / content).touch()
            replace_folder(tmp_path / "new", tmp_path / "final")
            assert os.listdir(tmp_path) == ["final"] and content in os.listdir(tmp_path / "final")


def test_names_cannot_steer_a_terminal():
    assert printable("a\x1b[31m\r\n\t\x9b\u202eb") == r"a\x1b[31m\r\n\t\x9b\u202eb"
    assert printable(os.fsdecode(b"\xff")) == r"\udcff"
    assert printable("é 猫 👩\u200d🔬") == "é 猫 👩\u200d🔬"


def test_a_file_in_a_subfolder_is_noted_in_the_record_above(tmp_path):
    with writing(tmp_path / "out"), replacing(tmp_path / "out/day1/deep/a.png") as file:
        file.write(b"ours")
    (tmp_path / "out/day1/b.png").write_bytes(b"theirs")
    assert foreign(tmp_path / "out") == ["day1/b.png"]
