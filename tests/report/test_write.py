import base64
import csv
import io
import json
import re

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs pyarrow")
pytest.importorskip("scipy", reason="needs SciPy")

from PIL import Image

from mlfem_jax.cli import main
from mlfem_jax.report.write import Config, write_report
from mlfem_jax.runs import claim
from mlfem_jax.scores.table import write_part
from tests.browser import CHROMIUM, ask, dump, violations

METHODS = ("grad_cam", "fem", "humans")
METRICS = ("pcc", "kl_divergence", "insertion")
NAN = float("nan")
# PCC, KL and insertion of each image and method
SCORES = [
    [[0.1, 2.0, 0.5], [0.3, 1.0, 0.4], [0.9, 0.1, NAN]],
    [[0.2, 2.0, 0.5], [0.2, 3.0, 0.6], [0.8, 0.2, NAN]],
    [[NAN, NAN, NAN], [0.4, 1.5, 0.2], [0.7, 0.3, NAN]],
    [[0.5, 1.0, 0.1], [0.1, 2.0, 0.3], [0.6, 0.4, NAN]],
]


def write_table(folder, scores=SCORES, map_size=2, kept=None, **changed):
    settings = {
        "dataset": "by <hand>", "split": None, "fold": None, "images": len(scores), "gaze": True, "backbone": "tiny",
        "weights": None, "input_size": [8, 8], "rule": "stretch", "sigma_px": 2.0, "task": "single", "metrics": METRICS,
        "rows": METHODS, "map_size": map_size, "version": "0", "commit": None, "class_names": ["cat", "</script>dog"],
        "network_labels": ["tabby", "poodle"],
    } | changed  # fmt: skip
    photo = io.BytesIO()
    Image.new("RGB", (12, 8), (40, 90, 160)).save(photo, "JPEG")
    small = bytes([0, 85, 170, 255])
    claim(folder, settings)
    settings = json.loads(json.dumps(settings))
    half, metrics = len(scores) // 2, settings["metrics"]
    for number, places in enumerate((range(half), range(half, len(scores)))):
        rows = [
            {"position": i, "id": f"image{i}", "labels": [i % 2], "prediction": 0, "probability": 0.25,
             "correct": i % 2 == 0, "clutter": 1 + i // 2 % 2, "method": method, "constant": np.isnan(own[0]),
             "map": small if map_size else None, **dict(zip(metrics, own, strict=True))}
            for i in places
            for method, own in zip(METHODS, scores[i], strict=True)
        ]  # fmt: skip
        pictures = [{"id": f"image{i}", "photo": kept or photo.getvalue(), "gaze": small} for i in places]
        write_part(folder, number, rows, pictures, metrics=metrics, settings=settings)
    return folder


def rows_of(path, **wanted):
    rows = list(csv.DictReader(path.read_text().splitlines()))
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(Config(write_table(folder / "scores"), folder / "report", resamples=99))
    return folder / "report"


def test_summary_by_hand(report):
    (row,) = rows_of(report / "summary.csv", metric="pcc", method="grad_cam")
    assert (row["count"], row["undefined"], row["constant_maps"]) == ("3", "1", "1")
    assert float(row["mean"]) == pytest.approx(0.8 / 3, rel=1e-5) and float(row["median"]) == pytest.approx(0.2)
    assert 0.1 <= float(row["low"]) <= float(row["mean"]) <= float(row["high"]) <= 0.5
    (row,) = rows_of(report / "summary.csv", metric="insertion", method="humans")
    assert (row["count"], row["mean"], row["undefined"]) == ("0", "nan", "4")


def test_pairs_by_hand(report):
    # Image 1 is a tie of PCC, grad_cam is undefined on image 2; a lower KL wins; humans take no part.
    (row,) = rows_of(report / "pairs.csv", metric="pcc", method="fem")
    assert (row["other"], row["wins"], row["losses"], row["images"]) == ("grad_cam", "1", "1", "3")
    (row,) = rows_of(report / "pairs.csv", metric="kl_divergence", method="fem")
    assert (row["wins"], row["losses"], row["images"]) == ("1", "2", "3")
    assert len(rows_of(report / "pairs.csv")) == 6


