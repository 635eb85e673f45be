"""The command line, from arguments to files: a tiny network everywhere, the real one once."""

import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import mlfem_jax as mlfem
from mlfem_jax import compilation
from mlfem_jax.cli import COMMANDS, main, run_command
from mlfem_jax.gallery import write as gallery
from mlfem_jax.gallery.look import parse_layers
from mlfem_jax.photos import place_map, read_photo, resize_photo


@pytest.fixture(autouse=True)
def keep_jax_settings():
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="module")
def network():
    """Two layers: the bright, and the bright at half the resolution. Its logits are fixed."""

    def apply(params, inputs):
        bright = jax.nn.relu(inputs * params)
        half = bright.reshape(len(bright), bright.shape[1] // 2, 2, bright.shape[2] // 2, 2, 3).max(axis=(2, 4))
        logits = jnp.broadcast_to(jnp.log(jnp.array([[0.1, 0.2, 0.7]])), (len(inputs), 3))
        return logits, {"whole": bright, "half": half}

    return mlfem.from_function(
        apply,
        jnp.ones(()),
        input_size=(16, 16),
        preprocess=lambda images: images.astype(jnp.float32) / 255,
        labels=("ant", "bee", "cat"),
    )


@pytest.fixture
def tiny(network, monkeypatch):
    monkeypatch.setattr(gallery, "load_backbone", lambda name, weights: network)
    return network


def square_at(y, x, shape=(48, 64)):
    image = np.zeros((*shape, 3), np.uint8)
    image[y - 5 : y + 6, x - 5 : x + 6] = 255
    return image


def save(path, image):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(image).save(path)
    return str(path)


def run(*arguments, out):
    return main(["explain", *map(str, arguments), "--out", str(out), "--cache", "none"])


def test_the_files_of_each_photo_and_one_page(tmp_path, tiny, capsys):
    photos = [
        save(tmp_path / "in" / "a b'<i>.png", square_at(20, 40)),
        save(tmp_path / "in" / "é.png", square_at(30, 12)),
    ]
    out = tmp_path / "out"
    assert run(*photos, out=out) == 0
    endings = (".png", ".overlay.png", ".sheet.png", ".npy")
    wanted = {f"{stem}{ending}" for stem in ("a b'<i>", "é") for ending in endings} | {"index.html", ".mlfem.jsonl"}
    assert {path.name for path in out.iterdir()} == wanted
    importance = np.load(out / "é.npy")
    assert importance.dtype == np.float32 and importance.shape == (48, 64)
    assert np.hypot(*(np.unravel_index(importance.argmax(), importance.shape) - np.array([30, 12]))) < 6
    np.testing.assert_array_equal(read_photo(out / "é.png"), square_at(30, 12))
    output = capsys.readouterr()
    assert "é.png: cat 70.0 %, bee 20.0 %, ant 10.0 %" in output.out
    assert output.out.splitlines()[-1] == str(out / "index.html")
    assert output.err == ""  # no progress bar where there is no terminal


@pytest.mark.parametrize(("method", "resize"), [("add", "stretch"), ("top", "crop"), ("fem", "native")])
def test_the_map_is_that_of_explain(tmp_path, tiny, resize, method):
    image = square_at(20, 40)
    photo = save(tmp_path / "a.png", image)
    options = ("--method", method, "--resize", resize, "--k", "1", "--alpha", "0.25")
    assert run(photo, *options, "--map-size", "input", out=tmp_path / "input") == 0
    assert run(photo, *options, out=tmp_path / "photo") == 0
    alpha = {} if method == "fem" else {"alpha": 0.25}
    seen = resize_photo(image, (16, 16), rule=resize)
    expected = np.asarray(mlfem.explain(tiny, [image], method=method, k=1.0, resize=resize, **alpha)[0])
    assert expected.shape == seen.shape[:2]
    np.testing.assert_allclose(np.load(tmp_path / "input" / "a.npy"), expected, atol=1e-6)
    placed = place_map(expected, (48, 64), rule=resize)
    np.testing.assert_allclose(np.load(tmp_path / "photo" / "a.npy"), placed, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "names"), [("all", None), ("1", [1]), ("half", ["half"]), ("-1,whole", [-1, "whole"])]
)
def test_layers_are_chosen_by_name_and_number(tmp_path, tiny, text, names):
    photo = save(tmp_path / "a.png", square_at(20, 40))
    assert run(photo, f"--layers={text}", "--map-size=input", out=tmp_path / "out") == 0
    expected = mlfem.explain(tiny, [square_at(20, 40)], layers=names)[0]
    np.testing.assert_allclose(np.load(tmp_path / "out" / "a.npy"), expected, atol=1e-6)


def test_layers_as_a_slice():
    assert parse_layers("3:") == slice(3, None)
    assert parse_layers("-2:-1") == slice(-2, -1)
    assert parse_layers(":") == slice(None)


