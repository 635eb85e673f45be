"""The site that `make docs` builds before it runs this: nothing is fetched from other hosts, no page is missing."""

import html.parser
import json
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parent.parent.parent
SITE = ROOT / "out" / "docs"
SOURCES = sorted(path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md"))
FETCHES = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "object": "data"}

pytestmark = pytest.mark.skipif(not (SITE / "index.html").exists(), reason="needs the site that `make docs` builds")


class Page(html.parser.HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.fetched, self.links, self.ids, self.bare_images = [], [], set(), 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        own = dict(attributes)
        self.ids |= {own[name] for name in ("id", "name") if own.get(name)}
        self.bare_images += tag == "img" and not (own.get("alt") or "").strip()
        if tag in FETCHES and own.get(FETCHES[tag]) and own.get("rel") not in ("canonical",):
            self.fetched.append(own[FETCHES[tag]])
        if tag == "a" and own.get("href"):
            self.links.append(own["href"])


@pytest.fixture(scope="module")
def pages():
    return {path: Page(path) for path in SITE.rglob("*.html")}


def test_every_page_is_there(pages):
    assert {SITE / f"{source}.html" for source in SOURCES} <= pages.keys()


def test_nothing_is_fetched_from_other_hosts(pages):
    assert [(path.name, url) for path, page in pages.items() for url in page.fetched if urlsplit(url).netloc] == []
    styles = [(path, path.read_text(encoding="utf-8")) for path in SITE.rglob("*.css")]
    assert [path.name for path, text in styles if re.search(r"(@import|url\()\s*['\"]?(https?:)?//", text)] == []


def test_mathjax_is_a_part_of_the_site(pages):
    assert (SITE / "_static" / "mathjax" / "tex-chtml.js").exists()
    assert any("mathjax/tex-chtml.js" in url for url in pages[SITE / "methods" / "fem.html"].fetched)
    assert list((SITE / "_static" / "mathjax" / "output" / "chtml" / "fonts" / "woff-v2").glob("*.woff"))


def test_links_within_the_site_lead_somewhere(pages):
    lost = []
    for path, page in pages.items():
        for link in page.links:
            url = urlsplit(link)
            if url.scheme or url.netloc or link in ("#", ""):
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            ids = pages[target].ids if target in pages else ()
            if not target.exists() or (url.fragment and unquote(url.fragment) not in ids):
                lost.append((path.name, link))
    assert lost == []


def test_pictures_say_what_they_show(pages):
    assert {path.name: page.bare_images for path, page in pages.items() if page.bare_images} == {}


def test_executed_pages_are_notebooks_too():
    executed = [source for source in SOURCES if "file_format: mystnb" in (ROOT / "docs" / f"{source}.md").read_text()]
    assert len(executed) > 10
    for source in executed:
        notebook = json.loads((SITE / "_sources" / f"{source}.ipynb").read_text())
        assert [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
