"""int8 files: what the report says is what stands in the file, and what it costs is measured."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnxruntime.quantization import QuantType, quantize_dynamic

import keras_gated as kg
from keras_gated.onnx import int8
from keras_gated.onnx.errors import ExportError
from keras_gated.onnx.export import export_onnx
from keras_gated.onnx.quantize import quantize_onnx
from keras_gated.onnx.verify.check import session_of
from tests.onnx.test_export import GUARD, functional

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the export runs on Keras's TensorFlow backend"
)
U = 64
# Of max |y|, for weights of usual size. A step of 8 bits is 0.004 of a weight, and recurrence adds.
BOUND = 0.06
AS_LSTM = ("lstm", "nfg", "cifg", "lstm_peephole", "janet")
AS_SCAN = ("gru", "mgu", "elman")


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "model.int8.onnx")


def realistic(*layers):
    """A model with Keras's own initialisation, and biases and peepholes that are not zero."""
    x = y = keras.Input((None, U), name="x")
    for layer in layers:
        y = layer(y)
    return with_biases(keras.Model(x, y))


def with_biases(model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) == 1 or "bias" in weight.path:
            weight.assign(weight.numpy() + 0.2 * rng.standard_normal(weight.shape))
    return model


def gated(name="lstm", **arguments):
    return kg.GatedRNN(U, name, return_sequences=True, **arguments)


def nodes_of(graph, within=""):
    """(the node that holds the graph, node) of a graph and of those within it."""
    for node in graph.node:
        yield within, node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes_of(attribute.g, node.name)


def constants_of(graph) -> dict:
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found |= constants_of(attribute.g)
    return found


def assert_told(report):
    """Whether every node in the file is as the report has it, counted anew."""
    model = onnx.load(report.path)
    onnx.checker.check_model(model)
    nodes, constants = list(nodes_of(model.graph)), constants_of(model.graph)
    in_file = {
        (node.name, within, "int8")
        for within, node in nodes
        if node.op_type in ("DynamicQuantizeLSTM", "MatMulInteger")
    }
    in_file |= {
        (node.name, within, "float32")
        for within, node in nodes
        if node.op_type in ("MatMul", "Gemm", "LSTM", "GRU", "RNN", "Gather")
        and any(constants.get(name, np.zeros(0)).dtype == np.float32 for name in node.input)
        and any(constants.get(name, np.zeros(0)).ndim > 1 for name in node.input)
    }
    rows = {(n.name, n.within, "int8" if n.quantized else "float32") for n in report.nodes}
    assert rows == in_file
    assert report.size_after == Path(report.path).stat().st_size
    shown = str(report)
    assert all(node.name in shown and node.reason in shown for node in report.nodes)


def assert_close(report, bound=BOUND):
    for output in report.outputs:
        assert 0 < output.mean <= output.largest <= bound * output.magnitude, report


def run(path, feed) -> list:
    return session_of(path).run(None, feed)  # one thread: another order may round another way


# From a Keras model -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", AS_LSTM)
def test_an_lstm_is_one_int8_node(name, path):
    x = np.random.default_rng(1).standard_normal((3, 21, U)).astype(np.float32)
    report = quantize_onnx(realistic(gated(name)), path, samples=x)
    assert report.operators["DynamicQuantizeLSTM"] == 1 and not report.left_in_float32
    assert "Scan" not in report.operators and "MatMul" not in report.operators
    assert report.size_after < 0.4 * report.size_before
    assert_told(report)
    assert_close(report)


@pytest.mark.parametrize("name", AS_SCAN)
def test_what_would_be_a_gru_or_rnn_is_an_int8_scan(name, path):
    x = np.random.default_rng(1).standard_normal((3, 21, U)).astype(np.float32)
    report = quantize_onnx(realistic(gated(name)), path, samples=x)
    assert report.operators["Scan"] == 1 and not report.left_in_float32
    assert not {"GRU", "RNN", "MatMul"} & set(report.operators)
    nodes = list(nodes_of(onnx.load(path).graph))
    (scan,) = [node.name for _, node in nodes if node.op_type == "Scan"]
    assert any(within == scan and node.op_type == "MatMulInteger" for within, node in nodes)
    assert report.size_after < 0.4 * report.size_before
    assert_told(report)
    assert_close(report)


