"""Each kind of kernel: its product, its gradients and its matrix say the same."""

import numpy as np
import pytest

from keras_gated.spec.kernels import DENSE, NAMED

rng = np.random.default_rng(0)
N, U, BLOCKS = 7, 4, 3


def drawn(kernel, blocks=BLOCKS):
    """Inputs, and a weight of some blocks."""
    shape = None if kernel.weight_name("kernel") is None else kernel.shape(U, U, blocks)
    return rng.normal(size=(N, U)), None if shape is None else rng.normal(size=shape)


@pytest.mark.parametrize("name", NAMED)
def test_the_product_is_that_with_the_matrix(name):
    kernel = NAMED[name]
    x, w = drawn(kernel, blocks=1)
    np.testing.assert_allclose(kernel.product(np, x, w), x @ kernel.to_matrix(np, w, U))


def test_the_gradients_of_a_dense_product():
    """For a linear function f, the sum of d f(x) is the sum of x times its gradient."""
    x, w = drawn(DENSE)
    y = DENSE.product(np, x, w)
    d = rng.normal(size=y.shape)
    value = np.sum(d * y)
    assert np.sum(x * DENSE.product_back(np, d, DENSE.transposed(np, w))) == pytest.approx(value)
    assert np.sum(w * DENSE.weight_gradient(np, x, d)) == pytest.approx(value)


def test_names_and_sizes():
    assert [k.weight_name("recurrent_kernel") for k in NAMED.values()] == [
        "recurrent_kernel",
        "recurrent_diagonal_kernel",
        None,
    ]
    assert DENSE.flops((5, 8)) == 80 and NAMED["diagonal"].flops((8,)) == 0
