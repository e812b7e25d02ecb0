"""What becomes int8 in a file, and what stays float32."""

import keras
import numpy as np
import onnx
import pytest
from onnxruntime.quantization import QuantType, quantize_dynamic

from keras_gated.onnx.export import export_onnx
from keras_gated.onnx.graph.stored_once import restore
from keras_gated.onnx.quantize import quantize_onnx
from tests.onnx.helpers import on_tensorflow
from tests.onnx.int8_models import (
    U,
    assert_close,
    assert_told,
    constants_of,
    gated,
    handmade,
    nodes_of,
    realistic,
    run,
)

pytestmark = on_tensorflow


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "model.int8.onnx")


AS_LSTM = ("lstm", "nfg", "cifg", "lstm_peephole", "janet")
AS_SCAN = ("gru", "mgu", "elman")


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


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name, lowering", [("cifg", "native"), ("gru", "scan")])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("reduce_range", [False, True])
def test_the_integers_are_those_of_onnxruntimes_quantiser(
    name, lowering, per_channel, reduce_range, path, tmp_path, caplog
):
    source, other = str(tmp_path / "model.onnx"), str(tmp_path / "other.onnx")
    export_onnx(realistic(gated(name)), source, lowering=lowering, verify=False, compact=False)
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
        model = onnx.load(file)
        restore(model)
        arrays = constants_of(model.graph).values()
        return sorted((a.shape, a.tobytes()) for a in arrays if a.dtype == np.int8 and a.any())

    assert integers(path) == integers(other) != []
    x = np.random.default_rng(1).standard_normal((3, 9, U)).astype(np.float32)
    np.testing.assert_allclose(run(path, {"x": x})[0], run(other, {"x": x})[0], atol=2e-6)


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


def test_reduced_range(path):
    model = realistic(gated())
    for reduce_range, limit in ((False, 127), (True, 64)):
        quantize_onnx(model, path, reduce_range=reduce_range)
        arrays = constants_of(onnx.load(path).graph).values()
        assert max(np.abs(a.astype(int)).max() for a in arrays if a.dtype == np.int8) == limit


def test_a_convolution_stays_float32_and_the_report_says_why(path):
    front = keras.layers.Conv1D(U, 3, padding="same", name="front")
    model = keras.Sequential([keras.Input((None, 8)), front, keras.layers.LSTM(U, name="lstm")])
    report = quantize_onnx(model, path)
    (left,) = report.left_in_float32
    assert left.operator == "Conv" and "faster than in int8" in left.reason
