"""Pages in headless Chromium, and axe-core to judge them."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = "axe-core@4.11.0"
_FOLDER = Path(__file__).parent.parent / "out" / "axe"


def dump(page, profile, *options):
    """The page after its script has run."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
               "--disable-background-networking", "--disable-component-update", "--disable-sync",
               f"--user-data-dir={profile}", *options, "--dump-dom", page.as_uri()]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def ask(page, script, tmp_path, *options):
    """What the function body `script` returns when the page has loaded; it may await."""
    asking = f"""<script>addEventListener("load", async () => {{
      const answer = await (async () => {{ {script} }})();
      document.body.replaceChildren("RESULT" + JSON.stringify(answer) + "END");
    }});</script></body>"""
    changed = page.with_name(f"asked_{page.name}")
    changed.write_text(page.read_text(encoding="utf-8").replace("</body>", asking), encoding="utf-8")
    text = dump(changed, tmp_path / "profile", "--virtual-time-budget=10000", *options)
    answer = re.search("RESULT(.*)END", text, re.DOTALL).group(1)
    return json.loads(answer.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


def axe_script():
    """axe-core's source, from its npm package, which is kept in out/axe."""
    file = _FOLDER / "axe.min.js"
    if not file.exists():
        npm = shutil.which("npm") or pytest.skip("needs npm")
        _FOLDER.mkdir(parents=True, exist_ok=True)
        packed = subprocess.run([npm, "pack", "--silent", AXE], cwd=_FOLDER, capture_output=True, text=True)
        if packed.returncode:
            pytest.skip(f"needs {AXE} from npm: {packed.stderr[-200:]}")
        archive = _FOLDER / packed.stdout.strip()
        subprocess.run(["tar", "-xzf", archive, "--strip-components=1", "package/axe.min.js"], cwd=_FOLDER, check=True)
        archive.unlink()
    return file.read_text(encoding="utf-8")


def violations(page, tmp_path, *options):
    """What axe-core finds, (rule, where) of each: alt texts, contrast, names, order and the like."""
    script = f"""{axe_script()}
      const found = await axe.run(document);
      return found.violations.flatMap(one =>
        one.nodes.map(node => [one.id, node.target.join(" "), node.failureSummary]));"""
    return ask(page, script, tmp_path, *options)
