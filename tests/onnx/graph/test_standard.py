"""Files are valid by the ONNX standard: its checker, its shape inference and its own evaluator."""

import keras
import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

import keras_gated as kg
from tests.onnx.helpers import F, U, on_tensorflow, randomized, run

pytestmark = on_tensorflow
X = np.random.default_rng(0).normal(size=(3, 6, F)).astype("float32")
X[0, 3:] = X[1, 1] = X[2, 0] = 0.0  # masked: the end, a hole, the first


def exported(name: str, masked: bool, path, **options):
    """A file of one native layer."""
    x = keras.Input((None, F), name="x")
    y = keras.layers.Masking()(x) if masked else x
    layer = kg.GatedRNN(U, name, return_sequences=True, name=name, **options)
    kg.export_onnx(randomized(keras.Model(x, layer(y))), path, lowering="native", verify=False)
    return onnx.load(path)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("name", ["lstm", "gru", "elman"])  # of the usual activations
def test_the_reference_evaluator_agrees(name, back, masked, path):
    for zero in (False, True):
        model = exported(name, masked, path, go_backwards=back, zero_output_for_mask=zero)
        onnx.checker.check_model(model, full_check=True)
        if back and masked:
            continue  # the evaluator does not read sequence_lens
        (found,) = ReferenceEvaluator(model).run(None, {"x": X})
        np.testing.assert_allclose(found, run(path, X)[0], atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["janet", "gru_cho", "li_gru"])
def test_shapes_are_known_before_a_run(name, masked, path):
    """Some runtimes load no file without, e.g. tract; a guard once hid the number of features."""
    model = exported(name, masked, path)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, check_type=True)
    shapes = {v.name: v.type.tensor_type.shape.dim for v in inferred.graph.value_info}
    for node in model.graph.node:
        if node.op_type in ("LSTM", "GRU", "RNN"):
            assert len(shapes[node.input[0]]) == 3 and shapes[node.input[0]][2].dim_value > 0
