"""A recurrent cell of your own: written in a dozen lines, trained under XLA, exported, checked.

The multiplicative LSTM (Krause et al. 2016, arXiv:1609.07959) is outside the package's formula: its
gates read a product of two projections, one of the input and one of the last output. So it is
written as a plain Keras layer, which `keras.layers.RNN` runs. `keras_gated.check_cell` then checks
that it does what Keras, XLA, mixed precision, files and ONNX need from a cell.

A cell inside the formula needs no class: a `keras_gated.CellSpec` describes it, and it becomes a
native ONNX node.

A model with one layer of each learns to multiply an input by the one two steps before. Writes
model.onnx to --out.

    pip install ".[tensorflow,onnx]"
    python examples/your_own_cell.py             # under a minute on two cores
    python examples/your_own_cell.py --smoke     # a few updates, the quick checks
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import extras  # noqa: F401 - names what to install if a package is missing
import keras
import numpy as np
from keras import ops

import keras_gated as kg

UNITS, TIME, EXAMPLES, BATCH, EPOCHS = 16, 20, 2048, 64, 5
QUICK = "config", "states", "masks", "trainable", "precision"


@keras.saving.register_keras_serializable("examples")
class MultiplicativeLSTMCell(keras.Layer):
    r"""The multiplicative LSTM: an LSTM that reads m_t in place of h_{t-1}.

    $$
    \begin{aligned}
    m_t &= (W_m x_t) \odot (U_m h_{t-1}) \\
    i, f, g, o &= W x_t + U m_t + b \\
    c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
    h_t &= \sigma(o) \odot \tanh(c_t)
    \end{aligned}
    $$
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.state_size = [units, units]  # h, c

    def build(self, input_shape):
        features, units = input_shape[-1], self.units
        self.kernel_m = self.add_weight((features, units), name="kernel_m")
        self.recurrent_kernel_m = self.add_weight((units, units), name="recurrent_kernel_m")
        self.kernel = self.add_weight((features, 4 * units), name="kernel")
        self.recurrent_kernel = self.add_weight((units, 4 * units), name="recurrent_kernel")
        self.bias = self.add_weight((4 * units,), "zeros", name="bias")

    def call(self, inputs, states):
        h, c = states  # (B, U) each
        m = (inputs @ self.kernel_m) * (h @ self.recurrent_kernel_m)
        gates = inputs @ self.kernel + m @ self.recurrent_kernel + self.bias
        i, f, g, o = ops.split(gates, 4, axis=-1)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        h = ops.sigmoid(o) * ops.tanh(c)
        return h, [h, c]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


# Inside the formula: coupled gates, and no output gate.
INSIDE = kg.CellSpec(input_gate=kg.Tied("forget", complement=True), output_gate=False)


def products(seed):
    """Returns sequences (N, T, 1), and at each step the product with the input two steps before."""
    x = np.random.default_rng(seed).uniform(-1, 1, (EXAMPLES, TIME, 1)).astype("float32")
    before = np.concatenate([np.zeros_like(x[:, :2]), x[:, :-2]], axis=1)
    return x, x * before


def build(cell):
    """Returns a model of a layer over the cell, a gated layer and a dense layer, for XLA."""
    model = keras.Sequential(
        [
            keras.Input((None, 1)),
            keras.layers.RNN(cell, return_sequences=True, name="own"),
            kg.GatedRNN(cell.units, INSIDE, return_sequences=True, name="inside"),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(1e-2), "mse", jit_compile=True)
    model.optimizer.build(model.trainable_variables)  # else the training step is traced twice
    return model


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(), help="folder for what is written")
    parser.add_argument("--smoke", action="store_true", help="a few updates, the quick checks")
    parser.add_argument("--seed", type=int, default=0, help="of weights and data")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(options.seed)
    epochs, checks = (1, QUICK) if options.smoke else (EPOCHS, None)

    cell = MultiplicativeLSTMCell(UNITS)
    model, (x, y) = build(cell), products(options.seed)
    losses = model.fit(x, y, BATCH, epochs=epochs, verbose=0).history["loss"]
    print(f"mean squared error: {losses[0]:.4f} in the first epoch, {losses[-1]:.4f} in the last")
    print(kg.export_onnx(model, options.out / "model.onnx"))  # compared in onnxruntime with Keras

    report = kg.check_cell(cell, checks=checks, seed=options.seed)
    print(report)
    return report


if __name__ == "__main__":
    raise SystemExit(not main().passed)
