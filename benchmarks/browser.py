"""Runs ONNX files in onnxruntime-web in headless Chromium, over a server on this machine."""

import json
import queue
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from keras_gated.onnx.verify import web_process
from keras_gated.onnx.verify.web_process import Ask, find_package

WAIT = 60  # seconds for an answer
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
REQUESTS = Path(web_process.__file__).with_name("web_requests.mjs")
PAGE = """<!doctype html><script type="module">
import * as ort from "/ort/dist/ort.wasm.min.mjs";
import { makeAnswer } from "/web_requests.mjs";
ort.env.wasm.wasmPaths = "/ort/dist/";
const answer = makeAnswer(ort);
for (;;) {
  const request = await (await fetch("/next")).json();
  await fetch("/answer", { method: "POST", body: JSON.stringify(await answer(request)) });
}
</script>"""


def find_browser() -> str | None:
    """Returns the path of Chromium or Chrome, or None."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


def browser_version() -> str | None:
    """Returns name and version of the browser; None if it or onnxruntime-web is not installed."""
    program = find_browser()
    if program is None or find_package() is None:
        return None
    done = subprocess.run([program, "--version"], capture_output=True, text=True)
    return " ".join(done.stdout.split()[:2])


class _Handler(SimpleHTTPRequestHandler):
    """Serves the page, the package, the next request, and takes the answers."""

    requests: queue.Queue
    answers: queue.Queue

    def do_GET(self):
        if self.path == "/":
            self._send(PAGE, "text/html")
        elif self.path == "/web_requests.mjs":
            self._send(REQUESTS.read_text(encoding="utf-8"), "text/javascript")
        elif self.path == "/next":
            self._send(json.dumps(self.requests.get()), "application/json")
        else:
            self.path = self.path.removeprefix("/ort")
            super().do_GET()

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        self.answers.put(json.loads(self.rfile.read(length)))
        self._send("{}", "application/json")

    def _send(self, text: str, kind: str) -> None:
        data = text.encode("utf-8")
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Writes no log."""


_Handler.extensions_map = SimpleHTTPRequestHandler.extensions_map | {
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
}


@contextmanager
def open_browser() -> Iterator[Ask]:
    """Starts the browser; the function takes a request and returns the answer."""
    requests, answers = queue.Queue(), queue.Queue()
    kind = type("Handler", (_Handler,), {"requests": requests, "answers": answers})
    handler = partial(kind, directory=str(find_package()))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        address = f"http://127.0.0.1:{server.server_port}/"
        command = [find_browser() or "", *FLAGS, f"--user-data-dir={folder}", address]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, **quiet)

        def ask(request: dict) -> dict:
            requests.put(request)
            try:
                return answers.get(timeout=WAIT)
            except queue.Empty:
                return {"error": f"no answer in {WAIT} seconds"}

        try:
            yield ask
        finally:
            process.terminate()
            process.wait()
            server.shutdown()
            server.server_close()
