"""Large weights stay out of the conversion and are in the file all the same."""

import subprocess
import sys

import keras
import numpy as np
import onnx
import pytest

import keras_gated as kg
from keras_gated.onnx import model_to_graph
from keras_gated.onnx.export import export_onnx
from keras_gated.onnx.graph import large_weights
from tests.onnx.helpers import on_tensorflow, randomized

pytestmark = on_tensorflow
layers = keras.layers


class TiedHead(keras.Model):
    """Reads the table of its Embedding twice."""

    def __init__(self):
        super().__init__()
        self.table, self.lstm = layers.Embedding(50, 8, name="table"), kg.GatedLSTM(8, name="lstm")
        self.table.build((None, None))
        self.lstm.build((None, None, 8))
        self.built = True

    def call(self, ids):
        h = self.lstm(self.table(ids))
        return keras.ops.matmul(h, keras.ops.transpose(self.table.embeddings))


def every_kind():
    return randomized(
        keras.Sequential(
            [
                keras.Input((None,), dtype="int32"),
                layers.Embedding(30, 6, name="embedding"),
                kg.GatedLSTM(7, return_sequences=True, name="native"),
                kg.GatedRNN(5, "mgu", layer_norm=True, return_sequences=True, name="scan"),
                layers.LSTM(4, return_sequences=True, name="keras_scan"),
                layers.RNN(layers.GRUCell(6), return_sequences=True, name="keras_native"),
                layers.SeparableConv1D(8, 3, padding="same", name="separable"),
                layers.Conv1D(5, 2, padding="same", name="conv"),
                layers.BatchNormalization(name="norm"),
                layers.Dense(3, name="dense"),
            ]
        )
    )


def constants(path) -> dict:
    return {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


@pytest.mark.long
def test_no_large_weight_is_recorded_or_converted(path, monkeypatch):
    captured, convert = [], model_to_graph.convert_function

    def spy(function, signature, *more):
        captured.extend(function.get_concrete_function(*signature).captured_inputs)
        return convert(function, signature, *more)

    monkeypatch.setattr(model_to_graph, "convert_function", spy)
    model, lowering = every_kind(), {"keras_scan": "scan"}
    small = export_onnx(model, path, lowering=lowering)
    assert len(captured) > 5 and "embedding/embeddings" in constants(path)
    captured.clear()
    monkeypatch.setattr(large_weights, "LARGE", 0)
    large = export_onnx(model, path, lowering=lowering)  # compares the numbers
    assert not captured
    assert large.inputs == small.inputs
    assert [layer.operator for layer in large.layers] == ["LSTM", "Scan", "Scan", "GRU"]
    # A kernel is laid out as ONNX wants it when the file is written, not at each run of the file.
    assert large.operators["Conv"] == small.operators["Conv"]
    assert large.operators["Transpose"] == small.operators["Transpose"]
    held, embedding = constants(path), model.get_layer("embedding")
    np.testing.assert_array_equal(held["embedding/embeddings"], embedding.get_weights()[0])
    np.testing.assert_array_equal(held["dense/kernel"], model.layers[-1].get_weights()[0])


def test_a_weight_that_is_read_twice_is_held_once(path, monkeypatch):
    monkeypatch.setattr(large_weights, "LARGE", 1000)
    signature = keras.InputSpec(shape=(None, None), dtype="int32")
    export_onnx(TiedHead(), path, input_signature=signature)
    assert [array.shape for array in constants(path).values() if array.size >= 400] == [(50, 8)]


def test_int8_finds_the_products_of_large_weights(path, monkeypatch):
    monkeypatch.setattr(large_weights, "LARGE", 0)
    x = np.random.default_rng(0).standard_normal((2, 5, 6)).astype("float32")
    model = keras.Sequential([keras.Input((None, 6)), kg.GatedGRU(8), layers.Dense(3)])
    report = kg.quantize_onnx(model, path, samples=x)
    assert not report.left_in_float32


def test_streams(path, monkeypatch):
    monkeypatch.setattr(large_weights, "LARGE", 0)
    model = keras.Sequential([keras.Input((None, 3)), kg.GatedLSTM(4, return_sequences=True)])
    assert kg.export_streaming(model, path).largest_difference < 1e-5


MEMORY = """
import sys
import keras
import keras_gated as kg

def gigabytes(key):
    line = next(line for line in open("/proc/self/status") if line.startswith(key))
    return int(line.split()[1]) / 1e6

layers = [keras.layers.Embedding(100_000, 250), kg.GatedLSTM(8), keras.layers.Dense(2)]
small = keras.Sequential([keras.Input((None, 3)), kg.GatedLSTM(8)])
kg.export_onnx(small, sys.argv[1])  # imports all that an export imports
model = keras.Sequential([keras.Input((None,), dtype="int32"), *layers])
before = gigabytes("VmRSS")
kg.export_onnx(model, sys.argv[1])
print(gigabytes("VmHWM") - before)
"""


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_an_export_needs_few_copies_of_the_weights(path):
    run = [sys.executable, "-c", MEMORY, path]
    done = subprocess.run(run, capture_output=True, text=True, check=True, timeout=300)
    assert float(done.stdout.splitlines()[-1]) < 0.5  # GB; the weights are 0.1