def test_a_bad_photo_is_one_line_and_the_others_are_done(tmp_path, tiny, capsys):
    for index in range(20):  # more than a batch and more than are read ahead
        save(tmp_path / "in" / f"{index}.png", square_at(20, 40))
    (tmp_path / "in" / "7.png").write_bytes(b"")
    (tmp_path / "in" / "13.png").write_bytes(b"not an image")
    assert run(tmp_path / "in", tmp_path / "no*.png", out=tmp_path / "out") == 1
    lines = sorted(capsys.readouterr().err.splitlines())
    assert len(lines) == 3
    for line, name in zip(lines, ("13.png", "7.png", "no*.png"), strict=True):
        assert line.startswith("mlfem: ") and name in line
    assert len(list((tmp_path / "out").glob("*.npy"))) == 18
    assert (tmp_path / "out" / "index.html").read_text().count("not an image") == 2


def test_photographs_that_are_left_out_of_a_folder_are_counted_and_told_by_the_status(tmp_path, tiny, capsys):
    save(tmp_path / "in" / "a.png", square_at(20, 40))
    (tmp_path / "in" / "notes.txt").touch()
    assert run(tmp_path / "in", out=tmp_path / "out") == 0
    assert "1 .txt files (left out), first notes.txt" in capsys.readouterr().err
    for name in ("b.HEIC", "c.heic"):
        (tmp_path / "in" / name).touch()
    (tmp_path / "in" / "lost.jpg").symlink_to("nowhere.jpg")
    assert run(tmp_path / "in", out=tmp_path / "out") == 1
    page, lines = (tmp_path / "out" / "index.html").read_text(), capsys.readouterr().err
    for line in ("2 .heic files (left out), first b.HEIC", "1 links that lead nowhere (left out), first lost.jpg"):
        assert line in lines and line in page
    assert "notes.txt" not in page


def test_subfolders_that_cannot_be_read_are_told_by_the_status(tmp_path, tiny, monkeypatch, capsys):
    save(tmp_path / "in" / "a.png", square_at(20, 40))
    save(tmp_path / "in" / "shut" / "b.png", square_at(20, 40))
    scandir = os.scandir

    def closed(path):
        if os.fspath(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    for argument in (tmp_path / "in", tmp_path / "in" / "**" / "*.png"):
        assert run(argument, out=tmp_path / "out") == 1
        assert "1 folders that cannot be read (left out), first shut" in capsys.readouterr().err


def test_photos_of_one_stem_keep_their_files(tmp_path, tiny, capsys):
    names = ["x/a.png", "y/a.png", "x/a-2.png", "y/A.gif"]
    photos = [save(tmp_path / name, square_at(20, 40)) for name in names]
    assert run(*photos, out=tmp_path / "out") == 0
    stems = sorted(path.stem for path in (tmp_path / "out").glob("*.npy"))
    assert len({stem.casefold() for stem in stems}) == 4
    output = capsys.readouterr().out
    assert all(f"{name}: cat" in output for name in names)


def test_files_of_others_are_never_written_over(tmp_path, tiny, capsys, monkeypatch):
    names = ["cup.jpg", "cup.overlay.jpg", "a.png", "A.PNG", "index.png"]
    for index, name in enumerate(names):
        save(tmp_path / name, square_at(20, 10 + index))
    np.save(tmp_path / "cup.npy", np.arange(3))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # the second time, over what the first has written
        assert run(*names, out=".") == 0
        assert {name: (tmp_path / name).read_bytes() for name in before} == before
        pictures = re.findall(r'src="([^"]+)"', (tmp_path / "index.html").read_text())
        assert len(set(pictures)) == len(pictures) >= 2 * len(names)
        assert not set(pictures) & before.keys() and all((tmp_path / name).exists() for name in pictures)
        maps = sorted(path.name for path in tmp_path.glob("*.npy"))
        assert maps == ["A-2.npy", "a-3.npy", "cup-2.npy", "cup.npy", "cup.overlay.npy", "index-2.npy"]
    (tmp_path / "index.html").write_text("mine")
    capsys.readouterr()
    assert run(*names, out=".") == 2
    assert re.fullmatch(
        r"mlfem explain: \.: expected .*, got index\.html, which would be .*\n", capsys.readouterr().err
    )
    assert (tmp_path / "index.html").read_text() == "mine"


def test_names_are_shown_without_what_steers_the_terminal(tmp_path, tiny, capsys):
    photo = save(tmp_path / "a\x1b[2J\nb.png", square_at(20, 40))
    (tmp_path / "bad\x1b]0;x.png").write_bytes(b"")
    assert run(photo, tmp_path / "bad\x1b]0;x.png", tmp_path / "no\x9b.png", out=tmp_path / "out\x1b") == 1
    output = capsys.readouterr()
    assert "\x1b" not in output.out + output.err and "\x9b" not in output.err
    assert r"a\x1b[2J\nb.png: cat" in output.out and r"bad\x1b]0;x.png: " in output.err
    assert not any(set("\x1b\n") & set(path.name) for path in (tmp_path / "out\x1b").iterdir())


def test_large_photos_have_pictures_of_limited_size(tmp_path, tiny):
    photo = save(tmp_path / "a.png", square_at(20, 40))
    assert run(photo, "--picture-px", 32, out=tmp_path / "out") == 0
    assert read_photo(tmp_path / "out" / "a.overlay.png").shape == (24, 32, 3)
    assert np.load(tmp_path / "out" / "a.npy").shape == (48, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "photos: expected .*, got none"),
        (["--method", "nope"], "method: expected one of"),
        (["--layers", "nope"], "layers: expected some of .*, got 'nope'"),
        (["--batch-size", "0"], "batch_size: expected at least 1"),
        (["--k", "nan"], "k: expected a finite number, got nan"),
    ],
)
def test_wrong_options_are_one_line(tmp_path, tiny, capsys, arguments, message):
    photo = [save(tmp_path / "a.png", square_at(20, 40))] if arguments else []
    assert run(*photo, *arguments, out=tmp_path / "out") == 2
    assert re.fullmatch(rf"mlfem explain: .*{message}.*\n", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("module, extra", [("pyarrow.parquet", "eval"), ("grain", "data"), ("h5py", "keras")])
def test_a_missing_extra_is_named_with_the_command_that_brings_it(capsys, module, extra):
    def command():
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)  # as Python says it

    assert run_command("mlfem score", command) == 2
    name = module.split(".")[0]
    assert capsys.readouterr().err == f"mlfem score: needs the module {name}: pip install 'mlfem-jax[{extra}]'\n"


