"""What is mended in a graph behind the conversion."""

import keras
import onnx

import keras_gated as kg
from keras_gated.onnx.export import export_onnx
from tests.onnx.helpers import F, U, functional, native_nodes, on_tensorflow, randomized

pytestmark = on_tensorflow
layers = keras.layers


def test_exact_gelu_beside_and_inside_a_scan(path):
    layer = kg.GatedRNN(U, "elman", activation="gelu", return_sequences=True)
    model = functional(layer, layers.Dense(2, activation="gelu"))
    report = export_onnx(model, path)
    assert report.operators["Erf"] == 2 and "Erfc" not in report.operators
    assert native_nodes(path) == 0 and report.largest_difference < 1e-5


def test_exact_gelu_in_float64_is_valid(path):
    x = keras.Input((None, F), dtype="float64", name="x")
    layer = kg.GatedRNN(U, "elman", activation="gelu", dtype="float64")
    # onnxruntime has no Erf of float64, so the file is only checked against the standard.
    export_onnx(randomized(keras.Model(x, layer(x))), path, verify=False)
    onnx.checker.check_model(path, full_check=True)
