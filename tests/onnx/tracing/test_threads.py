"""An export while other threads use the same model: neither disturbs the other."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import keras
import numpy as np
import pytest

import keras_gated as kg
from keras_gated.onnx.errors import ExportError
from keras_gated.onnx.export import export_onnx
from keras_gated.onnx.export_streaming import export_streaming
from keras_gated.onnx.tracing.layer_places import places_within
from tests.onnx.helpers import F, U, functional, on_tensorflow

pytestmark = on_tensorflow
EXPORTS = {"whole": export_onnx, "stream": export_streaming}


def model_of_all_kinds():
    """Layers of each kind that an export patches."""
    return functional(
        kg.GatedRNN(U, "gru", return_sequences=True, name="gated"),
        keras.layers.LSTM(U, return_sequences=True, name="lstm"),
        keras.layers.RNN([keras.layers.GRUCell(U), kg.GatedCell(U, "mgu")], return_sequences=True),
        keras.layers.Dense(4),
    )


@pytest.mark.parametrize("export", EXPORTS.values(), ids=EXPORTS)
def test_the_model_is_called_meanwhile(export, tmp_path):
    model = model_of_all_kinds()
    x = np.random.default_rng(0).normal(size=(2, 4, F)).astype("float32")
    expected, done = keras.ops.convert_to_numpy(model(x)), Event()

    def use():
        calls = 0
        while not done.is_set():
            np.testing.assert_allclose(model(x), expected, atol=1e-6)
            calls += 1
        return calls

    with ThreadPoolExecutor(1) as pool:
        calls = pool.submit(use)
        try:
            report = export(model, tmp_path / "model.onnx")
        finally:
            done.set()
        assert calls.result() > 0
    assert report.largest_difference < 1e-5
    assert [layer.operator for layer in report.layers] == ["GRU", "LSTM", "GRU", "GRU"]
    assert not any({"call", "inner_loop"} & set(vars(layer)) for layer in places_within(model))


def test_two_exports_of_one_model(tmp_path):
    model = model_of_all_kinds()
    jobs = [(kind, tmp_path / f"{name}{k}.onnx") for name, kind in EXPORTS.items() for k in (0, 1)]
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda job: job[0](model, job[1]), jobs))
    assert all(report.largest_difference < 1e-5 for report in reports)
    counts = [report.operators for report in reports]
    assert counts[0] == counts[1] and counts[2] == counts[3]


def test_an_export_that_fails_beside_one_that_does_not(tmp_path):
    """Both models hold one layer."""
    shared = kg.GatedLSTM(U, return_sequences=True, name="shared")
    good = functional(shared, keras.layers.Dense(2))
    x = keras.Input((None, F), name="x")
    bad = keras.Model(x, keras.ops.fft((shared(x), shared(x)))[0])

    def export(model):
        try:
            return export_onnx(model, tmp_path / f"{model.name}.onnx").largest_difference
        except ExportError:
            return None

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(export, [good, bad, good, bad]))
    assert found[1] is found[3] is None and max(found[0], found[2]) < 1e-5
