"""What a GPU trained leaves as ONNX, and the file is the same as without one."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import keras_gated as kg
from benchmarks.gpu_device import gpu_name, tf32
from tests import ROOT
from tests.helpers import BACKEND, F, T, U, assert_close

MISSING = [n for n in ("tensorflow", "tf2onnx", "onnx", "onnxruntime") if not find_spec(n)]
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"the export runs on TensorFlow; not installed: {', '.join(MISSING)}"
)
WITHOUT = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}


@pytest.fixture(scope="module")
def trained(device) -> keras.Model:
    """A model after a few steps on the device."""
    keras.utils.set_random_seed(1)
    every = {"return_sequences": True}
    layers = [
        keras.layers.Bidirectional(kg.GatedLSTM(U, forget_gate=False, **every), name="both"),
        kg.GatedRNN(U, "mgu", name="mgu", **every),
        kg.GatedGRU(U, name="gru"),
        keras.layers.Dense(2, name="dense"),
    ]
    model = keras.Sequential([keras.Input((None, F), name="x"), *layers])
    model.compile("adam", "mse", jit_compile=BACKEND != "torch")
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal(s, dtype="float32") for s in ((32, T, F), (32, 2)))
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    return model


def test_the_file_does_what_the_device_does(trained, tmp_path):
    import onnxruntime

    path = tmp_path / "model.onnx"
    report = kg.export_onnx(trained, path)
    assert {"LSTM", "GRU"} <= set(report.operators) and "Loop" not in report.operators
    assert kg.check_onnx(trained, path).passed
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch, time in ((2, 3), (5, 2 * T)):
        x = np.random.default_rng(time).standard_normal((batch, time, F), dtype="float32")
        with tf32(False):
            expected = ops.convert_to_numpy(trained(x))
        assert_close(session.run(None, {"x": x})[0], expected, "float32", f"{batch}, {time}")


def test_the_graph_is_the_same_with_and_without_a_gpu(trained, tmp_path, device):
    saved = tmp_path / "model.keras"
    trained.save(saved)
    found = [exported(saved, tmp_path / f"{k}.onnx", more) for k, more in enumerate(({}, WITHOUT))]
    assert [gpu_there for gpu_there, _ in found] == [None if device == "cpu" else gpu_name(), None]
    assert found[0][1] == found[1][1]


def exported(saved: Path, path: Path, environment: dict) -> tuple[str | None, bytes]:
    """The GPU that a process saw that exported a saved model, and the file."""
    paths = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, ROOT / "tests/gpu/exporting.py", saved, path],
        env=os.environ | {"PYTHONPATH": paths} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])["gpu"], path.read_bytes()