def test_an_interrupted_run_leaves_no_half_written_file(tmp_path, tiny, monkeypatch, capsys):
    photo = save(tmp_path / "a.png", square_at(20, 40))

    def interrupt(file, importance):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(gallery.np, "save", interrupt)
    assert run(photo, out=tmp_path / "out") == 130
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "a.png",
        "a.overlay.png",
        "a.sheet.png",
        ".mlfem.jsonl",
    }
    assert capsys.readouterr().err == "mlfem explain: interrupted\n"


def test_a_reader_that_is_gone_is_one_line():
    reading, writing = os.pipe()
    os.close(reading)
    script = "from mlfem_jax.cli import program; program(['--help'])"
    with os.fdopen(writing, "wb") as pipe:
        ended = subprocess.run([sys.executable, "-c", script], stdout=pipe, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 2 and ended.stderr == "mlfem: [Errno 32] Broken pipe\n"


def test_the_lists_and_the_help(capsys):
    for command, names in (("methods", mlfem.methods()), ("backbones", mlfem.backbone_names())):
        assert main([command]) == 0
        output = capsys.readouterr().out
        assert all(name in output for name in names)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mlfem {mlfem.__version__}\n"
    for arguments in ([], ["--help"]):
        assert main(arguments) == 0
        output = capsys.readouterr().out
        assert all(name in output for name in COMMANDS)
    assert main(["explian"]) == 2
    told = capsys.readouterr().err
    assert "mlfem: expected one of explain, score," in told and "got 'explian'" in told


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_a_line_of_help(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    output = capsys.readouterr().out
    assert "usage: mlfem" in output
    assert not re.search(r"^│ --\S+ +\S+ +\(default", output, re.MULTILINE)


def test_the_cache_folder_follows_the_platform(monkeypatch):
    monkeypatch.setattr(compilation.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert str(compilation.user_cache_folder()) == "/caches/mlfem_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/ann")
    assert str(compilation.user_cache_folder()) == "/home/ann/.cache/mlfem_jax"
    monkeypatch.setattr(compilation.sys, "platform", "darwin")
    assert str(compilation.user_cache_folder()) == "/home/ann/Library/Caches/mlfem_jax"


def test_which_cache_is_used(monkeypatch, tmp_path):
    folder = lambda cache: (compilation.keep_compiled(cache), jax.config.jax_compilation_cache_dir)[1]  # noqa: E731
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("MLFEM_CACHE", raising=False)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    assert folder("none") is None
    assert folder("auto") == str(tmp_path / "mlfem_jax")
    assert folder(str(tmp_path / "mine")) == str(tmp_path / "mine")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "jax"))
    assert folder("auto") == str(tmp_path / "jax")
    monkeypatch.setenv("MLFEM_CACHE", "none")
    assert folder("auto") is None


def test_the_demo_names_what_is_in_the_photos(tmp_path, efficientnet, monkeypatch, capsys):
    data = pytest.importorskip("skimage", reason="scikit-image, for its photographs").__path__[0] + "/data"
    monkeypatch.setattr(gallery, "load_backbone", lambda name, weights: efficientnet)
    assert run(f"{data}/coffee.png", f"{data}/chelsea.png", out=tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(("chelsea.png: Egyptian cat", "chelsea.png: tabby", "chelsea.png: tiger cat"))
    assert lines[1].startswith("coffee.png: espresso")