@pytest.mark.long
def test_many_layers(path):
    """Masks, both directions, states, a shared layer, an embedding, Keras's own layers, a stack."""
    ids = keras.Input((None,), dtype="int32", name="ids")
    start = keras.Input((U,), name="start")
    y = keras.layers.Embedding(50, U, mask_zero=True)(ids)
    y = keras.layers.Bidirectional(gated(), merge_mode="sum")(y)
    y = keras.layers.Bidirectional(gated("gru"), merge_mode="sum")(y)
    shared = kg.GatedLSTM(U, return_sequences=True, name="shared")
    y = shared(shared(y))
    y, h, c = kg.GatedLSTM(U, return_sequences=True, return_state=True)(
        y, initial_state=[start, start]
    )
    y, r = keras.layers.GRU(U, return_sequences=True, return_state=True)(y, initial_state=h)
    y = keras.layers.RNN([keras.layers.GRUCell(U), keras.layers.LSTMCell(U)])(y)
    model = with_biases(keras.Model([ids, start], {"y": keras.layers.Dense(5)(y), "c": c, "r": r}))
    rng = np.random.default_rng(2)
    tokens = rng.integers(1, 50, (4, 11)).astype("int32")
    tokens[1, 6:], tokens[2, :3] = 0, 0
    states = rng.standard_normal((4, U)).astype(np.float32)
    report = quantize_onnx(model, path, samples=[tokens, states])
    assert [node.operator for node in report.left_in_float32] == ["Gather"]
    assert "looked up" in report.left_in_float32[0].reason
    assert_told(report)
    assert_close(report)
    names = [name for name in constants_of(onnx.load(path).graph) if name.startswith("shared/")]
    assert sum(name.endswith("/W/int8") for name in names) == 1  # stored once for its two calls
    expected = model([tokens, states])
    for output, y in zip(report.outputs, run(path, {"ids": tokens, "start": states}), strict=True):
        difference = np.abs(y - keras.ops.convert_to_numpy(expected[output.output])).max()
        assert difference == pytest.approx(output.largest, abs=1e-5)


