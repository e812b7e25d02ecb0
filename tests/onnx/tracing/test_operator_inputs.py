"""The weights of an operator: blocks in its order, options multiplied in.

That they compute what the cell does is tested preset by preset in tests/spec/test_onnx_operator.py.
"""

import keras
import numpy as np
import pytest

import keras_gated as kg
from keras_gated.onnx.tracing.operator_inputs import pack, read_block_weights
from keras_gated.spec.normal_form import resolve
from keras_gated.spec.onnx_operator import find_native_operator
from tests.onnx.helpers import F, U, on_tensorflow, randomized

pytestmark = on_tensorflow
RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 6, F)).astype("float32")


def built(name: str, **options):
    """A layer with random weights, also those that are statistics."""
    layer = kg.GatedRNN(U, name, **options)
    randomized(keras.Sequential([keras.Input((None, F)), layer]))
    return layer


@pytest.mark.parametrize(
    ("name", "order"), [("lstm", "input output forget candidate"), ("elman", "candidate")]
)
def test_blocks_are_below_each_other_in_the_operators_order(name, order):
    blocks = read_block_weights(built(name).cell)
    packed = pack(find_native_operator(resolve(kg.preset(name))), blocks, F, U)
    rows = [blocks[block] for block in order.split()]
    np.testing.assert_array_equal(packed["W"][0], np.concatenate([r["kernel"].T for r in rows]))
    right = np.concatenate([r["recurrent_kernel"].T for r in rows])
    np.testing.assert_array_equal(packed["R"][0], right)
    biases = np.concatenate([r["bias"] for r in rows])
    np.testing.assert_array_equal(packed["B"][0], [*biases, *np.zeros_like(biases)])
    assert {array.dtype.name for array in packed.values()} == {"float32"}


def test_kernels_that_are_diagonal_or_the_identity_become_matrices():
    spec = kg.CellSpec(input_gate=kg.Gate("identity", "diagonal"))
    layer = kg.GatedRNN(U, spec)
    randomized(keras.Sequential([keras.Input((None, U)), layer]))
    blocks = read_block_weights(layer.cell)
    packed = pack(find_native_operator(resolve(spec)), blocks, U, U)
    np.testing.assert_array_equal(packed["W"][0, :U], np.eye(U))
    np.testing.assert_array_equal(packed["R"][0, :U], np.diag(blocks["input"]["recurrent_kernel"]))


@pytest.mark.parametrize("name", ["lstm", "min_gru"])
def test_batch_normalisation_is_merged_into_kernels_and_biases(name):
    """A layer without the option gives the same numbers with the merged weights."""
    layer, plain = built(name, batch_norm=True), built(name)
    plain.set_block_weights(read_block_weights(layer.cell))
    np.testing.assert_allclose(plain(X), layer(X), rtol=1e-5, atol=1e-5)


def test_a_projection_is_merged_into_the_recurrent_kernels():
    layer = built("lstm", projection_units=2)
    blocks, own = read_block_weights(layer.cell), layer.block_weights()
    projection = keras.ops.convert_to_numpy(own["output_projection"]["kernel"])
    for name in ("input", "forget", "output", "candidate"):
        kernel = keras.ops.convert_to_numpy(own[name]["recurrent_kernel"])
        assert kernel.shape == (2, U)
        found = blocks[name]["recurrent_kernel"]
        np.testing.assert_allclose(found, projection @ kernel, rtol=1e-5, atol=1e-6)
