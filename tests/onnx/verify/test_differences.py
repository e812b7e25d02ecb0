"""A file that differs from its model is found."""

import keras
import numpy as np
import onnx
import pytest

import keras_gated as kg
from keras_gated.onnx.errors import ExportError
from keras_gated.onnx.export import export_onnx
from keras_gated.onnx.verify.check import check_onnx
from tests.onnx.helpers import U, functional, on_tensorflow, randomized, swap

pytestmark = on_tensorflow


def spoilt(path: str, name: str, change) -> str:
    """The file with one constant changed."""
    model = onnx.load(path)
    (tensor,) = [t for t in model.graph.initializer if t.name == name]
    array = change(onnx.numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
    onnx.save(model, path)
    return path


def negate(block: int):
    def change(array):
        array[:, block * U : (block + 1) * U] *= -1
        return array

    return change


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("weight", "change"),
    [
        ("enc/W", swap(0, 1)),
        ("enc/R", swap(2, 3)),
        ("enc/W", negate(2)),
        ("enc/R", negate(2)),
        ("enc/P", swap(0, 2)),
        ("enc/P", np.zeros_like),
        ("enc/B", np.zeros_like),
        ("head/kernel", np.zeros_like),
    ],
)
def test_a_spoilt_file_fails(weight, change, path):
    model = functional(kg.GatedRNN(U, "cifg", name="enc"), keras.layers.Dense(2, name="head"))
    export_onnx(model, path, verify=False)
    assert check_onnx(model, path).passed
    spoilt(path, weight, change)
    report = check_onnx(model, path)
    assert not report.passed
    assert "'head'" in report.problems[0] and "(2, 9, 3)" in report.problems[0]
    assert "FAILED" in str(report)
    with pytest.raises(ExportError, match="head.*differs at x"):
        check_onnx(model, path, raise_on_failure=True)


def test_other_weights_other_inputs_and_no_onnx_at_all(path):
    model = functional(kg.GatedRNN(U, "lstm", name="enc"))
    export_onnx(model, path, verify=False)
    assert not check_onnx(randomized(model, seed=1), path).passed
    other = functional(kg.GatedRNN(U, "lstm", name="enc"), name="y")
    assert "inputs" in check_onnx(other, path).problems[0]
    onnx_model = onnx.load(path)
    onnx_model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(onnx_model, path)
    assert "not valid ONNX" in check_onnx(model, path).problems[0]
