"""The page survives any file name: nothing is markup, every link leads to its file."""

import html.parser
import urllib.parse

import pytest
from PIL import Image

from mlfem_jax.gallery.page import ExplainedPhoto, write_page
from tests.browser import CHROMIUM, ask, violations

NASTY = """a "b" 'c' <script>alert(1)</script> & 100%? #é中.png"""


class Links(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.tags, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def write(tmp_path, **fields):
    files = {name: f"{name} {NASTY}" for name in ("photo", "overlay", "sheet", "map")}
    photo = ExplainedPhoto(name=NASTY, **files, top=((NASTY, 0.512), ("cat", 0.25)))
    write_page(tmp_path / "index.html", [photo], settings={"method": NASTY}, **fields)
    return (tmp_path / "index.html").read_text(encoding="utf-8"), files


def test_names_are_text_and_links_lead_to_the_files(tmp_path):
    text, files = write(tmp_path, failures=[f"{NASTY}: empty"])
    page = Links(text)
    assert "script" not in page.tags
    for shown in (NASTY, f"{NASTY}: empty", "51.2 %", "25.0 %"):
        assert shown in page.text
    assert {urllib.parse.unquote(link) for link in page.links} == set(files.values()) | {"#photo1"}


def test_the_page_asks_nothing_of_the_network(tmp_path):
    text, _ = write(tmp_path)
    assert "//" not in text.replace("<!doctype html>", "")


def test_failures_have_a_section_only_if_there_are_any(tmp_path):
    assert "Not explained" not in write(tmp_path)[0]
    assert "Not explained" in write(tmp_path, failures=["x.png: empty"])[0]


@pytest.fixture
def two_photos(tmp_path):
    Image.new("RGB", (60, 40), (40, 90, 160)).save(tmp_path / "a.png")
    photo = {name: "a.png" for name in ("photo", "overlay", "sheet", "map")}
    photos = [ExplainedPhoto(name=name, **photo, top=(("tabby", 0.5), ("cat", 0.25))) for name in ("one", "two")]
    write_page(tmp_path / "index.html", photos, settings={"method": "add"}, failures=["x.png: empty"])
    return tmp_path / "index.html"


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_keys_move_from_photograph_to_photograph(two_photos, tmp_path):
    script = """const press = key => {
        document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
        return document.activeElement.id; };
      return ["j", "j", "j", "k"].map(press);"""
    assert ask(two_photos, script, tmp_path) == ["photo1", "photo2", "photo2", "photo1"]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [1400, 390])
def test_the_page_is_accessible_and_no_wider_than_the_window(two_photos, tmp_path, width):
    assert violations(two_photos, tmp_path, f"--window-size={width},900") == []
    script = "return [document.documentElement.scrollWidth, innerWidth];"
    scrolled, window = ask(two_photos, script, tmp_path, f"--window-size={width},900")
    assert scrolled <= window


def test_pictures_of_an_earlier_run_are_no_photographs(tmp_path):
    from mlfem_jax.files import replacing, writing
    from mlfem_jax.gallery.names import made_before

    with writing(tmp_path), replacing(tmp_path / "cat.overlay.png") as file:
        file.write(b"ours")
    (tmp_path / "cat.png").write_bytes(b"theirs")
    paths = [tmp_path / "cat.png", tmp_path / "cat.overlay.png", tmp_path / "gone.png"]
    assert made_before(paths, tmp_path) == [tmp_path / "cat.overlay.png"]
    assert made_before(paths, tmp_path / "elsewhere") == []