class Either(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.one, self.other = gated("lstm"), gated("gru")

    def build(self, shape):
        self.one.build(shape)
        self.other.build(shape)
        self.built = True

    def call(self, x):
        return keras.ops.cond(keras.ops.sum(x) > 0, lambda: self.one(x), lambda: self.other(x))

    def compute_output_shape(self, shape):
        return shape


def test_layers_in_a_branch(path):
    x = np.random.default_rng(1).standard_normal((3, 9, U)).astype(np.float32)
    signs = [np.abs(x), -np.abs(x)]
    report = quantize_onnx(realistic(Either()), path, samples=signs)
    assert report.operators["DynamicQuantizeLSTM"] == 1 and report.operators["If"] == 1
    assert not {"LSTM", "GRU", "MatMul"} & set(report.operators)
    assert_close(report)


# From a file ------------------------------------------------------------------------------------


def test_a_native_gru_in_a_file_is_told_with_the_remedy(path, tmp_path, capfd):
    source = str(tmp_path / "model.onnx")
    export_onnx(realistic(gated(), gated("gru"), gated("elman")), source, verify=False)
    capfd.readouterr()
    report = quantize_onnx(source, path)
    assert capfd.readouterr() == ("", "")
    assert [node.operator for node in report.left_in_float32] == ["GRU", "RNN"]
    assert "no int8 GRU. Export it with lowering='scan'" in report.left_in_float32[0].reason
    assert "give quantize_onnx the Keras model" in str(report)
    assert "random inputs (seed 0)" in str(report)
    assert_told(report)
    assert_close(report)


@pytest.mark.parametrize("name, lowering", [("cifg", "native"), ("gru", "scan")])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("reduce_range", [False, True])
def test_the_integers_are_those_of_onnxruntimes_quantiser(
    name, lowering, per_channel, reduce_range, path, tmp_path, caplog
):
    source, other = str(tmp_path / "model.onnx"), str(tmp_path / "other.onnx")
    export_onnx(realistic(gated(name)), source, lowering=lowering, verify=False)
    options = {"per_channel": per_channel, "reduce_range": reduce_range}
    quantize_onnx(source, path, **options)
    quantize_dynamic(
        source,
        other,
        op_types_to_quantize=["MatMul", "LSTM"],
        weight_type=QuantType.QInt8,
        **options,
        extra_options={"EnableSubgraph": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
    )

    def integers(file):
        arrays = constants_of(onnx.load(file).graph).values()
        return sorted((a.shape, a.tobytes()) for a in arrays if a.dtype == np.int8 and a.any())

    assert integers(path) == integers(other) != []
    x = np.random.default_rng(1).standard_normal((3, 9, U)).astype(np.float32)
    np.testing.assert_allclose(run(path, {"x": x})[0], run(other, {"x": x})[0], atol=2e-6)


def handmade(path, opset=17):
    """Every kind of product: y = x W, transposed, with factors, from the left, of two results..."""
    rng = np.random.default_rng(0)
    arrays = {
        "w": rng.standard_normal((4, 4)),
        "bias": rng.standard_normal(4),
        "given": rng.standard_normal((4, 4)),
        "kernel": rng.standard_normal((2, 3, 1, 1)),
    }
    tensors = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in arrays.items()]
    constant = numpy_helper.from_array(rng.standard_normal((4, 4)).astype(np.float32), "v")
    nodes = [
        make_node("Constant", [], ["v"], name="constant", value=constant),
        make_node("MatMul", ["x", "v"], ["a"], name="of a node"),
        make_node("Gemm", ["a", "w", "bias"], ["b"], name="transposed", transB=1),
        make_node("Gemm", ["a", "w"], ["b2"], name="no bias"),
        make_node("Gemm", ["b", "w"], ["c"], name="factor", alpha=2.0),
        make_node("MatMul", ["w", "c"], ["d"], name="left"),
        make_node("MatMul", ["d", "given"], ["e"], name="input"),
        make_node("MatMul", ["e", "b2"], ["f"], name="two results"),
        make_node("Mul", ["f", "w"], ["y"], name="elementwise"),
    ]
    ports = [make_tensor_value_info(name, 1, [4, 4]) for name in ("x", "given", "y")]
    graph = make_graph(nodes, "handmade", ports[:2], ports[2:], tensors[:3])
    onnx.save(make_model(graph, opset_imports=[make_opsetid("", opset)], ir_version=8), path)


def test_every_kind_of_product(path, tmp_path):
    source = str(tmp_path / "model.onnx")
    handmade(source)
    x = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32)
    report = quantize_onnx(source, path, samples=x)
    rows = {node.name: (node.quantized, node.reason) for node in report.nodes}
    assert {name for name, (quantized, _) in rows.items() if quantized} == {
        "of a node", "transposed", "no bias",
    }  # fmt: skip
    for name in ("left", "input", "two results"):
        assert "its second factor is computed" in rows[name][1]
    assert "has factors" in rows["factor"][1]
    assert "not a product of matrices" in rows["elementwise"][1]
    assert "v" not in constants_of(onnx.load(path).graph)
    assert not any(node.op_type == "Constant" for _, node in nodes_of(onnx.load(path).graph))
    assert_close(report)


def test_a_file_in_which_nothing_can_be_quantised_says_so(path, tmp_path):
    source = str(tmp_path / "model.onnx")
    export_onnx(realistic(gated("gru")), source, verify=False)
    report = quantize_onnx(source, path)
    assert "nothing in the model could be quantised" in str(report)
    assert report.outputs[0].largest == 0


