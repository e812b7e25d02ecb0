"""Keras's own recurrent layers, wrappers and masks in a file."""

import keras
import numpy as np
import pytest

import keras_gated as kg
from keras_gated.onnx.export import export_onnx
from keras_gated.onnx.tracing import patched_layers
from keras_gated.onnx.tracing.layer_places import places_within
from tests.onnx.helpers import (
    MASKS,
    F,
    U,
    assert_same,
    exported,
    functional,
    native_nodes,
    on_tensorflow,
    randomized,
)

pytestmark = on_tensorflow
layers = keras.layers


def stock(**more) -> list:
    """Keras's own layers, set in other ways than by default."""
    kinds, own = keras.layers, {"return_sequences": True, **more}
    return [
        kinds.LSTM(U, recurrent_activation="hard_sigmoid", **own),
        kinds.LSTM(U, use_bias=False, activation="relu", **own),
        kinds.GRU(U, **own),
        kinds.GRU(U, reset_after=False, use_bias=False, **own),
        kinds.SimpleRNN(U, activation="relu", **own),
        kinds.RNN(kg.GatedCell(U, "mgu"), **own),
        kinds.RNN(kinds.StackedRNNCells([kg.GatedCell(4, "cfn"), kinds.LSTMCell(U)]), **own),
    ]


@pytest.mark.parametrize("backwards", [False, True])
def test_keras_own_layers(backwards, path):
    layers = stock(return_state=True, go_backwards=backwards)
    x, mask = keras.Input((None, F), name="x"), keras.Input((None,), dtype="bool", name="mask")
    model = keras.Model([x, mask], [layer(x, mask=mask) for layer in layers])
    report = export_onnx(randomized(model, scale=0.3), path, verify=False)
    assert [layer.operator for layer in report.layers] == [
        *["LSTM"] * 2,
        *["GRU"] * 2,
        *["RNN", "GRU", "Scan", "LSTM"],
    ]
    assert report.layers[-1].name.endswith("/cell_2")
    assert report.layers[2].trainable_weights == layers[2].count_params()
    values = np.random.default_rng(1).standard_normal((*MASKS.shape, F)).astype("float32")
    assert_same(model, path, values, MASKS)
    assert_same(model, path, values[:2, :1], MASKS[:2, :1])
    # The layers are as before.
    assert not any("inner_loop" in vars(layer) for layer in layers)


def test_mask_of_an_embedding_through_a_bidirectional_stack(path):
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    y = keras.layers.Embedding(7, F, mask_zero=True)(tokens)
    y = keras.layers.Bidirectional(kg.GatedGRU(U, return_sequences=True))(y)
    y = kg.GatedLSTM(4, name="top")(y)
    model = randomized(keras.Model(tokens, keras.layers.Dense(2, name="head")(y)))
    exported(model, path, 2)
    assert_same(model, path, np.array([[1, 2, 3, 0, 0], [0, 0, 4, 5, 0], [0] * 5], "int32"))


def test_masking_layer(path):
    model = functional(keras.layers.Masking(), kg.GatedRNN(U, "mgu"), keras.layers.Dense(2))
    exported(model, path, 1)


BOTH_WAYS = {  # the inner layer, merge_mode, zero_output_for_mask
    "lstm": (lambda **k: kg.GatedRNN(U, "lstm_peephole", **k), "concat", False),
    "gru": (lambda **k: kg.GatedGRU(U, reset_after=False, **k), "mul", True),
    "scaled": (lambda **k: kg.GatedRNN(U, "lstm_1997", **k), "ave", False),
    "keras": (lambda **k: keras.layers.LSTM(U, **k), None, True),
    "outside": (lambda **k: kg.GatedRNN(U, "minimal_rnn", **k), "concat", True),
    "scan": (lambda **k: kg.GatedRNN(U, "cfn", **k), "sum", False),
}


@pytest.mark.parametrize("initial", [pytest.param(False, marks=pytest.mark.long), True])
@pytest.mark.parametrize("masked", [pytest.param(False, marks=pytest.mark.long), True])
def test_bidirectional_with_masks_and_states(masked, initial, path):
    x, mask = keras.Input((None, F), name="x"), keras.Input((None,), dtype="bool", name="mask")
    given = [keras.Input((U,), name=f"s{k}") for k in range(4)] if initial else []
    outputs = []
    for make, merge, zero in BOTH_WAYS.values():
        inner = make(return_sequences=True, return_state=True, zero_output_for_mask=zero)
        layer = keras.layers.Bidirectional(inner, merge_mode=merge)
        sizes = inner.cell.state_size
        count = 2 * (len(sizes) if isinstance(sizes, list | tuple) else 1)
        arguments = {"initial_state": given[:count]} if initial else {}
        arguments |= {"mask": mask} if masked else {}
        outputs.append(layer(x, **arguments))
    inputs = [x, *([mask] if masked else []), *given]
    model = randomized(keras.Model(inputs if len(inputs) > 1 else x, outputs))
    report = export_onnx(model, path, verify=False)
    # What "outside" feeds its operator differs between the directions, so there it is two nodes.
    assert (native_nodes(path), report.operators["Scan"]) == (4 + 2, 2), report
    rng = np.random.default_rng(1)
    values = rng.standard_normal((*MASKS.shape, F)).astype("float32")
    states = [rng.standard_normal((len(MASKS), U)).astype("float32") for _ in given]
    for rows, time in ((slice(None), 6), (slice(2, 5), 1)):
        masks = [MASKS[rows, :time]] if masked else []
        assert_same(model, path, values[rows, :time], *masks, *[s[rows] for s in states])
    # The layers are as before.
    both = [layer for layer in model.layers if isinstance(layer, keras.layers.Bidirectional)]
    assert len(both) == len(BOTH_WAYS) and all(layer.return_sequences for layer in both)
    assert not any({"call", "inner_loop"} & set(vars(layer)) for layer in places_within(model))