def test_effects_are_beside_the_tests(report):
    (row,) = rows_of(report / "pairs.csv", metric="pcc", method="fem")
    # 0.3 - 0.1, 0.2 - 0.2, 0.1 - 0.5 on the three images where both are defined
    assert row["ties"] == "1" and float(row["difference"]) == pytest.approx(-0.2 / 3, rel=1e-5)
    assert float(row["superiority"]) == 0.5 and float(row["low"]) >= -0.4 and float(row["high"]) <= 0.2


def test_what_survives_a_blur_is_in_a_table_and_on_the_page(tmp_path, report):
    assert rows_of(report / "smoothing.csv") == []
    metrics = ("pcc", "pcc@gaze")
    raw = np.linspace(0, 0.5, 12)[:, None] + np.array([[0.1, 0.0, 0.4]])
    blurred = np.linspace(0, 0.5, 12)[:, None] + np.array([[0.1, 0.2, 0.4]])
    scores = np.stack([raw, blurred], axis=2).tolist()
    write_report(Config(write_table(tmp_path / "a", scores, metrics=metrics), tmp_path / "b", resamples=9))
    (row,) = rows_of(tmp_path / "b" / "smoothing.csv")
    assert (row["metric"], row["blurred"], row["method"], row["other"]) == ("pcc", "pcc@gaze", "grad_cam", "fem")
    assert (float(row["raw"]), float(row["smoothed"]), row["verdict"]) == (0.1, -0.1, "reversed")
    page = (tmp_path / "b" / "report.html").read_text()
    assert "of 1 orders of two methods 0 survive, 1 are reversed" in page and "PCC, blurred" in page


def test_groups_by_hand(report):
    (row,) = rows_of(report / "correct.csv", metric="pcc", method="fem", correct="wrong")
    assert (row["count"], float(row["mean"])) == ("2", pytest.approx(0.15))
    (row,) = rows_of(report / "clutter.csv", metric="pcc", method="humans", clutter="2")
    assert (row["count"], float(row["mean"])) == ("2", pytest.approx(0.65))


def test_latex_marks_the_best_method(report):
    lines = (report / "summary.tex").read_text().splitlines()
    assert lines[2] == r" & PCC $\uparrow$ & KL $\downarrow$ & Insertion $\uparrow$ \\"
    grad_cam, fem, humans = lines[4:7]
    assert grad_cam.startswith(r"grad\_cam & \textbf{0.267} $\pm$ ") and r"\textbf{1.667}" in grad_cam
    assert fem.startswith(r"fem & 0.250 $\pm$ ") and r"\textbf{0.375}" in fem
    assert "textbf" not in humans and humans.endswith(r"& -- \\")


def test_figures_are_there_in_both_forms(report):
    names = {"wins", "distributions", "correct", "clutter", "plausibility_insertion"}
    assert {path.stem for path in report.glob("*.png")} == {path.stem for path in report.glob("*.svg")} == names
    assert all(np.ptp(np.asarray(Image.open(path).convert("L"))) > 200 for path in report.glob("*.png"))


def test_the_scatter_names_only_what_it_draws(report):
    texts = re.findall("<!-- (.*?) -->", (report / "plausibility_insertion.svg").read_text())
    assert {"grad_cam", "fem", "human ceiling"} <= set(texts) and "humans" not in texts  # people have no insertion


def test_the_page_is_whole_and_alone(report):
    page = (report / "report.html").read_text()
    assert "by &lt;hand&gt;" in page and "by <hand>" not in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", page) and "http" not in page.replace("http-equiv", "")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page).group(1))
    assert data["images"][1]["labels"] == ["</script>dog"] and data["images"][1]["prediction"] == "tabby (25%)"
    assert data["images"][2]["scores"][0] == [None, None, None] and data["images"][0]["scores"][1] == [0.3, 1.0, 0.4]
    lines = re.search(r'id="pictures">(.*?)</script>', page, re.DOTALL).group(1).split("\n")
    assert len(lines) == 4
    photo, gaze, *maps = (Image.open(io.BytesIO(base64.b64decode(file))) for file in lines[3].split(" "))
    assert photo.size == (12, 8) and np.asarray(gaze).tolist() == [[0, 85], [170, 255]] and len(maps) == 3


