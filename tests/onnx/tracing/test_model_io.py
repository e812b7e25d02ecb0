"""Inputs and outputs of the file: names, axes, sizes and structures of a model."""

import keras
import numpy as np
import onnx
import pytest

import keras_gated as kg
from keras_gated.onnx.export import export_onnx
from keras_gated.onnx.tracing.model_io import (
    Interface,
    Port,
    interface_of,
    output_axes,
    output_names,
)
from keras_gated.onnx.verify.check import check_onnx
from tests.onnx.helpers import F, U, assert_same, exported, functional, on_tensorflow, randomized

pytestmark = on_tensorflow
layers = keras.layers


def test_stacked_with_names_and_dimensions(path):
    model = functional(
        kg.GatedLSTM(U, return_sequences=True, name="lower"),
        kg.GatedGRU(4, return_sequences=True, name="upper"),
        keras.layers.Dense(2, name="head"),
    )
    report = exported(model, path, 2)
    graph = onnx.load(path).graph
    assert (report.inputs, report.outputs) == (("x",), ("head",))
    shapes = [
        [d.dim_param or d.dim_value for d in port.type.tensor_type.shape.dim]
        for port in (*graph.input, *graph.output)
    ]
    assert shapes == [["batch", "time", F], ["batch", "time", 2]]
    weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    assert weights["lower/W"] == [1, 4 * U, F] and weights["upper/R"] == [1, 12, 4]
    assert weights["head/kernel"] == [4, 2]
    assert {"lower/LSTM", "upper/GRU"} <= {node.name for node in graph.node}
    assert [layer.name for layer in report.layers] == ["lower", "upper"]
    assert report.layers[0].weights_in_file == 4 * U * (F + U + 2)
    assert report.layers[0].trainable_weights == 4 * U * (F + U + 1)
    text = str(report)
    assert "lower  LSTM" in text and "opset 17" in text and "differs from Keras" in text


def test_a_signature_without_names_keeps_the_models(path):
    model = functional(kg.GatedLSTM(U), name="mfcc")
    signature = [keras.InputSpec(shape=(1, 7, F), dtype="float32")]
    assert export_onnx(model, path, input_signature=signature).inputs == ("mfcc",)
    assert check_onnx(model, path).passed
    named = keras.KerasTensor((None, None, F), name="other")
    assert export_onnx(model, path, input_signature=named, verify=False).inputs == ("other",)
    a, b = keras.Input((F,), name="a"), keras.Input((None, F), name="b")
    both = keras.Model([b, a], [layers.LSTM(U)(b), layers.Dense(2)(a)])
    shapes = [keras.InputSpec(shape=(2, 4, F)), keras.InputSpec(shape=(2, F))]
    assert [port.name for port in interface_of(both, shapes).ports] == ["b", "a"]


def test_encoder_decoder_with_states(path):
    source, target = keras.Input((None, F), name="source"), keras.Input((None, 4), name="target")
    _, *states = kg.GatedLSTM(U, return_state=True, name="encoder")(source)
    decoder = kg.GatedLSTM(U, return_sequences=True, return_state=True, name="decoder")
    model = keras.Model([source, target], decoder(target, initial_state=states))
    report = exported(randomized(model), path, 2)
    assert report.outputs == ("decoder", "decoder_2", "decoder_3")
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype("float32") for s in [(2, 4, F), (2, 11, 4)]]
    assert_same(model, path, *arrays)


def test_sequential_and_dictionaries(path):
    model = keras.Sequential([keras.Input((None, F), name="roll"), kg.GatedRNN(U, "nfg")])
    report = exported(randomized(model), path, 1)
    assert report.inputs == ("roll",) and len(report.outputs) == 1
    x = {"b": keras.Input((None, F), name="b"), "a": keras.Input((None, F), name="a")}
    y = kg.GatedRNN(U, "mgu", return_sequences=True)(keras.layers.Subtract()([x["b"], x["a"]]))
    model = keras.Model(x, {"states": y, "class": keras.layers.Dense(2)(y)})
    report = exported(randomized(model), path, 1)
    assert report.inputs == ("a", "b") and report.outputs == ("class", "states")


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.enc = kg.GatedRNN(U, "gru", return_sequences=True)
        self.parts = {"head": keras.layers.Dense(2), "unused": kg.GatedRNN(2, "mgu")}

    def build(self, shape):
        self.enc.build(shape)
        self.parts["head"].build((*shape[:2], U))
        self.parts["unused"].build(shape)

    def call(self, x):
        y = self.enc(x)
        return {"states": y, "class": self.parts["head"](y)}


