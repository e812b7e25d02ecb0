"""Which form a layer gets in the file: a native operator, a Scan or a Loop."""

import keras
import pytest

import keras_gated as kg
from keras_gated.onnx.errors import ExportError
from keras_gated.onnx.export import export_onnx
from keras_gated.onnx.tracing.native_or_scan import choose
from keras_gated.spec.normal_form import resolve
from tests.onnx.helpers import F, U, functional, native_nodes, on_tensorflow, randomized

pytestmark = on_tensorflow


def test_float64_leaves_as_a_scan(path):
    x = keras.Input((None, F), dtype="float64", name="x")
    model = randomized(keras.Model(x, kg.GatedRNN(U, "gru", dtype="float64")(x)))
    report = export_onnx(model, path)
    assert report.layers[0].operator == "Scan" and "float64" in report.layers[0].reason
    assert report.largest_difference < 1e-12


def test_loop_on_request_and_native_on_demand(path):
    model = functional(kg.GatedRNN(U, "gru", return_sequences=True))
    report = export_onnx(model, path, lowering="loop")
    assert report.operators["Loop"] == 1 and native_nodes(path) == 0
    with pytest.raises(ExportError, match="'native'.*carry_activation"):
        export_onnx(functional(kg.GatedRNN(U, "cfn")), path, lowering="native")


def test_lowering_by_layer(path):
    model = functional(
        kg.GatedRNN(U, "gru", return_sequences=True, name="first"),
        kg.GatedRNN(U, "lstm", return_sequences=True, name="second"),
        kg.GatedRNN(U, "elman", name="third"),
    )
    report = export_onnx(model, path, lowering={"first": "scan", "third": "loop"})
    assert [layer.operator for layer in report.layers] == ["Scan", "LSTM", "Loop"]


def test_auto_looks_at_size_batch_and_missing_blocks():
    def taken(name, units, batch=1):
        return choose(resolve(kg.preset(name)), units, "auto", batch).operator

    assert taken("janet", 64) == "LSTM" and taken("janet", 512) == "Scan"
    assert taken("janet", 64, batch=64) == "Scan"
    assert taken("lstm", 2048, batch=256) == "LSTM"  # nothing is missing
    assert taken("qrnn_fo", 8) == "LSTM" and taken("qrnn_fo", 512) == "Scan"
    assert taken("cfn", 8) == "Scan"