def test_a_table_without_maps_labels_or_clutter(tmp_path):
    folder = write_table(tmp_path / "scores", map_size=0)
    for path in folder.glob("pictures-*"):
        path.unlink()
    assert main(["report", str(folder), "--out", str(tmp_path / "report"), "--images", "2", "--resamples", "9"]) == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert [image["id"] for image in json.loads(re.search(r'id="data">(.*?)</script>', page).group(1))["images"]] == [
        "image0",
        "image3",
    ]


def test_an_unfinished_table_is_refused(tmp_path, capsys):
    folder = write_table(tmp_path / "scores")
    (folder / "scores-00001.parquet").unlink()
    assert main(["report", str(folder), "--out", str(tmp_path / "report")]) == 2
    assert "expected the scores of 4 images, got those of 2; run `mlfem score` again" in capsys.readouterr().err
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "report")]) == 2
    assert "expected a run, with run.json, got a folder without it" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "nowhere"), "--out", str(tmp_path / "report")]) == 2
    assert "nowhere: expected the folder of a run, got no folder of that name" in capsys.readouterr().err


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_page_works_in_a_browser(report, tmp_path):
    script = """<script>addEventListener("load", () => {
      const seen = [...document.querySelectorAll("#list button")].map(button => button.dataset.image);
      const set = (id, value) => { at(id).value = value; at(id).oninput(); };
      set("correct", "true");
      const correct = order.slice();
      set("correct", ""); set("least", "2");
      const cluttered = order.slice();
      set("least", ""); set("most", "1");
      const bare = order.slice();
      set("most", ""); set("metric", "1"); set("method", "1"); set("order", "-1"); set("opacity", "25");
      set("class", "cat");
      const cats = order.slice();
      set("class", "");
      setTimeout(() => {
        const canvas = document.querySelector("#cards canvas");
        const pixel = canvas.getContext("2d").getImageData(1, 1, 1, 1);
        document.body.replaceChildren("RESULT" + JSON.stringify({seen, correct, cluttered, bare, cats, worst: order,
          size: [canvas.width, canvas.height], opacity: getComputedStyle(canvas).opacity,
          pixel: [...pixel.data], cards: document.querySelectorAll(".card").length}) + "END");
      }, 300);
    });</script></body>"""
    page = tmp_path / "page.html"
    page.write_text((report / "report.html").read_text().replace("</body>", script))
    text = dump(page, tmp_path / "profile", "--virtual-time-budget=5000")
    result = json.loads(re.search("RESULT(.*?)END", text, re.DOTALL).group(1))
    assert result["seen"] == ["3", "1", "0", "2"]  # by PCC of grad_cam; the undefined one is last
    assert (
        result["correct"] == [0, 2]
        and result["cluttered"] == [3, 2]
        and result["bare"] == [1, 0]
        and result["cats"] == [2, 0]
    )
    assert result["worst"] == [1, 3, 2, 0]  # KL of fem: 3, 2, 1.5, 1
    assert result["size"] == [2, 2] and result["opacity"] == "0.25"
    assert result["pixel"] == [252, 255, 164, 255]  # the top of matplotlib's inferno


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_keys_links_and_the_picture(report, tmp_path):
    script = """
      const press = (key, target = document.body) =>
        target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
      const first = images[current].id;
      press("ArrowRight"); press("j"); press("k");
      const second = images[current].id;
      press("2");
      const link = new URL(at("link").href).hash;
      press("a");
      press("/");
      const focused = document.activeElement.id;
      press("j", at("find"));  // text, not a command
      const typed = images[current].id;
      location.hash = new URLSearchParams({ image: "image2", methods: "fem,humans" });
      await new Promise(done => setTimeout(done, 300));
      const titles = [...document.querySelectorAll(".card b")].map(one => one.textContent);
      const stops = [...document.querySelectorAll("#list button")].filter(one => one.tabIndex === 0).length;
      const sheet = picture(), pixel = sheet.getContext("2d").getImageData(20, 20, 1, 1).data;
      return { first, second, link, focused, typed, asked: images[current].id, titles, stops,
               sheet: [sheet.width, sheet.height], pixel: [...pixel] };"""
    found = ask(report / "report.html", script, tmp_path)
    assert (found["first"], found["second"], found["typed"]) == ("image3", "image1", "image1")
    assert found["link"] == "#image=image1&methods=grad_cam%2Chumans" and found["focused"] == "find"
    assert found["asked"] == "image2" and found["titles"] == ["photo", "gaze", "fem", "humans"]
    assert found["stops"] == 1  # the list is one stop of the tab key
    assert found["sheet"] == [2 * (4 * 252 - 12), 2 * (160 + 20 + 12)]  # four cards of 240 x 160
    assert all(abs(a - b) <= 6 for a, b in zip(found["pixel"], (40, 90, 160, 255), strict=True))  # the photograph


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_two_runs_side_by_side(report, tmp_path):
    other = write_table(tmp_path / "other", [[[0.5, 1.0, 0.5]] * 3] * 4)
    write_report(Config(other, tmp_path / "other_report", resamples=99))
    page = json.dumps((tmp_path / "other_report" / "report.html").read_text()).replace("<", "\\u003c")
    script = f"""take({page});
      const count = what => document.querySelectorAll(what).length;
      return {{ headings: count("#cards h4"), cards: count(".card"),
               caption: document.querySelector("#compared caption").textContent,
               rows: [...document.querySelectorAll("#compared tbody tr")].map(row => row.textContent) }};"""
    found = ask(report / "report.html", script, tmp_path)
    assert found["headings"] == 2 and found["cards"] == 10
    assert "4 images" in found["caption"]
    assert found["rows"][0] == "grad_cam0.267, 0.5001.667, 1.0000.367, 0.500"  # of the images where both are defined


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_is_accessible_and_no_wider_than_the_window(report, tmp_path, width, dark):
    options = [f"--window-size={width},900", *(["--blink-settings=preferredColorScheme=0"] if dark else [])]
    assert violations(report / "report.html", tmp_path, *options) == []
    script = "return [document.documentElement.scrollWidth, innerWidth];"
    scrolled, window = ask(report / "report.html", script, tmp_path, *options)
    assert scrolled <= window


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_page_without_pictures_says_so(tmp_path):
    scores = [[[0.1, 2.0, 0.5], [0.3, 1.0, 0.4], [0.9, 0.1, 0.2]]] * 4  # everything is defined
    write_report(Config(write_table(tmp_path / "scores", scores, map_size=0), tmp_path / "report", resamples=99))
    page = tmp_path / "report" / "report.html"
    assert "No pictures were kept" in page.read_text() and "--map-size 56" in page.read_text()
    assert "Undefined values" not in page.read_text()
    script = """return { thumbnails: document.querySelectorAll("#list img").length, buttons: order.length,
      notes: document.querySelectorAll(".card small").length, opacity: at("opacity") === null };"""
    assert ask(page, script, tmp_path) == {"thumbnails": 0, "buttons": 4, "notes": 3, "opacity": True}


