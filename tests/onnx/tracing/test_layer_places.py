"""Every recurrent layer of a model has a row in the report, and can be named."""

import keras
import onnx
import pytest

import keras_gated as kg
from keras_gated.onnx.errors import ExportError
from keras_gated.onnx.export import export_onnx
from keras_gated.onnx.tracing.layer_places import (
    UniqueNames,
    in_float32,
    places_within,
    recurrent_names,
)
from tests.onnx.helpers import (
    F,
    Leaky,
    U,
    count_operators,
    exported,
    functional,
    on_tensorflow,
    randomized,
)

pytestmark = on_tensorflow
layers = keras.layers


def test_nested_models_whose_layers_have_the_same_name(path):
    def encoder(kind):
        inner = keras.Input((None, F))
        return keras.Model(inner, kg.GatedRNN(U, kind, return_sequences=True, name="enc")(inner))

    x = keras.Input((None, F), name="x")
    inner = keras.Sequential([encoder("gru"), keras.layers.Dense(F)])
    model = keras.Model(x, keras.layers.Add()([encoder("gru")(x), encoder("gru")(inner(x))]))
    exported(randomized(model), path, 3)


class Renamed(layers.LSTM):
    """A subclass that runs as its parent does."""


class Unused(keras.Layer):
    """Holds a layer that it does not call."""

    def __init__(self):
        super().__init__(name="holder")
        self.idle = layers.GRU(U, name="idle")

    def build(self, shape):
        self.idle.build(shape)

    def call(self, x):
        return 2.0 * x


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
    assert "RNN over Leaky is not a known cell" in report.layers[1].reason
    assert report.layers[1].weights_in_file == U * U
    with pytest.raises(ExportError, match="'own': RNN over Leaky") as error:
        export_onnx(model, path, lowering="native")
    assert "idle" not in str(error.value)
    with pytest.raises(ExportError, match="'holder/idle': no call was seen"):
        export_onnx(model, path, lowering={"idle": "native"})


def test_a_cell_of_two_layers_has_two_rows(path):
    cell = kg.GatedCell(F, "lstm")
    model = functional(
        layers.RNN(cell, return_sequences=True, name="first"), layers.RNN(cell, name="second")
    )
    report = exported(model, path, 2)
    assert [layer.name for layer in report.layers] == ["first", "second"]
    assert sum(t.name.endswith("/R") for t in onnx.load(path).graph.initializer) == 1


@pytest.mark.sampled(1)
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


def test_a_place_means_no_layer_elsewhere_of_that_name(path):
    inner = keras.Sequential(
        [keras.Input((None, F)), kg.GatedLSTM(F, return_sequences=True, name="a")], name="enc"
    )
    model = functional(inner, kg.GatedGRU(U, name="a"))
    report = export_onnx(model, path, lowering={"a": "scan"})
    assert [(row.name, row.operator) for row in report.layers] == [("a", "Scan"), ("enc/a", "LSTM")]


# Without an export ------------------------------------------------------------------------------


def test_places_of_layers_in_lists_dictionaries_and_wrappers():
    class Model(keras.Model):
        def __init__(self):
            super().__init__(name="model")
            self.parts = {"encoder": [layers.Dense(2, name="dense")]}
            self.both = layers.Bidirectional(layers.GRU(2, name="gru"), name="both")
            self.again = self.both

    model = Model()
    places = list(places_within(model).values())
    assert places[0] == "model" and places.count("both") == 1
    assert {"dense", "both", "both/forward_gru", "both/backward_gru"} <= set(places)
    assert places.index("both") < places.index("both/forward_gru")


def test_names_that_the_argument_lowering_may_hold():
    cells = [layers.GRUCell(2), layers.LSTMCell(2)]
    inner = keras.Sequential([layers.RNN(cells, name="stack")], name="enc")
    model = keras.Sequential([inner, layers.Dense(2)])
    assert recurrent_names(model) == ["enc/stack", "enc/stack/cell_1", "enc/stack/cell_2", "stack"]


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (["enc", "enc", "enc_2"], ["enc", "enc_2", "enc_2_2"]),
        (["my layer", "größe", "", "_x", "a/b"], ["my_layer", "gr__e", "tensor", "t_x", "a/b"]),
    ],
)
def test_names_are_valid_and_different(wanted, names):
    unique = UniqueNames()
    assert [unique(name) for name in wanted] == names


def test_mixed_precision_is_set_aside_and_comes_back():
    model = keras.Sequential([layers.Dense(2, dtype="mixed_float16"), layers.Dense(2)])
    with pytest.raises(RuntimeError), in_float32(model):
        assert {layer.dtype_policy.name for layer in model.layers} == {"float32"}
        raise RuntimeError
    assert [layer.dtype_policy.name for layer in model.layers] == ["mixed_float16", "float32"]
