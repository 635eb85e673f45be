"""How `make docs` builds the pages: executed notebooks, the API from docstrings, nothing from other hosts."""

import os
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import jupytext
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))
# The kernels that execute the pages: the library of this checkout, and compiled functions kept between builds.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / "out" / "docs_compiled"))

import mlfem_jax  # noqa: E402

project = "mlfem_jax"
author = "the authors of mlfem_jax"
project_copyright = "the authors of mlfem_jax, Apache License 2.0"
release = version = mlfem_jax.__version__
language = "en"

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "myst_nb",
    "sphinx_design",
]
default_role = "code"  # docstrings are plain prose: `x` is code
exclude_patterns = ["_build"]
suppress_warnings = ["mystnb.unknown_mime_type"]

# Pages
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / "out" / "docs_executed")
nb_execution_timeout = 900  # a cell; for machines with other work to do
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_output_stderr = "remove-warn"  # a page that prints a warning is not done
nb_ipywidgets_js: dict[str, Any] = {}
html_copy_source = True

# API
autodoc_typehints = "none"  # the docstrings say shapes, dtypes and ranges
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_custom_sections = [("Source", "notes_style"), "Example"]

# The site
html_title = "mlfem_jax"
html_theme = "sphinx_book_theme"
html_theme_options = {
    "use_download_button": True,
    "use_fullscreen_button": False,
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "navbar_start": [],
    "navbar_center": [],
    "navbar_end": [],
    "navbar_persistent": [],
}
html_static_path = ["_static", "../out/docs_vendor"]
html_css_files = ["mlfem.css"]
html_show_sphinx = False
mathjax_path = "mathjax/tex-chtml.js"  # `make docs` unpacks its npm package

log = logging.getLogger(__name__)


def setup(app: Sphinx) -> None:
    """Hooks of the build."""
    if not (ROOT / "out" / "docs_vendor" / "mathjax").is_dir():
        raise FileNotFoundError("out/docs_vendor/mathjax: MathJax is not unpacked; `make docs` does it")
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("autodoc-process-docstring", need_docstring)
    app.connect("autodoc-process-docstring", escape_prose, priority=900)  # behind Napoleon
    app.connect("html-page-context", offer_notebook)
    app.connect("build-finished", write_notebooks)


def skip_fields(app: Sphinx, kind: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Namespaces have pages of their own; fields of a class stand in its docstring, under Attributes."""
    is_module = type(member).__name__ == "module"
    is_field = kind == "class" and not callable(member) and not isinstance(member, property)
    is_foreign = kind == "class" and not getattr(member, "__module__", "mlfem_jax").startswith("mlfem_jax")
    return True if is_module or is_field or is_foreign else None


def need_docstring(app: Sphinx, kind: str, name: str, member: Any, options: Any, lines: list[str]) -> None:
    """A public name that says nothing of itself ends the build (warnings are errors)."""
    if kind == "data":
        lines[:] = data_docstring(name)
    if kind != "module" and not any(map(str.strip, lines)):
        log.warning("%s: expected a docstring, got none", name)


def escape_prose(app: Sphinx, kind: str, name: str, member: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are prose, not reStructuredText: |x|, a * b and name_ mean what they say; examples stay."""
    in_example = False
    for number, line in enumerate(lines):
        in_example = (in_example or line.lstrip().startswith(">>>")) and bool(line.strip())
        if not in_example:
            parts = re.split(r"(`[^`]*`)", line)
            parts[::2] = [re.sub(r"(?<!\\)([|*]|(?<=\w)_(?!\w))", r"\\\1", part) for part in parts[::2]]
            lines[number] = "".join(parts)


def data_docstring(name: str) -> list[str]:
    """What stands below a constant, in whichever module of its package it is written."""
    package, _, constant = name.rpartition(".")
    for path in sorted(Path(import_module(package).__file__ or "").parent.rglob("*.py")):
        relative = path.with_suffix("").relative_to(ROOT)
        docs = ModuleAnalyzer.for_module(".".join(relative.parts)).find_attr_docs()
        if ("", constant) in docs:
            return list(docs["", constant])
    return []


def is_notebook(app: Sphinx, page: str) -> bool:
    """Whether the page is executed."""
    return app.env.metadata.get(page, {}).get("file_format") == "mystnb"


def offer_notebook(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """The theme's download button offers the page as a Jupyter notebook too."""
    if is_notebook(app, page):
        context["ipynb_source"] = f"{page}.ipynb"


def write_notebooks(app: Sphinx, error: Exception | None) -> None:
    """A Jupyter notebook, not executed, of every executed page, where the download button looks for it."""
    if error is None and app.builder.name == "html":
        for page in filter(lambda page: is_notebook(app, page), app.env.found_docs):
            target = Path(app.outdir) / "_sources" / f"{page}.ipynb"
            target.parent.mkdir(parents=True, exist_ok=True)
            text = (HERE / f"{page}.md").read_text(encoding="utf-8")
            jupytext.write(jupytext.reads(without_options(text), fmt="md:myst"), target)


def without_options(text: str) -> str:
    """The page without MyST-NB's options of a cell, which a notebook has no use for."""
    return re.sub(r"(```\{code-cell\}[^\n]*\n)---\n.*?\n---\n", r"\1", text, flags=re.DOTALL)
