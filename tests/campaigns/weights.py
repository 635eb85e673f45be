"""Weight files of every kind, mutated: each is read, or refused by one line that names it.

`python -m tests.campaigns.weights [--mutants 1700] [--first 0] [--jobs 2]` prints a table of tried and failed; `make
campaigns` runs it. A mutant is made from its format and number alone. Workers read them under limits of memory and
time; one that dies or hangs is a failure of the mutant that it was reading, and is replaced.
"""

import argparse
import json
import os
import pickle
import random
import resource
import selectors
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tests.campaigns.trial import CRASHED, LARGE, LIMIT_BYTES, LIMIT_S, SLOW, awaited, cost, kinds, used

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
FORMATS = ("npz", "safetensors", "torch_zip", "torch_legacy", "h5", "orbax", "onnx", "shards")
MESSAGE = 2000
ARRAYS = {
    "conv1.weight": np.arange(54, dtype=np.float32).reshape(2, 3, 3, 3),
    "bn1.running_var": np.ones(2),
    "fc.weight": np.linspace(-1, 1, 600, dtype=np.float16).reshape(3, 200),
    "steps": np.array(7),
}
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1)
CANARY = "ran"


class Attack:
    """Its pickle makes a folder."""

    def __init__(self, folder: Path):
        """`folder` is what it makes."""
        self.folder = str(folder)

    def __reduce__(self):
        """A call of os.mkdir."""
        return os.mkdir, (self.folder,)


def seeds(folder: Path, canary: Path) -> dict[str, list[Path]]:
    """Sound files of each kind, and torch files that would run something."""
    import h5py
    import orbax.checkpoint as ocp
    import safetensors.numpy

    from tests.backbones.files.test_onnx_file import model, node, tensor

    folder.mkdir(exist_ok=True)
    np.savez(folder / "a.npz", **ARRAYS)
    np.savez_compressed(folder / "b.npz", **ARRAYS)
    safetensors.numpy.save_file(ARRAYS, folder / "a.safetensors")
    for name in ("torch_zip", "torch_legacy"):
        shutil.copy(GOLDEN / f"{name}.pth", folder)
    content = pickle.dumps({"state_dict": {"w": Attack(canary)}}, 2)
    with zipfile.ZipFile(folder / "attack_zip.pth", "w") as archive:
        archive.writestr("a/data.pkl", content)
    magic = (GOLDEN / "torch_legacy.pth").read_bytes()[:14]
    (folder / "attack_legacy.pth").write_bytes(magic + b".\x80\x02M\xe9\x03.\x80\x02}." + content + pickle.dumps([], 2))
    with h5py.File(folder / "a.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv"]
        file.create_group("conv").attrs["weight_names"] = [b"conv/kernel:0", b"conv/bias:0"]
        file["conv/conv/kernel:0"], file["conv/conv/bias:0"] = ARRAYS["conv1.weight"], ARRAYS["bn1.running_var"]
    with h5py.File(folder / "b.weights.h5", "w") as file:
        options = {"chunks": (2, 50), "compression": "gzip", "shuffle": True}
        file.create_dataset("layers/dense/vars/0", data=ARRAYS["fc.weight"], **options)
        file["layers/dense/vars/1"] = np.ones(200)
    for name, ocdbt in (("ocdbt", True), ("zarr", False)):
        with ocp.PyTreeCheckpointer(use_ocdbt=ocdbt) as checkpointer:
            checkpointer.save(folder / name, ARRAYS, force=True)
    kernel, read_by = ARRAYS["conv1.weight"], node("MatMul", "/encoder/query/MatMul", ["x", "onnx::MatMul_1"])
    tensors = tensor("conv1.weight", kernel), tensor("onnx::MatMul_1", kernel.reshape(2, 27), packed=True)
    (folder / "a.onnx").write_bytes(model(*tensors, nodes=[read_by]))
    (folder / "shards").mkdir(exist_ok=True)
    names = sorted(ARRAYS)
    for index, name in enumerate(names):
        safetensors.numpy.save_file({name: ARRAYS[name]}, folder / "shards" / f"{index}.safetensors")
    places = {"weight_map": {name: f"{index}.safetensors" for index, name in enumerate(names)}}
    (folder / "shards" / "model.safetensors.index.json").write_text(json.dumps(places))
    return {
        "npz": [folder / "a.npz", folder / "b.npz"],
        "safetensors": [folder / "a.safetensors"],
        "torch_zip": [folder / "torch_zip.pth", folder / "attack_zip.pth"],
        "torch_legacy": [folder / "torch_legacy.pth", folder / "attack_legacy.pth"],
        "h5": [folder / "a.h5", folder / "b.weights.h5"],
        "orbax": [folder / "ocdbt", folder / "zarr"],
        "onnx": [folder / "a.onnx"],
        "shards": [folder / "shards"],
    }


