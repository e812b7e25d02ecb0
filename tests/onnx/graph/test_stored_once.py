"""Weights of recurrent nodes that are put together at loading: same numbers, fewer bytes."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from onnx.helper import make_graph, make_node, make_opsetid, make_tensor_value_info

import keras_gated as kg
from keras_gated.engine.fused import find_native_operator
from keras_gated.onnx.graph import stored_once
from keras_gated.onnx.graph.stored_once import PREFIX
from keras_gated.spec.normal_form import resolve
from tests.onnx.helpers import on_tensorflow, randomized

pytestmark = on_tensorflow
WIDE, INPUTS = 64, 64
NATIVE = [n for n, p in kg.presets.items() if find_native_operator(resolve(p.spec)).operator]


def run(path, x, optimised=True):
    options = onnxruntime.SessionOptions()
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


X = np.random.default_rng(0).normal(size=(2, 5, INPUTS)).astype("float32")


OFTEN = ("cifg", "slim_lstm3", "ugrnn")
LONG = [pytest.param(name, marks=pytest.mark.long) for name in NATIVE if name not in OFTEN]


@pytest.mark.parametrize("name", [*OFTEN, *LONG])
def test_a_file_holds_what_the_cell_has(name, tmp_path):
    layer = kg.GatedRNN(WIDE, name, return_sequences=True, name=name)
    x = keras.Input((None, INPUTS), name="x")
    model = randomized(keras.Model(x, layer(x)))
    model.set_weights([0.3 * w for w in model.get_weights()])  # none grows without bound
    files = [tmp_path / f"{compact}.onnx" for compact in (False, True)]
    _, report = (
        kg.export_onnx(model, file, compact=file is files[1], lowering="native") for file in files
    )
    whole = run(files[0], X)
    assert np.array_equal(run(files[1], X), whole)
    np.testing.assert_allclose(run(files[1], X, optimised=False), whole, rtol=1e-5, atol=1e-5)
    # What is computed outside of the operator reads the whole kernel, which is stored beside W.
    outside = find_native_operator(resolve(kg.preset(name))).outside
    largest = 4 * model.count_params() * (1.8 if outside and "t_" in name else 1.05)
    assert files[1].stat().st_size <= largest + 8000
    assert report.layers[0].weights_in_file <= 1.05 * model.count_params() + 6 * WIDE


def test_both_directions_a_mask_and_a_shared_layer(tmp_path):
    x = keras.Input((None, INPUTS), name="x")
    shared = kg.GatedRNN(WIDE, "cifg", return_sequences=True)
    y = keras.layers.Bidirectional(kg.GatedRNN(INPUTS // 2, "cifg", return_sequences=True))(
        keras.layers.Masking()(x)
    )
    model = randomized(keras.Model(x, shared(shared(y))))
    x = X.copy()
    x[0, 3:] = 0.0
    found = []
    for compact in (False, True):
        kg.export_onnx(model, tmp_path / "m.onnx", compact=compact, lowering="native")
        found.append((run(tmp_path / "m.onnx", x), (tmp_path / "m.onnx").stat().st_size))
    assert np.array_equal(found[0][0], found[1][0]) and found[1][1] < 0.8 * found[0][1]


def test_a_stream_and_int8(tmp_path):
    layer = kg.GatedRNN(WIDE, "cifg", return_sequences=True)
    model = randomized(keras.Sequential([keras.Input((None, INPUTS), name="x"), layer]))
    path, small = tmp_path / "m.onnx", tmp_path / "small.onnx"
    kg.export_streaming(model, path, lowering="native")
    found = kg.StreamingSession(path).chunk(X)
    np.testing.assert_allclose(found, model(X), rtol=1e-5, atol=1e-5)
    kg.export_onnx(model, path)
    report = kg.quantize_onnx(path, small)
    assert [node.quantized for node in report.nodes] == [True]
    nodes = [n.op_type for n in onnx.load(small).graph.node if n.name.startswith(PREFIX)]
    assert nodes.count("Neg") == 2  # of W and of R, in int8


def test_a_constant_that_a_caller_may_replace_is_left():
    weights = {"w": (1, 4 * U, U), "r": (1, 4 * U, U)}
    arrays = [numpy_helper.from_array(np.zeros(s, "float32"), n) for n, s in weights.items()]
    ports = [make_tensor_value_info(n, 1, s) for n, s in {"x": [3, 2, U], **weights}.items()]
    node = make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=U)
    graph = make_graph([node], "g", ports, [make_tensor_value_info("y", 1, [None] * 4)], arrays)
    model = onnx.helper.make_model(graph)
    before = model.SerializeToString()
    stored_once.store_once(model)
    assert model.SerializeToString() == before


def test_a_weight_is_restored(tmp_path):
    layer = kg.GatedRNN(WIDE, "janet", return_sequences=True)
    model = randomized(keras.Sequential([keras.Input((None, INPUTS), name="x"), layer]))
    kg.export_onnx(model, tmp_path / "whole.onnx", compact=False)
    kg.export_onnx(model, tmp_path / "parts.onnx")
    whole, parts = (onnx.load(tmp_path / f"{name}.onnx") for name in ("whole", "parts"))
    assert len(parts.graph.node) > len(whole.graph.node)
    stored_once.restore(parts)
    assert [n.op_type for n in parts.graph.node] == [n.op_type for n in whole.graph.node]
    arrays = [
        {t.name: numpy_helper.to_array(t) for t in m.graph.initializer} for m in (whole, parts)
    ]
    assert arrays[0].keys() == arrays[1].keys()
    assert all(np.array_equal(a, arrays[1][name]) for name, a in arrays[0].items())


# The blocks alone -------------------------------------------------------------------------------

U = 40
rng = np.random.default_rng(1)
DENSE = rng.normal(size=(U, U)).astype("float32")
CASES = {  # the four blocks of W, and the operators that put it together
    "absent": ([DENSE, 0 * DENSE, DENSE + 1, DENSE + 2], {"ConstantOfShape"}),
    "constant": ([DENSE, 0 * DENSE + 3, DENSE + 1, DENSE + 2], {"ConstantOfShape"}),
    "tied": ([DENSE, DENSE + 1, DENSE, DENSE + 2], set()),
    "complement": ([DENSE, -DENSE, DENSE + 1, DENSE + 2], {"Neg"}),
    "diagonal": (
        [DENSE, np.diag(DENSE[0]), DENSE + 1, DENSE + 2],
        {"EyeLike", "Mul", "ConstantOfShape"},
    ),
    "diagonal blocks": (
        [DENSE, DENSE * np.kron(np.eye(4), np.ones((U // 4, U // 4))), DENSE + 1, DENSE + 2],
        {"EyeLike", "Mul", "ConstantOfShape"},
    ),
    "columns": ([DENSE, DENSE * (np.arange(U) < 9), DENSE + 1, DENSE + 2], {"ConstantOfShape"}),
    "the first": ([0 * DENSE, DENSE, DENSE, -DENSE], {"ConstantOfShape", "Neg"}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_kind_of_block(case):
    blocks, operators = CASES[case]
    w = np.concatenate(blocks)[None].astype("float32")
    r = rng.normal(size=(1, 4 * U, U)).astype("float32")
    node = make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=U)
    ports = [make_tensor_value_info("x", 1, [3, 2, U]), make_tensor_value_info("y", 1, [None] * 4)]
    weights = [numpy_helper.from_array(a, n) for a, n in ((w, "w"), (r, "r"))]
    graph = make_graph([node], "g", ports[:1], ports[1:], weights)
    model = onnx.helper.make_model(graph, opset_imports=[make_opsetid("", 17)], ir_version=9)
    x = rng.normal(size=(3, 2, U)).astype("float32")
    before, size = run(model.SerializeToString(), x), model.ByteSize()
    stored_once.store_once(model)
    onnx.checker.check_model(model, full_check=True)
    assert np.array_equal(run(model.SerializeToString(), x), before)
    assert model.ByteSize() < size - 2048
    made = {n.op_type for n in model.graph.node} - {"LSTM", "Concat", "Reshape"}
    assert made == operators
    stored_once.restore(model)
    (found,) = [t for t in model.graph.initializer if t.name == "w"]
    assert np.array_equal(numpy_helper.to_array(found), w)


def test_what_would_hardly_be_smaller_is_left(tmp_path):
    model = randomized(keras.Sequential([keras.Input((None, 3), name="x"), kg.GatedRNN(5, "nfg")]))
    kg.export_onnx(model, tmp_path / "m.onnx")
    names = [node.name for node in onnx.load(tmp_path / "m.onnx").graph.node]
    assert not any(name.startswith(PREFIX) for name in names)


def test_compact_is_true_or_false(tmp_path):
    model = keras.Sequential([keras.Input((None, 3)), kg.GatedGRU(4)])
    for export in (kg.export_onnx, kg.export_streaming):
        with pytest.raises(ValueError, match="`compact` must be True or False.*Received"):
            export(model, tmp_path / "m.onnx", compact="yes")