# What it costs ----------------------------------------------------------------------------------


def test_doubled_scales_are_seen_in_the_report(path, monkeypatch):
    model = realistic(gated(), gated("gru"))
    good = quantize_onnx(model, path)
    assert_close(good)
    right = int8.quantize

    def wrong(proto, *arguments):
        rows = right(proto, *arguments)
        for tensor in proto.graph.initializer:
            if tensor.name.endswith("/int8_scale"):
                doubled = 2 * numpy_helper.to_array(tensor)
                tensor.CopyFrom(numpy_helper.from_array(doubled, tensor.name))
        return rows

    monkeypatch.setattr(int8, "quantize", wrong)
    bad = quantize_onnx(model, path).outputs[0]
    assert bad.largest > 5 * BOUND * bad.magnitude


def test_samples_in_every_form(path, tmp_path):
    a, b = keras.Input((None, 3), name="a"), keras.Input((None, 3), name="b")
    y = gated()(keras.layers.Concatenate()([a, b]))
    model = with_biases(keras.Model([a, b], [y, keras.layers.Dense(2)(y)]))
    source = str(tmp_path / "model.onnx")
    export_onnx(model, source)
    rng = np.random.default_rng(3)
    first, second = rng.standard_normal((2, 2, 3, 7, 3)).astype(np.float32)
    lists = [list(first), list(second)]
    expected = np.concatenate([run(source, {"a": p, "b": q})[1].ravel() for p, q in lists])
    for form in (
        lists,
        tuple(map(tuple, lists)),
        [{"a": p, "b": q} for p, q in lists],
        [[keras.ops.convert_to_tensor(t) for t in pair] for pair in lists],
    ):
        report = quantize_onnx(source, path, samples=form)
        found = np.concatenate([run(path, {"a": p, "b": q})[1].ravel() for p, q in lists])
        difference = np.abs(found - expected)
        assert report.outputs[1].largest == pytest.approx(difference.max(), rel=1e-4)
        assert report.outputs[1].mean == pytest.approx(difference.mean(), rel=1e-4)
        assert report.outputs[1].magnitude == pytest.approx(np.abs(expected).max())
        assert "on the given samples (2 calls):" in str(report)
    assert "on the given samples (1 call):" in str(quantize_onnx(source, path, samples=lists[0]))
    seeds = [quantize_onnx(source, path, seed=seed).outputs[0].largest for seed in (1, 1, 2)]
    assert seeds[0] == seeds[1] != seeds[2]


def test_reduced_range(path):
    model = realistic(gated())
    for reduce_range, limit in ((False, 127), (True, 64)):
        quantize_onnx(model, path, reduce_range=reduce_range)
        arrays = constants_of(onnx.load(path).graph).values()
        assert max(np.abs(a.astype(int)).max() for a in arrays if a.dtype == np.int8) == limit