def make_mutant(sources: list[Path], kind: str, number: int, folder: Path) -> Path:
    """A mutant, by its format and number, in a folder."""
    folder.mkdir(exist_ok=True)
    source = sources[number % len(sources)]
    mutant = folder / f"mutant{source.suffix}"
    write_mutant(source, mutant, random.Random(f"{kind} {number}"))
    return mutant


def mutate(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one to four changes."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, length = rng.randrange(len(changed) + 1), rng.choice((1, 2, 4, 8, 16, 64))
        match rng.randrange(8):
            case 0 | 1:
                changed[at : at + 1] = bytes([rng.randrange(256)])
            case 2:
                width = rng.choice("BHIQ")
                changed[at : at + struct.calcsize(width)] = struct.pack(
                    f"<{width}", rng.choice(NUMBERS) % 2 ** (8 * struct.calcsize(width))
                )
            case 3:
                del changed[at:]
            case 4:
                del changed[at : at + length]
            case 5:
                other = rng.randrange(len(changed) + 1)
                changed[at:at] = changed[other : other + length]
            case 6:
                changed[at : at + length] = bytes(length)
            case _:
                digits = [place for place, sign in enumerate(changed) if chr(sign).isdigit()]
                place = rng.choice(digits) if digits else at
                changed[place : place + 1] = str(rng.choice(NUMBERS)).encode()
    return bytes(changed)


def write_mutant(source: Path, to: Path, rng: random.Random) -> None:
    """A mutant of a file, of one member of a zip, or of one file in a folder, which may also be lost or a link."""
    if zipfile.is_zipfile(source) and rng.random() < 0.6:
        with zipfile.ZipFile(source) as archive, zipfile.ZipFile(to, "w") as written:
            victim = rng.choice(archive.namelist())
            for member in archive.infolist():
                data = archive.read(member)
                changed = mutate(data, rng) if member.filename == victim else data
                written.writestr(member.filename, changed, member.compress_type)
    elif source.is_file():
        to.write_bytes(mutate(source.read_bytes(), rng))
    else:
        _write_folder(source, to, rng)


def _write_folder(source: Path, to: Path, rng: random.Random) -> None:
    shutil.copytree(source, to)
    victim = rng.choice(sorted(file for file in to.rglob("*") if file.is_file()))
    kind, data = rng.randrange(12), victim.read_bytes()
    victim.unlink()
    if kind == 0:
        os.mkfifo(victim)
    elif kind == 1:
        victim.symlink_to(rng.choice(("/dev/zero", "/etc/hostname", str(to), "nowhere")))
    elif kind == 2:
        victim.mkdir()
    elif kind > 3:
        victim.write_bytes(mutate(data, rng))


def outcome(path: Path) -> tuple[str, float]:
    """What became of it, "read" or "refused" as it should be, else what went wrong; and the processor's seconds."""
    from mlfem_jax.backbones.files.read import read_weights

    start, _ = used()
    try:
        arrays = read_weights(path)
        total = sum(np.asarray(array).nbytes for array in arrays.values())
        found = "read" if arrays and total < LIMIT_BYTES else "nothing read"
    except ValueError as error:
        text = str(error)
        clear = text.startswith(str(path)) and len(text) < MESSAGE and "\n" not in text
        found = "refused" if clear else f"no clear line: {text[:200]!r}"
    except Exception as error:
        found = f"{type(error).__name__}: {str(error)[:200]}"
    taken = used()[0] - start  # what else runs on the machine does not count
    if taken > LIMIT_S:
        found = f"{SLOW}: {taken:.0f} s"
    return found, taken


def work(folder: Path, kind: str, first: int, last: int) -> None:
    """A worker: prints the number of each mutant before, and its outcome after it is read."""
    from mlfem_jax.backbones.files import read  # noqa: F401

    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + LIMIT_BYTES, taken + LIMIT_BYTES))  # beside what the libraries map
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sources = [Path(path) for path in json.loads((folder / "seeds").read_text())[kind]]
    outcome(sources[0])  # what is imported once is not a part of the first mutant's time
    for number in range(first, last):
        print(json.dumps([number, "begun"]), flush=True)
        place = Path(tempfile.mkdtemp(dir=folder))
        found, seconds = outcome(make_mutant(sources, kind, number, place))
        _, held = used()
        if held > LIMIT_BYTES:
            found = LARGE
        print(json.dumps([number, found, seconds, held]), flush=True)
        shutil.rmtree(place)


