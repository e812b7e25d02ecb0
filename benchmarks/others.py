"""Contenders that are not layers of Keras: torch's and flax's layers, and bare products."""

from collections.abc import Collection

import keras
import numpy as np

from benchmarks.sizes import IN_16_BITS, TORCH_LOOP, Size
from keras_gated.speed.adapters import BACKEND, Contender, compiled, torch_contender

TORCH = "torch LSTM", "torch GRU"


def make_others(size: Size, x, weights, only: Collection[str] | None) -> dict[str, Contender]:
    """Returns torch's and flax's own layers, and the bare products, as far as they can run here.

    Args:
        size: size of the layers.
        x, weights: the data, arrays (B, T, F) and (B, T, U).
        only: names of the contenders to make; by default all except `WHEN_NAMED`.
    """
    found = {}
    for add, names in OTHERS.items():
        wanted = set(names) - WHEN_NAMED if only is None else set(names) & set(only)
        try:
            if wanted:
                found |= add(size, x, weights, wanted)
        except ImportError:
            continue
    return found


def _torch_layers(size: Size, x, weights, wanted) -> dict[str, Contender]:
    import torch

    class OutputsOnly(torch.nn.Module):
        def __init__(self, kind):
            super().__init__()
            self.layer = kind(size.inputs, size.units, batch_first=True)

        def forward(self, x):
            return self.layer(x)[0]

    makers = {
        "torch LSTM": lambda: OutputsOnly(torch.nn.LSTM),
        "torch GRU": lambda: OutputsOnly(torch.nn.GRU),
        "torch LSTM" + IN_16_BITS: lambda: OutputsOnly(torch.nn.LSTM).bfloat16(),
        "torch GRU" + IN_16_BITS: lambda: OutputsOnly(torch.nn.GRU).bfloat16(),
    }
    return {name: torch_contender(makers[name](), x, weights) for name in makers if name in wanted}


def _torch_loop(size: Size, x, weights, wanted) -> dict[str, Contender]:
    """An LSTM written as a loop in torch, with the product of the input before the loop."""
    import torch

    class Loop(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.kernel = torch.nn.Linear(size.inputs, 4 * size.units)
            self.recurrent_kernel = torch.nn.Linear(size.units, 4 * size.units, bias=False)

        def forward(self, x):
            h = c = x.new_zeros((size.batch, size.units))
            outputs = []
            for z in self.kernel(x).unbind(1):
                i, f, g, o = (z + self.recurrent_kernel(h)).chunk(4, dim=-1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(c)
                outputs.append(h)
            return torch.stack(outputs, dim=1)

    (name,) = wanted
    return {name: torch_contender(torch.compile(Loop()), x, weights)}


def _flax_layers(size: Size, x, weights, wanted) -> dict[str, Contender]:
    import jax
    from flax import linen

    model = linen.RNN(linen.OptimizedLSTMCell(size.units))
    x, weights = jax.numpy.asarray(x), jax.numpy.asarray(weights)
    trained = model.init(jax.random.key(0), x)
    train = jax.jit(jax.grad(lambda trained, x, weights: (model.apply(trained, x) * weights).sum()))
    infer = jax.jit(model.apply)
    wait = jax.block_until_ready
    return {
        "flax LSTM": Contender(
            lambda: wait(train(trained, x, weights)), lambda: wait(infer(trained, x))
        )
    }


def _bare_products(size: Size, x, weights, wanted) -> dict[str, Contender]:
    """The matrix products of an LSTM without anything else, under XLA.

    Only the largest element of each product is used, so that XLA cannot leave the product out.
    """
    if BACKEND == "torch":
        return {}
    ops, dtype = keras.ops, keras.config.dtype_policy().compute_dtype
    rng = np.random.default_rng(0)
    kernels = [rng.normal(size=(n, 4 * size.units), scale=0.01) for n in (size.inputs, size.units)]
    rows = [v.reshape(size.batch * size.time, -1) for v in (x, weights)]
    tensors = [ops.convert_to_tensor(v, dtype) for v in (*rows, *kernels, weights[:, 0])]

    def loop(step, h):
        return ops.fori_loop(0, size.time, lambda _, h: step(h), h)

    def largest(h, recurrent):
        return ops.max(ops.reshape(ops.matmul(h, recurrent), (-1, 4, size.units)), axis=1)

    def projected(inputs, kernel):
        return [ops.matmul(inputs, part) for part in ops.split(kernel, 4, axis=1)]

    def forward(inputs, outputs, kernel, recurrent, h):
        maxima = [ops.max(z) for z in projected(inputs, kernel)]
        return [*maxima, loop(lambda h: largest(h, recurrent), h)]

    def backward(inputs, outputs, kernel, recurrent, h):
        transposed = ops.transpose(recurrent)
        back = loop(lambda h: ops.matmul(ops.tile(h, (1, 4)), transposed), h)
        products = [
            ops.matmul(ops.transpose(v), z)
            for z in projected(inputs, kernel)
            for v in (inputs, outputs)
        ]
        return [*forward(inputs, outputs, kernel, recurrent, h), back, *products]

    return {"bare products": Contender(compiled(backward, *tensors), compiled(forward, *tensors))}


OTHERS = {
    _torch_layers: (*TORCH, *(name + IN_16_BITS for name in TORCH)),
    _torch_loop: (TORCH_LOOP,),
    _flax_layers: ("flax LSTM",),
    _bare_products: ("bare products",),
}
WHEN_NAMED = {*OTHERS[_torch_layers][2:], *OTHERS[_torch_loop]}
