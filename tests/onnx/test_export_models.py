"""Models in which a part could be passed over: what the file and the report say of it."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

import keras_gated as kg
from keras_gated.onnx.errors import ExportError
from keras_gated.onnx.export import export_onnx
from keras_gated.onnx.graph.writer import GraphWriter
from tests.onnx.test_export import (
    F,
    U,
    count_operators,
    exported,
    functional,
    native_nodes,
    randomized,
    run,
)

layers = keras.layers
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the export runs on Keras's TensorFlow backend"
)
RNG = np.random.default_rng(0)


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "model.onnx")


# Layers around ----------------------------------------------------------------------------------


def test_time_distributed_around_ordinary_layers(path):
    model = functional(
        kg.GatedLSTM(U, return_sequences=True),
        layers.TimeDistributed(layers.Dense(4, activation="relu")),
        layers.TimeDistributed(keras.Sequential([layers.Dense(3), layers.LayerNormalization()])),
    )
    exported(model, path, 1)


def test_the_mask_passes_a_time_distributed(path):
    model = functional(
        layers.Masking(), layers.TimeDistributed(layers.Dense(F)), kg.GatedGRU(U, name="top")
    )
    exported(model, path, 1)


class Sums(keras.Layer):
    """The sum over the valid words of a sentence; takes the mask."""

    def call(self, words, mask=None):
        valid = 1.0 if mask is None else keras.ops.cast(mask, words.dtype)[..., None]
        return keras.ops.sum(words * valid, axis=1)


class Sentences(keras.Layer):
    """Hands a mask of words (B, sentences, words) to a TimeDistributed."""

    def __init__(self):
        super().__init__()
        self.inner = layers.TimeDistributed(Sums())

    def call(self, inputs):
        x, mask = inputs
        return self.inner(x, mask=mask)


def test_a_mask_of_inner_time_steps(path):
    x = keras.Input((None, 4, F), name="x")
    mask = keras.Input((None, 4), dtype="bool", name="mask")
    y = kg.GatedLSTM(U)(Sentences()([x, mask]))
    model = randomized(keras.Model([x, mask], y))
    export_onnx(model, path, verify=False)  # Keras itself runs this only where time is known
    values = RNG.standard_normal((2, 3, 4, F)).astype("float32")
    given = RNG.random((2, 3, 4)) < 0.6
    y = model([values, given])
    np.testing.assert_allclose(run(path, values, given)[0], y, rtol=1e-5, atol=1e-5)


def test_a_time_distributed_of_known_time_runs_step_by_step(path):
    x = keras.Input((4, F), name="x")
    centred = layers.TimeDistributed(layers.UnitNormalization(axis=0))(x)  # looks at all rows
    exported(randomized(keras.Model(x, kg.GatedLSTM(U)(centred))), path, 1)


def test_dense_on_integers(path):
    x = keras.Input((None, F), dtype="int32", name="x")
    exported(randomized(keras.Model(x, kg.GatedLSTM(U)(layers.Dense(4)(x)))), path, 1)


# Layers that turn ---------------------------------------------------------------------------------


def test_a_bidirectional_over_a_stack_of_one(path):
    stack = layers.RNN([layers.LSTMCell(U)], return_sequences=True)
    exported(functional(layers.Bidirectional(stack)), path, 2)


def test_a_backward_layer_that_is_called_alone_too(path):
    back = layers.LSTM(U, return_sequences=True, go_backwards=True, name="back")
    both = layers.Bidirectional(layers.LSTM(U, return_sequences=True), backward_layer=back)
    x = keras.Input((None, F), name="x")
    y = layers.Masking()(x)
    exported(randomized(keras.Model(x, [both(y), both.backward_layer(y), both(x)])), path, 3)


# Two layers as one node -------------------------------------------------------------------------


class TwoPairs(keras.Layer):
    """Two pairs of opposite layers, held in one place."""

    def __init__(self):
        super().__init__(name="two")
        ways = {"there": False, "back": True, "there_too": False, "back_too": True}
        self.four = [
            layers.LSTM(U, return_sequences=True, go_backwards=backwards, name=name)
            for name, backwards in ways.items()
        ]

    def call(self, x):
        there, back, there_too, back_too = self.four
        y = keras.ops.concatenate([there(x), back(x)], axis=-1)
        return keras.ops.concatenate([there_too(y), back_too(y)], axis=-1)


def test_two_pairs_in_one_place(path):
    exported(functional(TwoPairs()), path, 2)
    names = {t.name for t in onnx.load(path).graph.initializer}
    assert {"two/W", "two_2/W"} <= names


def test_a_bidirectional_called_twice_stores_its_weights_once(path):
    both = layers.Bidirectional(kg.GatedLSTM(U, return_sequences=True), name="both")
    a, b = keras.Input((None, F), name="a"), keras.Input((None, F), name="b")
    report = exported(randomized(keras.Model([a, b], [both(a), both(b)])), path, 2)
    graph = onnx.load(path).graph
    stored = {t.name: int(np.prod(t.dims)) for t in graph.initializer if len(t.dims) > 1}
    assert set(stored) == {"both/W", "both/R", "both/B"}
    assert sum(stored.values()) == sum(layer.weights_in_file for layer in report.layers)
    assert {"both/LSTM", "both_2/LSTM"} <= {node.name for node in graph.node}


def test_pairs_that_would_wait_for_each_other_stay_apart(path):
    def layer(name, backwards):
        return layers.LSTM(U, return_sequences=True, go_backwards=backwards, name=name)

    x = keras.Input((None, F), name="x")
    z = layers.Dense(F)(x)
    s = layers.Dense(U)(z[:, 0])
    h1 = layer("f1", False)(x, initial_state=[s, s])
    h2 = layer("f2", False)(z, initial_state=[s, s])
    o2 = layer("b2", True)(z, initial_state=[h1[:, -1], h1[:, -1]])
    o1 = layer("b1", True)(x, initial_state=[h2[:, -1], h2[:, -1]])
    exported(randomized(keras.Model(x, [o1, o2])), path, 3)


def test_one_name_for_two_constants_is_an_error():
    write = GraphWriter(onnx.GraphProto())
    assert write.constant("w", np.ones(2)) == write.constant("w", np.ones(2)) == "w"
    with pytest.raises(AssertionError, match="two constants are called 'w'"):
        write.constant("w", np.zeros(2))


class SameName(keras.Model):
    """A pair and a layer of one name."""

    def __init__(self):
        super().__init__()
        self.pair = layers.Bidirectional(layers.LSTM(U, return_sequences=True), name="rnn")
        self.top = layers.LSTM(U, name="rnn")

    def call(self, x):
        return self.top(self.pair(x))


def test_a_pair_and_a_layer_of_one_name_in_a_model_that_was_never_called(path):
    signature = keras.InputSpec(shape=(None, None, F), dtype="float32")
    report = export_onnx(SameName(), path, input_signature=signature)
    assert [layer.operator for layer in report.layers] == ["LSTM"] * 3
    names = {t.name for t in onnx.load(path).graph.initializer}
    assert {"rnn/W", "rnn_2/W"} <= names


# Recurrent layers of another kind ---------------------------------------------------------------


class Renamed(layers.LSTM):
    """A subclass that runs as its parent does."""


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


class Unused(keras.Layer):
    """Holds a layer that it does not call."""

    def __init__(self):
        super().__init__(name="holder")
        self.idle = layers.GRU(U, name="idle")

    def build(self, shape):
        self.idle.build(shape)

    def call(self, x):
        return 2.0 * x


@keras.saving.register_keras_serializable("tests")
class Doubled(kg.GatedCell):
    """Twice what the cell gives."""

    def call(self, inputs, states, training=False):
        h, new = super().call(inputs, states)
        return 2.0 * h, new


def test_a_cell_with_a_step_of_its_own_stays_as_it_is(path):
    report = export_onnx(functional(layers.RNN(Doubled(U, "gru"), name="twice")), path)
    assert report.layers[0].operator == "Loop" and report.largest_difference < 1e-5


def test_every_recurrent_layer_has_a_row(path):
    model = functional(
        Renamed(U, return_sequences=True, name="renamed"),
        layers.RNN(Leaky(U), return_sequences=True, name="own"),
        Unused(),
    )
    report = export_onnx(model, path)
    assert [(layer.name, layer.operator) for layer in report.layers] == [
        ("renamed", "LSTM"),
        ("own", "Loop"),
        ("holder/idle", "not traced"),
    ]
    assert "RNN over Leaky is no setting known" in report.layers[1].reason
    assert report.layers[1].weights_in_file == U * U
    with pytest.raises(ExportError, match="'own': RNN over Leaky") as error:
        export_onnx(model, path, lowering="native")
    assert "idle" not in str(error.value)
    with pytest.raises(ExportError, match="'holder/idle': no call was seen"):
        export_onnx(model, path, lowering={"idle": "native"})


@pytest.mark.parametrize("shape", [(0, 4, F), (2, 0, F)])
def test_an_empty_batch_of_a_loop_is_an_ordinary_error(shape, path):
    # Without a guard the process would end here.
    export_onnx(functional(layers.RNN(Leaky(U), return_sequences=True)), path, verify=False)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.Fail, match="not_empty"):
        session.run(None, {"x": np.zeros(shape, "float32")})
    (y,) = session.run(None, {"x": np.zeros((2, 4, F), "float32")})
    assert y.shape == (2, 4, U)


def test_a_cell_of_two_layers_has_two_rows(path):
    cell = kg.GatedCell(F, "lstm")
    model = functional(
        layers.RNN(cell, return_sequences=True, name="first"), layers.RNN(cell, name="second")
    )
    report = exported(model, path, 2)
    assert [layer.name for layer in report.layers] == ["first", "second"]
    assert sum(t.name.endswith("/R") for t in onnx.load(path).graph.initializer) == 1


@pytest.mark.parametrize(
    ("name", "operators"),
    [("enc/st", ["Scan", "Scan"]), ("st", ["Scan", "Scan"]), ("enc/st/cell_2", ["LSTM", "Scan"])],
)
def test_lowering_of_a_nested_stack(name, operators, path):
    stack = layers.RNN([layers.LSTMCell(U), kg.GatedCell(4, "gru")], name="st")
    inner = keras.Sequential([keras.Input((None, F)), stack], name="enc")
    report = export_onnx(functional(inner), path, lowering={name: "scan"})
    assert [layer.operator for layer in report.layers] == operators


def test_a_loop_within_a_stack_takes_all_of_it(path):
    stack = layers.RNN([layers.LSTMCell(U), kg.GatedCell(4, "gru")], name="st")
    report = export_onnx(functional(stack), path, lowering={"st/cell_2": "loop"})
    assert [layer.operator for layer in report.layers] == ["Loop", "Loop"]
    assert report.largest_difference < 1e-5 and "Loop" in count_operators(path)


# Shapes and types -------------------------------------------------------------------------------


def test_axes_of_inputs_that_must_be_of_one_length(path):
    a, b = keras.Input((None, F), name="a"), keras.Input((None, F), name="b")
    layer = kg.GatedLSTM(U, return_sequences=True)
    exported(randomized(keras.Model([a, b], layer(layers.Add()([a, b])))), path, 1)
    (output,) = onnx.load(path).graph.output
    assert [d.dim_param or d.dim_value for d in output.type.tensor_type.shape.dim] == [
        "batch",
        "time",
        U,
    ]


def test_many_inputs(path):
    inputs = [keras.Input((None, F), name=f"x{k}") for k in range(16)]
    layer = kg.GatedGRU(2)
    exported(randomized(keras.Model(inputs, layers.Add()(list(map(layer, inputs))))), path, 16)


def test_a_place_means_no_layer_elsewhere_of_that_name(path):
    inner = keras.Sequential(
        [keras.Input((None, F)), kg.GatedLSTM(F, return_sequences=True, name="a")], name="enc"
    )
    model = functional(inner, kg.GatedGRU(U, name="a"))
    report = export_onnx(model, path, lowering={"a": "scan"})
    assert [(row.name, row.operator) for row in report.layers] == [("a", "Scan"), ("enc/a", "LSTM")]


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
