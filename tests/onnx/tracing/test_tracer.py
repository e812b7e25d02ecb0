"""What is read of a model while TensorFlow records its graph."""

from pathlib import Path

import keras
import numpy as np
import onnx
import pytest

import keras_gated as kg
from keras_gated.onnx.errors import ExportError
from keras_gated.onnx.export import export_onnx
from tests.onnx.helpers import (
    Either,
    F,
    U,
    assert_same,
    count_operators,
    exported,
    functional,
    native_nodes,
    on_tensorflow,
    randomized,
)

pytestmark = on_tensorflow
layers = keras.layers


def test_shared_layer_stores_its_weights_once(path):
    a, b = keras.Input((None, F), name="a"), keras.Input((None, F), name="b")
    shared = kg.GatedRNN(U, "lstm_peephole", name="shared")
    model = randomized(keras.Model([a, b], keras.layers.Subtract()([shared(a), shared(b)])))
    exported(model, path, 2)
    graph = onnx.load(path).graph
    assert sum(tensor.name.endswith("/R") for tensor in graph.initializer) == 1
    assert {"shared/LSTM", "shared_2/LSTM"} <= {node.name for node in graph.node}
    assert [p.type.tensor_type.shape.dim[1].dim_param for p in graph.input] == ["time", "b_time"]


def test_go_backwards_and_states_of_a_window(path):
    x = keras.Input((None, F), name="x")
    layers = [
        kg.GatedRNN(U, "t_gru", go_backwards=True, return_sequences=True, return_state=True),
        kg.GatedRNN(U, "t_lstm", return_state=True),
        kg.GatedRNN(U, "gru", go_backwards=True, return_state=True),
    ]
    model = randomized(keras.Model(x, [layer(x) for layer in layers]))
    exported(model, path, 3)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("dtype", ["int32", "int64", "bool", "uint8"])
def test_sequences_of_integers_and_booleans(dtype, path):
    x = keras.Input((None, F), dtype=dtype, name="x")
    kinds = keras.layers.GRU(U), kg.GatedLSTM(U), kg.GatedRNN(U, "nfg")
    exported(randomized(keras.Model(x, [layer(x) for layer in kinds])), path, 3)


def test_integers_before_weights_of_float64_are_a_scan(path):
    model = functional(kg.GatedLSTM(U, dtype="float64"), dtype="int32")
    report = export_onnx(model, path)
    assert report.operators["Scan"] == 1 and "float64" in report.layers[0].reason


def test_inside_a_condition(path):
    model = functional(Either())
    export_onnx(model, path, verify=False)
    assert native_nodes(path) == 2 and count_operators(path)["If"] == 1
    x = np.random.default_rng(0).random((2, 4, F)).astype("float32")
    for sign in (x, -x):
        assert_same(model, path, sign)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_leaves_as_float32(policy, path):
    x = keras.Input((None, F), name="x")
    y = kg.GatedRNN(U, "lstm", return_sequences=True, dtype=policy)(x)
    model = randomized(keras.Model(x, keras.layers.Dense(2, dtype=policy)(y)))
    report = exported(model, path, 1)
    assert report.largest_difference < 5e-6
    assert all(layer.dtype_policy.name == policy for layer in model.layers[1:])


def test_pure_half_precision_is_refused(path):
    x = keras.Input((None, F), name="x")
    layer = kg.GatedRNN(U, "lstm", dtype="bfloat16", recurrent_initializer="glorot_uniform")
    model = keras.Model(x, layer(x))
    with pytest.raises(ExportError, match="bfloat16 weights.*float32"):
        export_onnx(model, path)


SCALES: list = []


@keras.saving.register_keras_serializable("tests")
def scaled(x):
    return SCALES[0] * keras.ops.tanh(x)


def test_an_activation_that_reads_a_variable(path):
    SCALES[:] = [keras.Variable(0.7)]
    layer = kg.GatedRNN(U, "elman", activation=scaled, name="cell")
    report = export_onnx(functional(layer), path)
    reason = "variable"
    assert [row.operator for row in report.layers] == ["Loop"] and reason in report.layers[0].reason
    assert report.largest_difference < 1e-5
    cells = [kg.GatedCell(U, "gru"), kg.GatedCell(U, "elman", activation=scaled)]
    report = export_onnx(functional(keras.layers.RNN(cells, name="stack")), path)
    assert [row.operator for row in report.layers] == ["Loop", "Loop"]
    assert "stack/cell_2" in report.layers[0].reason
    layer = kg.GatedRNN(U, "elman", activation=scaled, return_sequences=True)
    both = keras.layers.Bidirectional(layer)
    report = export_onnx(functional(both), path)
    assert [row.operator for row in report.layers] == ["Loop", "Loop"]
    assert report.largest_difference < 1e-5


def test_an_own_activation_with_weights_of_a_layer_of_keras(path):
    layers = [keras.layers.SimpleRNN(U, activation=keras.layers.PReLU(), name="cell")]
    report = export_onnx(functional(*layers), path)
    (layer,) = report.layers
    assert (layer.operator, layer.reason) == (
        "Loop",
        "SimpleRNN over SimpleRNNCell is not a known cell; tf2onnx converts Keras's loop",
    )
    assert report.largest_difference < 1e-5


class Unconvertible(keras.Layer):
    def call(self, x):
        return keras.ops.cumsum(x, axis=1) + keras.ops.fft((x, x))[0]


class Captured(keras.Layer):
    def __init__(self):
        super().__init__()
        import tensorflow as tf

        self.outside = {"tensor": tf.constant([1.0, 2.0, 3.0])}

    def call(self, x):
        return x * self.outside["tensor"]


def test_operations_without_onnx_form(path):
    model = functional(kg.GatedRNN(4, "lstm", return_sequences=True), Unconvertible())
    with pytest.raises(ExportError, match="no ONNX form.*FFT"):
        export_onnx(model, path)
    assert not Path(path).exists()


def test_a_captured_tensor(path):
    model = functional(Captured(), kg.GatedRNN(4, "lstm"))
    report = export_onnx(model, path)
    assert report.inputs == ("x",) and report.largest_difference < 1e-5


@keras.saving.register_keras_serializable("tests")
class Doubled(kg.GatedCell):
    """Twice what the cell gives."""

    def call(self, inputs, states, training=False):
        h, new = super().call(inputs, states)
        return 2.0 * h, new


def test_a_cell_with_a_step_of_its_own_stays_as_it_is(path):
    report = export_onnx(functional(layers.RNN(Doubled(U, "gru"), name="twice")), path)
    assert report.layers[0].operator == "Loop" and report.largest_difference < 1e-5
