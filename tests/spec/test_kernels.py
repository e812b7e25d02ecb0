"""Each kind of kernel: its product, its gradients and its matrix say the same."""

import keras
import numpy as np
import pytest

import keras_gated as kg
from keras_gated.engine.run import run_by
from keras_gated.spec.kernels import DENSE, NAMED, Dense, sees_no_more
from tests.helpers import BACKEND, FINEST, compare, gradients
from tests.onnx.helpers import functional, randomized

rng = np.random.default_rng(0)
N, U, BLOCKS = 7, 4, 3
KINDS = {**NAMED, "one block": kg.Blocks(1), "two": kg.Blocks(2), "as many as units": kg.Blocks(U)}


def drawn(kernel, blocks=BLOCKS):
    """Inputs, and a weight of some blocks."""
    shape = None if kernel.weight_name("kernel") is None else kernel.shape(U, U, blocks)
    return rng.normal(size=(N, U)), None if shape is None else rng.normal(size=shape)


@pytest.mark.parametrize("name", KINDS)
def test_the_product_is_that_with_the_matrix(name):
    kernel = KINDS[name]
    x, w = drawn(kernel, blocks=1)
    matrix = kernel.to_matrix(np, w, U)
    np.testing.assert_allclose(kernel.product(np, x, w, 1), x @ matrix)
    if w is not None:
        np.testing.assert_array_equal(kernel.from_matrix(np, matrix), w)


@pytest.mark.parametrize("name", [name for name, kernel in KINDS.items() if kernel.mixes_units])
def test_the_gradients_of_a_product(name):
    """For a linear function f, the sum of d f(x) is the sum of x times its gradient."""
    kernel = KINDS[name]
    x, w = drawn(kernel)
    y = kernel.product(np, x, w, BLOCKS)
    d = rng.normal(size=y.shape)
    value = np.sum(d * y)
    back = kernel.product_back(np, d, kernel.transposed(np, w), BLOCKS)
    assert np.sum(x * back) == pytest.approx(value)
    of_gates = [kernel.weight_gradient(np, x, part) for part in np.split(d, BLOCKS, axis=-1)]
    assert np.sum(w * np.concatenate(of_gates, axis=-1)) == pytest.approx(value)


@pytest.mark.parametrize("rows", [2, 6])
def test_blocks_of_several_gates_with_other_entries_than_units(rows):
    """A gate's part of the product is the product with its own part of the weight."""
    kernel = kg.Blocks(2)
    x, w = rng.normal(size=(3, N, rows)), rng.normal(size=kernel.shape(rows, U, BLOCKS))
    parts = np.split(kernel.product(np, x, w, BLOCKS), BLOCKS, axis=-1)
    for part, own in zip(parts, np.split(w, BLOCKS, axis=-1), strict=True):
        matrix = kernel.to_matrix(np, own, rows)
        assert np.count_nonzero(matrix) == own.size == rows * U // 2
        np.testing.assert_allclose(part, x @ matrix)


def test_names_and_sizes():
    assert [k.weight_name("recurrent_kernel") for k in NAMED.values()] == [
        "recurrent_kernel",
        "recurrent_diagonal_kernel",
        None,
    ]
    assert DENSE.flops((5, 8)) == 80 and NAMED["diagonal"].flops((8,)) == 0
    assert kg.Blocks(2).weight_name("recurrent_kernel") == "recurrent_blocks2_kernel"
    assert kg.Blocks(2).flops(kg.Blocks(2).shape(6, 8, 1)) == DENSE.flops((6, 8)) // 2


def test_which_kernel_sees_no_more_than_another():
    blocks, diagonal = kg.Blocks, "diagonal"
    smaller = [(None, diagonal), (diagonal, "dense"), (diagonal, blocks(3)), (blocks(4), blocks(2))]
    for new, old in [*smaller, (blocks(2), "dense"), (blocks(2), blocks(1))]:
        assert sees_no_more(new, old) and not sees_no_more(old, new)
        assert sees_no_more(new, new)
    for new, old in [(blocks(3), blocks(2)), ("identity", "dense"), (blocks(1), "dense")]:
        assert not sees_no_more(new, old) and not sees_no_more(old, new)


class Halves(Dense):
    """Two blocks on the diagonal: the units of each half see the entries of that half."""

    name, prefix = "halves", "halves_"

    def shape(self, rows, units, blocks):
        return 2, rows // 2, blocks * units // 2

    def product(self, ops, x, w, blocks):
        return ops.matmul(x, self._joined(ops, w, x.shape[-1] // 2))

    def transposed(self, ops, w):
        return ops.transpose(self._joined(ops, w, w.shape[1]))

    def weight_gradient(self, ops, x, d):
        i = x.shape[-1] // 2
        whole = ops.matmul(ops.transpose(x), d)
        halves = ops.split(ops.reshape(whole, (2 * i, -1, 2, i)), 2, axis=0)
        parts = [ops.reshape(half[:, :, k], (i, -1)) for k, half in enumerate(halves)]
        return ops.stack(parts)

    def _joined(self, ops, w, i):
        """The matrix of all blocks, columns in the order block, half, unit."""
        first, second = (ops.reshape(w[k], (i, -1, 1, i)) for k in range(2))
        rows = [ops.concatenate([first, 0 * first], 2), ops.concatenate([0 * second, second], 2)]
        return ops.reshape(ops.concatenate(rows, 0), (2 * i, -1))

    def to_matrix(self, ops, w, size):
        return self._joined(ops, w, w.shape[1])


@pytest.mark.parametrize("memory", ["cell", "hidden"])
def test_a_kind_of_ones_own_costs_one_class(memory, tmp_path):
    """Its gradient, its counts, its file and its options."""
    units, gate = 4, kg.Gate(recurrent_kernel=Halves())
    coupled = kg.Tied("forget", complement=True)
    spec = kg.CellSpec(
        memory=memory,
        forget_gate=gate,
        input_gate=coupled if memory == "hidden" else kg.Gate(),
        candidate=kg.Candidate(recurrent_kernel=Halves()),
    )
    layer = kg.GatedRNN(units, spec, return_sequences=True, dtype=FINEST)
    layer.build((None, None, 2))
    x, upstream = rng.normal(size=(3, 5, 2)), rng.normal(size=(3, 5, units))
    engine = gradients(layer, x.astype(FINEST), upstream.astype(FINEST))[0]
    with run_by(lambda _: None):
        automatic = gradients(layer, x.astype(FINEST), upstream.astype(FINEST))[0]
    compare(engine, automatic, memory)
    assert kg.count_parameters(spec, 2, units) == layer.count_params()
    assert kg.CellSpec.from_config(spec.to_config()) == spec
    normed = kg.GatedRNN(units, spec, layer_norm=True)
    assert np.isfinite(keras.ops.convert_to_numpy(normed(x.astype("float32")))).all()
    if BACKEND == "tensorflow":
        model = functional(kg.GatedRNN(units, spec, name="own"))
        report = kg.export_onnx(randomized(model), tmp_path / "model.onnx")
        assert report.layers[0].operator == ("GRU" if memory == "hidden" else "LSTM")
