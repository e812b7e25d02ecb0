"""What backends do to a layer beside one gradient: recomputing, other derivatives, float64."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_gated as kg
from tests.helpers import BACKEND, B, F, T, U, assert_close, case, raises

X = np.random.default_rng(0).normal(size=(B, T, F)).astype("float32")
torch_only = pytest.mark.skipif(BACKEND != "torch", reason="of torch")
jax_only = pytest.mark.skipif(BACKEND != "jax", reason="of JAX")


@torch_only
@pytest.mark.parametrize("reentrant", [False, True])
def test_torch_checkpoint(reentrant):
    import torch
    from torch.utils.checkpoint import checkpoint

    layer = case("lstm").layer()
    gradients = []
    for run in (layer, lambda x: checkpoint(layer, x, use_reentrant=reentrant)):
        x = torch.tensor(X, requires_grad=True)
        layer.zero_grad()
        (run(x) ** 2).sum().backward()
        gradients.append([x.grad, *(v.value.grad for v in layer.trainable_variables)])
    for a, b in zip(*gradients, strict=True):
        assert_close(b, a, "reload", "recomputed")


@torch_only  # Keras 3.15 refuses any recurrent layer under TensorFlow and JAX, its own too
def test_remat_scope():
    """As Keras recomputes its own layers."""
    found = []
    for mode in (None, "list_of_layers"):
        keras.utils.set_random_seed(1)
        with keras.RematScope(mode=mode, layer_names=["ours"]):
            model = keras.Sequential([keras.Input((T, F)), kg.GatedLSTM(U, name="ours")])
        model.compile("sgd", "mse")
        model.fit(X, np.ones((B, U), "float32"), verbose=0)
        found.append(model.get_weights())
    for a, b in zip(*found, strict=True):
        assert_close(b, a, "keras float32", "weights after a step")


@torch_only
@pytest.mark.parametrize("transform", ["grad", "vmap", "jacrev"])
def test_torch_func_is_refused(transform):
    import torch

    f = {"vmap": lambda x: layer(x[None])[0]}.get(transform, lambda x: layer(x).sum())

    def run():
        layer(X)
        return getattr(torch.func, transform)(f)(torch.tensor(X))

    layer = case("lstm_peephole").layer()
    raises(run, "torch.func...Received: ...unroll=True", RuntimeError)
    layer = case("gru").layer()  # an operator of torch, which has no rule for vmap
    if transform == "vmap":
        raises(run, "torch.func...Received: ...unroll=True", RuntimeError)
    else:
        assert run().shape == X.shape
    layer = case("gru").layer(unroll=True)
    assert run().shape[0] == B


@jax_only
@pytest.mark.parametrize("transform", ["jvp", "jacfwd"])
def test_forward_mode_is_refused(transform):
    import jax

    def value(layer):
        layer(X)
        f = lambda x: ops.sum(layer(x))  # noqa: E731
        if transform == "jvp":
            return jax.jvp(f, (X,), (np.ones_like(X),))[1]
        return jax.jacfwd(lambda s: f(s * X))(1.0)

    raises(lambda: value(case("gru").layer()), "forward mode...Received: ...unroll=True", TypeError)
    assert np.isfinite(value(case("gru").layer(unroll=True)))


@torch_only
def test_float64_on_torch_is_that_of_keras():
    """`keras.ops.matmul` computes in float32 there, for every layer; the rest is float64."""
    this = case("lstm", "float64")
    error = np.abs(
        ops.convert_to_numpy(this.layer()(this.x, initial_state=this.state)) - this.expected[0]
    ).max()
    assert error < 1e-5
