"""Whole exports from processes on JAX and torch."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import keras
import pytest

from keras_gated.onnx.report import as_json
from tests import ROOT
from tests.onnx.custom_models import exported_here, made
from tests.onnx.helpers import on_tensorflow

BACKENDS = {"jax": False, "torch": True}  # whether the model is a subclassed one


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What `whole_export` printed on each backend that is installed; both run at once."""
    running = {}
    for backend, subclassed in BACKENDS.items():
        if find_spec(backend):
            code = f"from tests.onnx.custom_models import whole_export; whole_export({subclassed})"
            running[backend] = subprocess.Popen(
                [sys.executable, "-c", code],
                cwd=tmp_path_factory.mktemp(backend),
                env=os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": paths()},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
    done = {backend: process.communicate() for backend, process in running.items()}
    failed = {b: done[b][1] for b, process in running.items() if process.returncode}
    assert not failed, "\n".join(failed.values())
    return {backend: json.loads(out) for backend, (out, _) in done.items()}


def paths() -> str:
    return os.pathsep.join([str(ROOT), *filter(None, sys.path)])


@pytest.mark.long
@on_tensorflow
@pytest.mark.parametrize("backend", BACKENDS)
def test_from_another_backend(backend, found, tmp_path, monkeypatch):
    if not find_spec(backend):
        pytest.skip(f"{backend} is not installed")
    result = found[backend]
    assert result["backend"] == backend
    report = result["report"]
    layers = {layer["name"].split("/")[-1]: layer["operator"] for layer in report["layers"]}
    assert layers == {"forward_gru": "GRU", "backward_gru": "GRU", "mgu": "Scan"}
    assert report["operators"]["GRU"] >= 1 and report["operators"]["Scan"] == 1
    assert "Loop" not in report["operators"]
    assert report["path"] == "model.onnx"
    monkeypatch.chdir(tmp_path)
    keras.backend.clear_session()  # unnamed layers are numbered from one, as there
    model, _, signature = made(BACKENDS[backend])
    here = as_json(exported_here(model, signature))
    # Keras's own rounding; names with numbers that tf2onnx counts up in a process.
    same = {"largest_difference": 0.0, "size": 0}
    assert report | same == json.loads(json.dumps(here)) | same
    files = ["int8.onnx", "model.onnx", "spoilt.onnx", "stream.onnx"]
    assert result["files"] == files  # no draft is left
    assert result["difference"] < 1e-5 and report["largest_difference"] < 1e-5
    passed, largest = result["parity"]
    assert passed and 0 < largest < 1e-5
    passed, problem, *_ = result["spoilt"]
    assert not passed and problem.startswith("Output 'tags' differs at ids ")
    x, state, *_, state_after, largest = result["stream"]
    assert (x, state_after) == ("x", f"{state}_out") and 0 < largest < 1e-5
    assert set(result["int8"]) == {"MatMul", "Gemm"}