def test_tests_fold_after_the_figures(report):
    page = (report / "report.html").read_text()
    assert page.index("<h2>Figures") < page.index("<details>") and page.count("<details>") == len(METRICS)
    assert "No pictures were kept" not in page and "Undefined values" in page


@pytest.mark.parametrize(("input_size", "shape", "layout"), [([20], (1, 4), "signals"), ([9, 4, 4], (2, 2), "strips")])
def test_a_page_of_recordings_shows_a_curve_or_a_strip(tmp_path, input_size, shape, layout):
    kept = io.BytesIO()
    picture = np.sin(np.arange(20.0))[:, None] if layout == "signals" else np.full((8, 30, 3), 200, np.uint8)
    np.save(kept, picture)
    changed = {"input_size": input_size, "map_shape": shape, "sigma_px": [1.0], "kept": kept.getvalue()}
    write_report(Config(write_table(tmp_path / "scores", **changed), tmp_path / "report", resamples=9))
    page = (tmp_path / "report" / "report.html").read_text()
    assert "<h2>Recordings</h2>" in page and "and people" not in page and "<dt>rule</dt>" not in page
    data = json.loads(re.search('id="data">(.*?)</script>', page).group(1))
    assert (
        data["layout"] == layout
        and data["recordings"]
        and data["colors"][:3] == ([252, 255, 164] if layout == "signals" else [0, 0, 4])
    )
    lines = re.search('id="pictures">(.*?)</script>', page, re.DOTALL).group(1).split("\n")
    photo, *maps = (Image.open(io.BytesIO(base64.b64decode(text))) for text in lines[0].split())
    assert photo.format == "JPEG" and photo.size == ((900, 90) if layout == "signals" else (30, 8))
    assert len(maps) == 1 + len(METHODS) and all(one.size == shape[::-1] for one in maps)