# Safety -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lstm", "gru", "elman"])
def test_an_empty_batch_is_an_ordinary_error(name, path):
    quantize_onnx(functional(kg.GatedRNN(5, name, return_sequences=True)), path)
    result = subprocess.run(  # onnxruntime ends the process where there is no guard
        [sys.executable, "-c", GUARD, path], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("refused") == 3 and "alive" in result.stdout


def unloadable(proto, *_):
    proto.graph.node[0].op_type = "NoSuchOperator"
    return []


def infinite(proto, *_):
    for tensor in proto.graph.initializer:
        if tensor.name.endswith("bias"):
            tensor.CopyFrom(
                numpy_helper.from_array(np.nan * numpy_helper.to_array(tensor), tensor.name)
            )
    return []


@pytest.mark.parametrize(
    "broken, words",
    [(unloadable, "NoSuchOperator"), (infinite, "not finite at x")],
)
def test_a_failure_leaves_the_older_file(broken, words, path, tmp_path, monkeypatch):
    source = str(tmp_path / "model.onnx")
    export_onnx(realistic(gated(), keras.layers.Dense(3)), source, verify=False)
    Path(path).write_text("older")
    monkeypatch.setattr(int8, "quantize", broken)
    with pytest.raises(ExportError, match=words):
        quantize_onnx(source, path)
    assert Path(path).read_text() == "older"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.int8.onnx", "model.onnx"]


def test_arguments(path, tmp_path):
    source = str(tmp_path / "model.onnx")
    export_onnx(realistic(gated()), source, verify=False)
    array = np.zeros((2, 3, U), np.float32)
    for arguments, words in (
        ({"model": 3}, "`model`.*keras.Model.*int"),
        ({"model": "no.onnx"}, "`model`.*'no.onnx'.*export_onnx"),
        ({"path": "/no/such/folder/m.onnx"}, "`path`.*/no/such/folder"),
        ({"path": source}, "`path`.*model.onnx"),
        ({"samples": array[0]}, r"`samples`.*x float32 \(any, any, 64\).*\(3, 64\)"),
        ({"samples": array[..., :5]}, r"`samples`.*\(2, 3, 5\)"),
        ({"samples": array[:0]}, r"`samples`.*\(0, 3, 64\)"),
        ({"samples": [array, array[0]]}, r"`samples`.*\(2, 3, 64\).*\(3, 64\)"),
        ({"samples": []}, "`samples`.*list"),
        ({"samples": array.astype(complex)}, "`samples`"),
    ):
        with pytest.raises(ValueError, match=words):
            quantize_onnx(**{"model": source, "path": path, **arguments})
    assert not Path(path).exists()
    handmade(source, opset=10)
    with pytest.raises(ValueError, match="`model`.*opset 11.*Received: opset 10"):
        quantize_onnx(source, path)


def test_samples_that_the_float32_file_refuses(path, tmp_path):
    a, b = keras.Input((None, 3), name="a"), keras.Input((None, 3), name="b")
    source = str(tmp_path / "model.onnx")
    model = keras.Model([a, b], gated()(keras.layers.Concatenate()([a, b])))
    export_onnx(model, source, verify=False)
    with pytest.raises(ValueError, match="`samples`.*a .2, 4, 3.*b .2, 5, 3"):
        quantize_onnx(source, path, samples=[np.zeros((2, 4, 3)), np.zeros((2, 5, 3))])


def test_a_file_that_refuses_random_inputs(path, tmp_path):
    source = str(tmp_path / "model.onnx")
    shape = numpy_helper.from_array(np.array([7, 4]), "shape")
    w = numpy_helper.from_array(np.eye(4, dtype=np.float32) + 0.3, "w")
    nodes = [make_node("Reshape", ["x", "shape"], ["r"]), make_node("MatMul", ["r", "w"], ["y"])]
    ports = [make_tensor_value_info("x", 1, [None, None, 4]), make_tensor_value_info("y", 1, None)]
    graph = make_graph(nodes, "seven rows", ports[:1], ports[1:], [shape, w])
    onnx.save(make_model(graph, opset_imports=[make_opsetid("", 17)], ir_version=8), source)
    with pytest.raises(ExportError, match=r"x \(2, 9, 4\).*`samples`"):
        quantize_onnx(source, path)
    assert not Path(path).exists()
    x = np.random.default_rng(0).standard_normal((1, 7, 4))
    report = quantize_onnx(source, path, samples=x)
    assert_close(report)
    assert str(report).count("float32 file itself refuses") == 6  # longer ones too


def test_a_model_that_needs_a_longer_sequence(path):
    report = quantize_onnx(realistic(keras.layers.Conv1D(8, 16), gated()), path)
    assert report.operators["DynamicQuantizeLSTM"] == 1
    assert str(report).count("float32 file itself refuses x (") == 3
    assert_close(report)