def test_an_error_while_patching_leaves_the_model_as_it_was(path, monkeypatch):
    model = functional(
        keras.layers.LSTM(U, return_sequences=True), keras.layers.GRU(U), keras.layers.Dense(2)
    )
    x = np.random.default_rng(0).normal(size=(2, 4, F)).astype("float32")
    expected, convert = model(x), patched_layers.to_gated_cell

    def fail(cell):
        if isinstance(cell, keras.layers.GRUCell):
            raise KeyboardInterrupt
        return convert(cell)

    monkeypatch.setattr(patched_layers, "to_gated_cell", fail)
    with pytest.raises(KeyboardInterrupt):
        export_onnx(model, path)
    assert not any({"call", "inner_loop"} & set(vars(layer)) for layer in places_within(model))
    np.testing.assert_array_equal(model(x), expected)


class Tagger(keras.Model):
    """A subclassed model, whose masks are computed as it runs."""

    def __init__(self):
        super().__init__()
        self.tokens = keras.layers.Embedding(7, F, mask_zero=True)
        self.both = keras.layers.Bidirectional(kg.GatedGRU(U, return_sequences=True))
        self.top = keras.layers.LSTM(U)

    def call(self, x):
        return self.top(self.both(self.tokens(x)))


def test_the_mask_goes_on_behind_a_bidirectional_of_a_subclassed_model(path):
    model, x = Tagger(), np.array([[1, 2, 3, 0, 0], [4, 0, 5, 0, 6], [0, 0, 1, 2, 0]], "int32")
    model(x)
    signature = keras.InputSpec(shape=(None, None), dtype="int32")
    export_onnx(randomized(model), path, input_signature=signature, verify=False)
    assert native_nodes(path) == 2
    assert_same(model, path, x)


def test_a_bidirectional_over_a_stack_of_one(path):
    stack = layers.RNN([layers.LSTMCell(U)], return_sequences=True)
    exported(functional(layers.Bidirectional(stack)), path, 2)


def test_a_backward_layer_that_is_called_alone_too(path):
    back = layers.LSTM(U, return_sequences=True, go_backwards=True, name="back")
    both = layers.Bidirectional(layers.LSTM(U, return_sequences=True), backward_layer=back)
    x = keras.Input((None, F), name="x")
    y = layers.Masking()(x)
    exported(randomized(keras.Model(x, [both(y), both.backward_layer(y), both(x)])), path, 3)


NAMES = ["my layer", "größe", "層", "", "_x", "a" * 2000, "a:b", "%s {}", "a\nb"]


def test_names_that_tensorflow_does_not_take_leave(path):
    x = keras.Input((None, F), name="an input")
    held = [
        (kg.GatedLSTM if k % 2 else layers.LSTM)(U, return_sequences=True, name=name)
        for k, name in enumerate(NAMES)
    ]
    inner = keras.Sequential([keras.Input((None, F)), layers.Dense(4, name="dense ü")], name="ü")
    both = layers.Bidirectional(kg.GatedGRU(U, name="to and fro"), name="there and back")
    outputs = {"the sum": layers.Add(name="+")([layer(x) for layer in held]), "ü": inner(x)}
    model = randomized(keras.Model(x, {**outputs, "x/y": both(x)}, name="my model"))
    scans = {"größe": "scan", "there and back/forward_to and fro": "scan"}
    report = export_onnx(model, path, lowering=scans)
    assert report.inputs == ("an_input",)
    assert report.outputs == ("the_sum", "x/y", "t_")
    rows = {row.name: row.operator for row in report.layers}
    assert set(NAMES) < set(rows)
    assert {rows[name] for name in scans} == {"Scan"}
    assert [layer.name for layer in held] == NAMES and model.name == "my model"


def test_names_of_a_stream_whose_model_has_spaces_in_them(path):
    lstm = kg.GatedLSTM(U, return_sequences=True, name="layer 1")
    model = keras.Sequential([keras.Input((None, F), name="x 1"), lstm], name="my model")
    report = kg.export_streaming(model, path)
    assert report.inputs == ("x_1", "layer_1_h", "layer_1_c")
    assert kg.check_onnx(model, path).passed
