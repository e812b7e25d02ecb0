"""Runs ONNX files in onnxruntime-web, in a process of Node.js."""

import atexit
import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

PACKAGE = Path("node_modules") / "onnxruntime-web"
SCRIPT = Path(__file__).with_name("run_in_node.mjs")
Ask = Callable[[dict], dict]  # request -> answer, see web_requests.mjs


def find_package() -> Path | None:
    """Returns the folder of the package onnxruntime-web that Node.js finds from here, or None."""
    folders = [folder / PACKAGE for folder in (Path.cwd(), *Path.cwd().parents)]
    return next((folder for folder in folders if (folder / "package.json").is_file()), None)


def find_web_version() -> str | None:
    """Returns the version of onnxruntime-web; None if that or Node.js is not installed."""
    package = find_package()
    if package is None or not shutil.which("node"):
        return None
    return json.loads((package / "package.json").read_text(encoding="utf-8"))["version"]


def open_web(path: str, ask: Ask | None = None) -> Callable:
    """Opens a file; returns a function: inputs by name -> outputs by name.

    Args:
        path: of the file.
        ask: sends a request and returns the answer; None means a process of Node.js.
    """
    send = ask or _start_node(os.getcwd())
    data = base64.b64encode(Path(path).read_bytes()).decode("ascii")
    session = _checked(send({"load": data}))["session"]

    def run(feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        tensors = {name: _encode(x) for name, x in feed.items()}
        outputs = _checked(send({"session": session, "run": tensors}))["outputs"]
        return {name: _decode(tensor) for name, tensor in outputs.items()}

    return run


@lru_cache(maxsize=1)
def _start_node(folder: str) -> Ask:
    """Starts the process in a folder, where Node.js looks for the package."""
    process = subprocess.Popen(
        ["node", os.fspath(SCRIPT)],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    to_node: Any = process.stdin
    from_node: Any = process.stdout

    def end() -> None:
        to_node.close()  # the end of its input ends it
        process.wait()
        from_node.close()

    atexit.register(end)

    def ask(request: dict) -> dict:
        to_node.write(json.dumps(request) + "\n")
        to_node.flush()
        line = from_node.readline()
        if not line:
            raise RuntimeError(f"Node.js ended with status {process.wait()} and gave no answer.")
        return json.loads(line)

    return ask


def _checked(answer: dict) -> dict:
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer


def _encode(array: np.ndarray) -> dict:
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
    return {"type": array.dtype.name, "dims": list(array.shape), "data": data}


def _decode(tensor: dict) -> np.ndarray:
    return np.frombuffer(base64.b64decode(tensor["data"]), tensor["type"]).reshape(tensor["dims"])
