"""The page that solves in the browser: its rules, reader and numbers, by Node's own test runner; and what it loads.

scripts/web.sh --check builds the page and tests it in a browser.
"""

import json
import re
import shutil
import subprocess

import pytest
from conftest import ROOT

WEB = ROOT / "web"
NODE = shutil.which("node")


def node_is_new_enough() -> bool:
    version = subprocess.run([NODE, "--version"], capture_output=True, text=True).stdout if NODE else "v0"
    return int(re.findall(r"\d+", version)[0]) >= 18


@pytest.mark.skipif(not node_is_new_enough(), reason="Node.js 18 or newer is not installed")
def test_rules_reader_and_numbers_of_the_page():
    tests = sorted(str(path) for path in (WEB / "tests").glob("*.test.js"))
    assert len(tests) == 3
    run = subprocess.run([NODE, "--test", *tests], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr
    assert int(re.search(r"^. tests (\d+)$", run.stdout, re.M)[1]) > 100


def test_the_page_names_no_other_host_and_no_absolute_path():
    files = [WEB / "index.html", WEB / "style.css", *sorted((WEB / "src").rglob("*.js"))]
    loaded = re.compile(r"""(?:src=|import\(|from |import |new URL\(|href=|url\()\s*["'`]([^"'`]*)""")
    found = {name for path in files for name in loaded.findall(path.read_text()) if not name.startswith("#")}
    assert "src/app.js" in found and len(found) > 10
    links = {name for name in found if name.startswith("https://")}  # a reader may follow them
    assert links == {"https://arxiv.org/abs/2605.21488"}
    assert [name for name in found - links if name.startswith("/") or ":" in name] == []


def test_versions_are_pinned():
    package = json.loads((WEB / "package.json").read_text())
    lock = json.loads((WEB / "package-lock.json").read_text())["packages"]
    for name, version in {**package["dependencies"], **package["devDependencies"]}.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version) and lock[f"node_modules/{name}"]["version"] == version
