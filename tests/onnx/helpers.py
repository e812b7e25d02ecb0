"""Models, exports and runs in onnxruntime that the tests of the export share."""

import subprocess
import sys

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

import keras_gated as kg
from keras_gated.onnx.export import export_onnx

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the export runs on Keras's TensorFlow backend"
)

F, U = 3, 5
NATIVE = ("LSTM", "GRU", "RNN")


def randomized(model, seed=0, scale=0.5):
    """The model with random weights everywhere: zero biases and peepholes hide mistakes."""
    rng = np.random.default_rng(seed)
    drawn = [scale * rng.standard_normal(w.shape) for w in model.get_weights()]
    pairs = zip(drawn, model.weights, strict=True)
    model.set_weights([np.abs(array) if "variance" in w.path else array for array, w in pairs])
    return model


def functional(*layers, shape=(None, F), name="x", **arguments):
    x = y = keras.Input(shape, name=name, **arguments)
    for layer in layers:
        y = layer(y)
    return randomized(keras.Model(x, y))


def native_nodes(file: str) -> int:
    return sum(count for name, count in count_operators(file).items() if name in NATIVE)


def count_operators(file: str) -> dict:
    counts: dict = {}
    graphs = [onnx.load(file).graph]
    while graphs:
        for node in graphs.pop().node:
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
            graphs += [a.g for a in node.attribute if a.HasField("g")]
    return counts


def exported(model, path, nodes: int, **arguments):
    """Exports, and asserts that there are so many native nodes and no Loop, and that they agree."""
    report = export_onnx(model, path, **arguments)
    assert native_nodes(path) == nodes, report
    assert "Loop" not in report.operators and "Scan" not in report.operators
    assert report.largest_difference <= 1e-5
    return report


def run(path: str, *arrays) -> list:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    return session.run(None, dict(zip(names, arrays, strict=True)))


def assert_same(model, path: str, *arrays):
    """The file and the model agree on these inputs."""
    outputs = model(arrays[0] if len(arrays) == 1 else list(arrays), training=False)
    found = run(path, *arrays)
    outputs = keras.tree.flatten(outputs)
    assert len(found) == len(outputs)
    for a, b in zip(found, outputs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def error_bound(y32, y64) -> np.ndarray:
    """What a file may differ by: 2e-6 of max(1, |y|), or 4 times what Keras's float32 does."""
    y64 = np.asarray(y64, "float64")
    own = np.abs(np.asarray(y32, "float64") - y64).max(initial=0.0)
    return np.maximum(2e-6 * np.maximum(1.0, np.abs(y64)), 4 * own)


class SideBySide(keras.Model):
    """Hands every layer the same input and mask; built without a symbolic call, which is slow."""

    def __init__(self, layers, features, dtype="float32"):
        super().__init__(dtype=dtype)
        self.held = layers
        for layer in layers:
            layer.build((None, None, features))
        self.built = True

    def call(self, inputs):
        x, mask = inputs if isinstance(inputs, list) else (inputs, None)
        found = [keras.tree.flatten(layer(x, mask=mask)) for layer in self.held]
        return [y for ys in found for y in ys]


X_SPEC = keras.InputSpec(shape=(None, None, U), dtype="float32")
MASKS = np.array(
    [
        [1, 1, 1, 1, 1, 1],
        [1, 1, 1, 0, 0, 0],
        [0, 0, 1, 1, 1, 1],
        [0, 1, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 0],
        [1, 0, 1, 1, 0, 1],
    ],
    bool,
)


class Either(keras.Layer):
    """A gated layer in each branch of a condition."""

    def __init__(self):
        super().__init__()
        self.branches = [kg.GatedRNN(U, name) for name in ("lstm", "gru")]

    def build(self, shape):
        for branch in self.branches:
            branch.build(shape)

    def call(self, x):
        return keras.ops.cond(keras.ops.sum(x) > 0, *[lambda b=b: b(x) for b in self.branches])

    def compute_output_spec(self, x):
        return keras.KerasTensor((x.shape[0], U))


def swap(first: int, second: int):
    def change(array):
        blocks = array.reshape(1, -1, U, *array.shape[2:]).copy()
        blocks[:, [first, second]] = blocks[:, [second, first]]
        return blocks.reshape(array.shape)

    return change


GUARD = """
import sys
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
for shape in [(0, 4, 3), (2, 0, 3), (0, 0, 3)]:
    try:
        (y,) = session.run(None, {"x": np.zeros(shape, np.float32)})[:1]
        print("nothing" if y.size == 0 == shape[0] else "something", shape)
    except Exception as error:
        print("refused", shape)
session.run(None, {"x": np.zeros((2, 4, 3), np.float32)})
print("alive")
"""


def refused_when_empty(path) -> bool:
    """Whether a file refuses what is empty: without a guard onnxruntime ends the process."""
    result = subprocess.run(
        [sys.executable, "-c", GUARD, path], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.count("refused") == 3 and "alive" in result.stdout


@keras.saving.register_keras_serializable("tests")
class Leaky(keras.Layer):
    """A cell of a user's own."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.state_size = self.output_size = units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.state_size))

    def call(self, x, states):
        h = keras.ops.tanh(x @ self.kernel + 0.5 * states[0])
        return h, [h]


def shapes(report) -> list[str]:
    """The shapes at which a file was compared."""
    return [row.shape for row in report.outputs]
