"""The chorale in the browser: the page's numbers are Python's, in headless Chromium."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.browser import FLAGS, find_browser
from keras_gated.onnx.verify.web_process import find_package
from site_pages import browser as site
from tests import ROOT

PAGE = ROOT / "examples" / "browser"


def test_the_site_has_the_page_only_where_it_was_built(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "BUILT", tmp_path)
    assert site.find_files() == {} and site.link() == ""
    for name in site.NEEDED:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert sorted(site.find_files()) == sorted(f"chorale/{name}" for name in site.NEEDED)
    assert "(chorale/index.html)" in site.link()


def test_the_page_loads_its_own_files_only():
    files = {file.name for file in PAGE.iterdir()} | {"facts.json", "expected.json", "chorale.onnx"}
    for file in PAGE.iterdir():
        text = file.read_text(encoding="utf-8")
        assert "://" not in text, f"{file.name} loads something from elsewhere"
        named = re.findall(r'(?:src|href)="([^"]+)"|from "\./(\w+\.mjs)"|fetch\("([^"]+)"', text)
        assert {name for names in named for name in names if name} <= files


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    pytest.importorskip("music21", reason="the chorales come with music21")
    folder = tmp_path_factory.mktemp("page")
    script = ROOT / "examples" / "browser_chorale.py"
    command = [sys.executable, script, "--smoke", "--no-fetch", "--out", folder]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.long
def test_the_page_is_written(built):
    assert (built / "chorale.onnx").stat().st_size < 100_000
    facts = json.loads((built / "facts.json").read_text())
    steps = json.loads((built / "expected.json").read_text())
    assert len(steps) == 8 and all(len(s["probabilities"]) == facts["keys"] for s in steps)
    assert list(facts["states"]) == ["lstm_h", "lstm_c"]


class Quiet(SimpleHTTPRequestHandler):
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript"}

    def log_message(self, *_):
        pass


def document(folder, name: str) -> str:
    """The document that a page has become after its scripts have run."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/{name}"
        flags = [*FLAGS, f"--user-data-dir={folder / 'browser'}", "--virtual-time-budget=20000"]
        command = [find_browser(), *flags, "--dump-dom", address]
        return subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.long
def test_the_browsers_numbers_are_pythons(built):
    if find_browser() is None or find_package() is None:
        pytest.skip("Chromium or node_modules/onnxruntime-web is not installed")
    shutil.copytree(find_package() / "dist", built / "ort", dirs_exist_ok=True)
    (text,) = re.findall(r'<p id="result">(.*?)</p>', document(built, "compare.html"))
    found = json.loads(text)
    assert found["steps"] == 8 and found["largest"] < 1e-4
    page = document(built, "index.html")
    assert "Ready." in page and "48 units" in page
