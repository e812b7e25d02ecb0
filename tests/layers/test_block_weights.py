"""Weights by gate, from a cell with other gates."""

import numpy as np
import pytest
from keras import ops

import keras_gated as kg
from tests.helpers import B, F, T, U, assert_close, numpy_blocks, raises


def _built(**gates):
    layer = kg.GatedLSTM(U, **gates)
    layer.build((B, T, F))
    rng = np.random.default_rng(len(layer.weights[0].shape))
    layer.set_weights([rng.normal(size=w.shape) for w in layer.weights])
    return layer


@pytest.mark.parametrize(
    "gates",
    [
        {"output_gate": False},
        {"input_gate": kg.Tied("forget", complement=True)},
        {"forget_gate": kg.Gate(recurrent_kernel=None, peephole=True)},
        {"peephole": True},
    ],
)
def test_an_ablated_cell_takes_over_what_it_has(gates):
    whole, ablated = _built(), _built(**gates)
    given, old = numpy_blocks(whole), numpy_blocks(ablated)
    raises(lambda: ablated.set_block_weights(given), "`blocks`...strict=False...Received: ")
    missing, unexpected = ablated.set_block_weights(given, strict=False)
    for block, parts in numpy_blocks(ablated).items():
        for key, found in parts.items():
            source = old if (block, key) in missing else given
            assert_close(found, source[block][key], "reload", f"{block} {key}")
    assert {(b, k) for b in given for k in given[b]} - set(unexpected) == {
        (b, k) for b in old for k in old[b]
    } - set(missing)


def test_equal_cells_differ_in_nothing():
    layer = _built()
    assert layer.set_block_weights(layer.block_weights()) == ((), ())


@pytest.mark.parametrize("blocks", [{}, {"forgot": {"bias": np.zeros(U)}}])
def test_nothing_to_set_is_refused(blocks):
    raises(lambda: _built().set_block_weights(blocks, strict=False), "`blocks`...Received: ")


def test_a_shape_that_differs_is_refused_and_nothing_is_set():
    layer = _built()
    blocks = {"forget": {"bias": np.zeros(U), "kernel": np.zeros((F + 1, U))}}
    before = ops.convert_to_numpy(layer.weights[0])
    raises(lambda: layer.set_block_weights(blocks, strict=False), f"`blocks`...({F + 1}, {U})")
    assert_close(layer.weights[0], before, "reload", "kernel")