def test_subclassed_with_a_signature_and_a_layer_that_is_bypassed(path):
    model = Subclassed()
    with pytest.raises(ValueError, match="input_signature"):
        export_onnx(model, path)
    model.build((None, None, F))
    randomized(model)
    signature = [keras.InputSpec(shape=(None, None, F), dtype="float32")]
    report = exported(model, path, 1, input_signature=signature)
    assert report.inputs == ("input",) and report.outputs == ("class", "states")
    operators = sorted(layer.operator for layer in report.layers)
    assert operators == ["GRU", "not traced"]


def test_reloaded_and_never_called(path, tmp_path):
    model = functional(kg.GatedRNN(U, "janet"), keras.layers.Dense(2, name="head"))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    report = exported(loaded, path, 1)
    assert report.outputs == ("head",)
    assert check_onnx(model, path).passed


def test_names_are_the_same_after_saving_and_loading(path, tmp_path):
    both = keras.layers.Bidirectional(
        kg.GatedRNN(U, "mgu", return_sequences=True, name="mgu"), name="both"
    )
    model = functional(both, keras.Sequential([keras.layers.Dense(2, name="head")], name="inner"))
    model.save(tmp_path / "model.keras")
    found = []
    for one in (model, keras.models.load_model(tmp_path / "model.keras")):
        report = export_onnx(one, path, lowering={"both/forward_mgu": "scan"})
        names = {tensor.name for tensor in onnx.load(path).graph.initializer}
        weights = sorted(name for name in names if name.startswith(("both/", "inner/")))
        found.append(([layer.name for layer in report.layers], weights))
    assert found[0] == found[1]
    layers, weights = found[0]
    assert layers == ["both/forward_mgu", "both/backward_mgu"]
    assert {"both/backward_mgu/R", "inner/head/kernel"} <= set(weights)
    assert "both/forward_mgu/gated_cell/kernel/candidate" in weights


def test_static_shapes(path):
    x = keras.Input((6, F), name="x")
    model = randomized(keras.Model(x, kg.GatedRNN(U, "lstm", unroll=True)(x)))
    exported(model, path, 1, dynamic=False)
    dims = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in dims] == [1, 6, F]
    with pytest.raises(ValueError, match="dynamic"):
        export_onnx(functional(kg.GatedRNN(U, "lstm")), path, dynamic=False)


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


@pytest.mark.long
def test_many_inputs(path):
    inputs = [keras.Input((None, F), name=f"x{k}") for k in range(16)]
    layer = kg.GatedGRU(2)
    exported(randomized(keras.Model(inputs, layers.Add()(list(map(layer, inputs))))), path, 16)


# Without an export ------------------------------------------------------------------------------


def test_open_axes_have_names_and_the_first_open_time_is_called_time():
    shapes = {"ids": (None,), "x": (None, None, 3), "z": (2, None), "image": (None, 4, None)}
    ports = [Port(name, shape, "float32") for name, shape in shapes.items()]
    interface = Interface(tuple(ports), None)
    assert {port.name: interface.axes(port) for port in ports} == {
        "ids": ["batch"],
        "x": ["batch", "time", 3],
        "z": [2, "z_time"],
        "image": ["batch", 4, "image_axis_2"],
    }


def test_inputs_are_named_by_key_or_name_and_never_twice():
    signature = {"a": [keras.InputSpec(shape=(None, 2)), keras.InputSpec(shape=(3,))]}
    named = {"a": signature["a"], "b": keras.KerasTensor((None, 1), "int32", name="other")}
    interface = interface_of(keras.Sequential(), named)
    assert [(p.name, p.shape, p.dtype) for p in interface.ports] == [
        ("a", (None, 2), "float32"),
        ("a_2", (3,), "float32"),
        ("b", (None, 1), "int32"),
    ]
    packed = interface.pack([1, 2, 3])
    assert packed == {"a": [1, 2], "b": 3}


def test_output_axes_follow_the_open_axes_of_inputs():
    a, b = keras.Input((None, F), name="a"), keras.Input((None, 2), name="b")
    turned = keras.ops.transpose(b, (1, 0, 2))
    model = keras.Model([a, b], [a[:, 0], turned, keras.layers.ZeroPadding1D(1)(a)])
    axes = output_axes(model, interface_of(model))
    assert axes == [["batch", None], ["b_time", "batch", None], ["batch", None, None]]


def test_one_length_for_inputs_that_are_added():
    a, b = keras.Input((None, F), name="a"), keras.Input((None, F), name="b")
    model = keras.Model([a, b], keras.layers.Add()([a, b]))
    assert output_axes(model, interface_of(model)) == [["batch", "time", None]]


def test_no_output_has_the_name_of_an_input():
    x = keras.Input((F,), name="head")
    model = keras.Model(x, {"head": keras.layers.Dense(2)(x)})
    assert output_names(model, model.output, interface_of(model)) == ["head_2"]
