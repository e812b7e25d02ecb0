"""What is mended in a graph behind the conversion."""

import keras
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.reference import ReferenceEvaluator

import keras_gated as kg
from keras_gated.onnx.errors import ExportError
from keras_gated.onnx.export import export_onnx
from keras_gated.onnx.graph.cleanup import check_graph, clean_up, drop_double_reversals
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


# The graph alone --------------------------------------------------------------------------------


def converted(*nodes, constants=(), inputs=("x",)):
    """A model as a converter leaves it."""
    ports = [make_tensor_value_info(name, 1, [None, None, 2]) for name in (*inputs, "y")]
    arrays = [onnx.numpy_helper.from_array(array, name) for name, array in constants]
    graph = make_graph(list(nodes), "converted", ports[:-1], ports[-1:], arrays)
    return make_model(graph, opset_imports=[make_opsetid("", 17)], ir_version=8)


def cleaned(model, weights=None, **ports):
    clean_up(
        model, "m", weights or {}, ports or {"x": ["batch", "time", 2]}, {"y": ["batch"]}, False
    )
    return model.graph


def test_a_constant_has_the_name_of_the_one_weight_that_it_equals():
    kernel, other = np.array([1.0, 2.0], "float32"), np.array([3.0, 4.0], "float32")
    constants = [("m/Const_7", kernel), ("m/Const_8", other), ("m/zeros", 0 * kernel)]
    add = [make_node("Sum", ["x", *(name for name, _ in constants)], ["y"], name="m/add")]
    weights = {"dense/kernel": kernel, "a": other, "b": other.copy(), "dense/bias": 0 * kernel}
    graph = cleaned(converted(*add, constants=constants), weights)
    # Two weights equal Const_8, and many things are zeros.
    assert [tensor.name for tensor in graph.initializer] == ["dense/kernel", "Const_8", "zeros"]
    assert graph.node[0].name == "add" and graph.node[0].input[1] == "dense/kernel"


def test_the_models_name_is_left_where_names_would_not_stay_apart():
    nodes = [make_node("Neg", ["x"], ["m/a"], name="m/n"), make_node("Abs", ["m/a"], ["a"])]
    graph = cleaned(converted(*nodes, make_node("Add", ["a", "m/a"], ["y"])))
    assert [list(node.output) for node in graph.node] == [["m/a"], ["a"], ["y"]]
    assert graph.node[0].name == "n"


def test_inputs_are_in_the_wanted_order_with_named_axes():
    model = converted(make_node("Add", ["a", "b"], ["y"]), inputs=("a", "b"))
    graph = cleaned(model, b=["batch", "time", 2], a=["batch", "a_time", 2])
    axes = [[d.dim_param or d.dim_value for d in p.type.tensor_type.shape.dim] for p in graph.input]
    assert [port.name for port in graph.input] == ["b", "a"]
    assert axes == [["batch", "time", 2], ["batch", "a_time", 2]]


def test_what_is_no_onnx_is_refused_by_name():
    good = converted(make_node("Neg", ["x"], ["y"]))
    check_graph(good, ["x"], [])
    with pytest.raises(ExportError, match="(?s)RFFT.*'fourier'.*tf2onnx: no such thing"):
        bad = converted(make_node("RFFT", ["x"], ["y"], name="fourier"))
        check_graph(bad, ["x"], ["no such thing"])
    with pytest.raises(ExportError, match=r"\['captured'\]"):
        check_graph(converted(make_node("Neg", ["x"], ["y"]), inputs=("x", "captured")), ["x"], [])
    with pytest.raises(ExportError, match="not valid ONNX"):
        check_graph(converted(make_node("Neg", ["nowhere"], ["y"])), ["x"], [])


REVERSE = {"start": [-1], "end": [-(2**31)], "axis": [1], "step": [-1]}


def reversed_twice(second: dict):
    """x reversed along axis 1, and then as `second` says, with a Relu behind."""
    arrays = {f"{k}{n}": v for n, row in enumerate((REVERSE, second)) for k, v in row.items()}
    constants = [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in arrays.items()]
    nodes = [
        make_node("Slice", ["x", "start0", "end0", "axis0", "step0"], ["a"]),
        make_node("Slice", ["a", "start1", "end1", "axis1", "step1"], ["b"]),
        make_node("Relu", ["b"], ["y"]),
    ]
    ports = [make_tensor_value_info(name, 1, [2, 3, 4]) for name in ("x", "y")]
    return make_graph(nodes, "reversals", ports[:1], ports[1:], constants)


@pytest.mark.parametrize(
    ("second", "operators"),
    [
        (REVERSE, ["Identity", "Relu"]),
        (REVERSE | {"axis": [2]}, ["Slice", "Slice", "Relu"]),
        (REVERSE | {"end": [0]}, ["Slice", "Slice", "Relu"]),
        (REVERSE | {"start": [-2]}, ["Slice", "Slice", "Relu"]),
    ],
    ids=["twice", "another axis", "all but the first", "all but the last"],
)
def test_only_what_is_reversed_twice_is_left_out(second, operators):
    graph = reversed_twice(second)
    feed = {"x": np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")}
    before = ReferenceEvaluator(graph, {"": 17}).run(None, feed)[0]
    drop_double_reversals(graph)
    assert [node.op_type for node in graph.node if node.op_type != "Identity"] == [
        name for name in operators if name != "Identity"
    ]
    after = ReferenceEvaluator(graph, {"": 17}).run(None, feed)[0]
    np.testing.assert_array_equal(after, before)


def test_what_is_reversed_twice_in_a_branch_is_left_out():
    """The constants are those of the graph around it."""
    inner, outer = reversed_twice(REVERSE), reversed_twice(REVERSE)
    del inner.initializer[:], inner.input[:]
    feed = {"x": np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")}
    constants = [*outer.initializer, numpy_helper.from_array(np.array(True), "yes")]
    inner.output[0].name = "z"
    inner.node[-1].output[0] = "z"
    node = make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=inner)
    graph = make_graph([node], "branches", outer.input, outer.output, constants)
    before = ReferenceEvaluator(graph, {"": 17}).run(None, feed)[0]
    drop_double_reversals(graph)
    branch = graph.node[0].attribute[0].g
    assert [n.op_type for n in branch.node if n.op_type != "Identity"] == ["Relu"]
    np.testing.assert_array_equal(ReferenceEvaluator(graph, {"": 17}).run(None, feed)[0], before)


def test_a_reversal_that_is_read_elsewhere_stays():
    graph = reversed_twice(REVERSE)
    graph.output.append(make_tensor_value_info("a", 1, [2, 3, 4]))
    feed = {"x": np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")}
    before = ReferenceEvaluator(graph, {"": 17}).run(None, feed)
    drop_double_reversals(graph)
    assert [n.op_type for n in graph.node if n.op_type != "Identity"] == ["Slice", "Relu"]
    for a, b in zip(ReferenceEvaluator(graph, {"": 17}).run(None, feed), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_producer_is_this_package():
    model = converted(make_node("Identity", ["x"], ["y"], name="m/same"))
    cleaned(model)
    assert (model.producer_name, model.producer_version) == ("keras_gated", kg.__version__)