def results(folder: Path, kind: str, first: int, last: int) -> Iterator[tuple[int, str, float, int]]:
    """Number, outcome, seconds and bytes of each mutant of a range, by as many workers as it takes."""
    while first < last:
        command = [sys.executable, "-m", __spec__.name if __spec__ else "tests.campaigns.weights"]
        command += ["--worker", str(folder), kind, str(first), str(last)]
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
        worker = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
        begun = lost = None
        with selectors.DefaultSelector() as selector, worker:
            selector.register(worker.stdout, selectors.EVENT_READ)

            def answered(seconds: float, selector=selector) -> bool:
                return bool(selector.select(seconds))

            while not (lost := awaited(worker.pid, answered)) and (line := worker.stdout.readline()):
                number, said, *cost_of_it = json.loads(line)
                if said == "begun":
                    begun = number
                else:
                    begun, first = None, number + 1
                    yield number, said, *cost_of_it
            worker.kill()
        if lost or begun is not None or worker.returncode:
            first = first if begun is None else begun
            if first < last:
                yield first, lost or f"{CRASHED} ({worker.returncode})", 0.0, 0
            first += 1


def campaign(
    mutants: int, *, first: int = 0, jobs: int = 1, formats: tuple[str, ...] = FORMATS
) -> tuple[dict[str, Counter], list[str], dict[str, str]]:
    """Outcomes of each kind, a line for each failure, and what each kind cost."""
    counts, failures, costs = {kind: Counter() for kind in formats}, [], {}
    with tempfile.TemporaryDirectory() as place:
        folder, canary = Path(place), Path(place) / CANARY
        made = seeds(folder / "seed_files", canary)
        (folder / "seeds").write_text(json.dumps({name: list(map(str, paths)) for name, paths in made.items()}))

        def of(kind: str) -> list[tuple[int, str, float, int]]:
            return list(results(folder, kind, first, first + mutants))

        with ThreadPoolExecutor(jobs) as pool:
            for kind, found in zip(formats, pool.map(of, formats), strict=True):
                counts[kind].update(said if said in ("read", "refused") else "failed" for _, said, _, _ in found)
                failures += [
                    f"{kind} {number}: {said}" for number, said, *_ in found if said not in ("read", "refused")
                ]
                costs[kind] = cost(max(seconds for *_, seconds, _ in found), max(held for *_, held in found))
        if canary.exists():
            failures.append("something in a file was run")
    return counts, failures, costs


def main() -> int:
    """Runs it, prints the table, and ends with 1 where anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=1700, help="of each format")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--formats", nargs="+", default=FORMATS, choices=FORMATS)
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        folder, kind, first, last = arguments.worker
        work(Path(folder), kind, int(first), int(last))
        return 0
    counts, failures, costs = campaign(
        arguments.mutants, first=arguments.first, jobs=arguments.jobs, formats=tuple(arguments.formats)
    )
    print(f"{'weight files':<14}{'tried':>8}{'read':>8}{'refused':>9}{'failed':>8}")
    for kind, found in [*counts.items(), ("all", sum(counts.values(), Counter()))]:
        numbers = f"{found.total():>8}{found['read']:>8}{found['refused']:>9}{found['failed']:>8}"
        print(f"{kind:<14}{numbers}  {costs.get(kind, '')}".rstrip())
    print(*[kinds(failures)] * bool(failures), *failures, sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
