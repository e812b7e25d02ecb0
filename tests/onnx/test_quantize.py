"""quantize_onnx: what the report says is what stands in the file, and what it costs is measured."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

import keras_gated as kg
from keras_gated.onnx.errors import ExportError
from keras_gated.onnx.export import export_onnx
from keras_gated.onnx.graph import int8_nodes as int8
from keras_gated.onnx.quantize import quantize_onnx
from tests.onnx.helpers import GUARD, functional, on_tensorflow
from tests.onnx.int8_models import (
    BOUND,
    U,
    assert_close,
    assert_told,
    constants_of,
    gated,
    handmade,
    realistic,
    run,
    with_biases,
)

pytestmark = on_tensorflow


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "model.int8.onnx")


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


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_shared_lstm_is_stored_once(per_channel, path):
    shared = kg.GatedLSTM(U, return_sequences=True, name="shared")
    model = realistic(shared, shared)
    x = np.random.default_rng(1).standard_normal((3, 9, U)).astype(np.float32)
    report = quantize_onnx(model, path, samples=x, per_channel=per_channel)
    assert_told(report)
    graph = onnx.load(path).graph
    first, second = [n for n in graph.node if n.op_type == "DynamicQuantizeLSTM"]
    assert first.input[1:4] == second.input[1:4]  # W, R, B
    assert first.input[8:] == second.input[8:] and len(first.input) == 12  # scales and zeros
    constants = constants_of(graph)
    assert constants[first.input[8]].shape == ((1, 4 * U) if per_channel else (1,))
    matrices = [a for a in constants.values() if a.dtype == np.int8 and a.ndim == 3]
    assert [a.shape for a in matrices] == [(1, U, 4 * U)] * 2  # W and R
    expected = keras.ops.convert_to_numpy(model(x))
    difference = np.abs(run(path, {"x": x})[0] - expected).max()
    assert 0 < difference <= BOUND * np.abs(expected).max()


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


@pytest.mark.parametrize("name", ["lstm", "gru", "elman"])
def test_an_empty_batch_is_an_ordinary_error(name, path):
    quantize_onnx(functional(kg.GatedRNN(5, name, return_sequences=True)), path)
    result = subprocess.run(  # onnxruntime ends the process where there is no guard
        [sys.executable, "-c", GUARD, path], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    # No rows may also be the answer to no rows.
    answers = result.stdout.count("refused") + result.stdout.count("nothing")
    assert answers == 3 and "alive" in result.stdout


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
    assert str(report).count("float32 file itself refuses") == 7  # longer ones too


def test_a_model_that_needs_a_longer_sequence(path):
    report = quantize_onnx(realistic(keras.layers.Conv1D(8, 16), gated()), path)
    assert report.operators["DynamicQuantizeLSTM"] == 1
    assert str(report).count("float32 file itself refuses x (") == 3
    assert_close(report)
