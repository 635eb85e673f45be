"""How fast a browser opens the report of many images, and how long it is busy when one of them is looked at.

    python -m eval.benchmarks.page_speed --images 1000

Writes a page of noise pictures and opens it in headless Chromium, from the disk.
"""

import dataclasses
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from eval.benchmarks.common import noise, print_row
from mlfem_jax.cli import run_command
from mlfem_jax.report import ScoredImage, encode_pictures, write_score_page

_SCRIPT = """<script>addEventListener("load", () => {
  const opened = performance.now();
  const timed = act => { const start = performance.now(); act(); return performance.now() - start; };
  const sorted = timed(() => { at("order").value = "-1"; at("order").oninput(); });
  const shown = timed(() => show(order[order.length - 1]));
  document.body.replaceChildren("RESULT" + JSON.stringify({opened, sorted, shown}) + "END");
});</script></body>"""


@dataclasses.dataclass(frozen=True)
class Config:
    """How fast a browser opens the report of many images.

    Attributes:
        images: on the page.
        methods: of each image, one map each.
        map_size: side of a map in pixels.
        photo_size: side of a photograph in pixels.
    """

    images: int = 1000
    methods: int = 8
    map_size: int = 56
    photo_size: int = 224


def main(config: Config) -> None:
    """Prints milliseconds: until the page is loaded, to sort it anew, and to show an image."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        raise OSError("browser: expected Chromium on the path, got none")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        write_page(page, config)
        size = page.stat().st_size / 2**20
        page.write_text(page.read_text().replace("</body>", _SCRIPT))
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile"]
        command += ["--dump-dom", page.as_uri()]
        try:
            text = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
        except subprocess.SubprocessError as error:
            raise OSError(f"{browser}: expected the page's times, got {error!r}") from error
    found = re.findall("RESULT({.*?})END", text)
    milliseconds = {f"{what}_ms": value for what, value in json.loads(found[-1]).items()}
    print_row({"images": config.images, "mib": size} | milliseconds)


def write_page(path: Path, config: Config) -> None:
    """The page, of noise."""
    rng = np.random.default_rng(0)
    coarse = noise(config.photo_size // 8, config.photo_size // 8, 3)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((config.photo_size, config.photo_size)).save(file, "JPEG", quality=80)
    maps = [rng.integers(0, 256, config.map_size**2, dtype=np.uint8).tobytes() for _ in range(config.methods + 1)]
    scores = rng.uniform(size=(config.images, config.methods, 2)).tolist()
    write_score_page(
        path,
        title="noise",
        settings={},
        tables={},
        tests={},
        figures={},
        images=[ScoredImage(f"image{i}", (), "nothing (0%)", None, None, own) for i, own in enumerate(scores)],
        pictures=[encode_pictures(file.getvalue(), maps)] * config.images,
        gaze=True,
        methods=[f"method{i}" for i in range(config.methods)],
        metrics=[{"name": name, "title": name, "higher": True} for name in ("one", "other")],
    )


if __name__ == "__main__":
    sys.exit(run_command("eval.benchmarks.page_speed", lambda: main(tyro.cli(Config))))
