"""What several tests of the layers compare: ours beside Keras's, and settings of a cell."""

import keras
import numpy as np

import keras_gated as kg
from tests.helpers import QUICK, B, F, T, U

P = 2


def diagonal() -> kg.CellSpec:
    """A cell without a dense kernel or a memory of its own."""
    candidate = kg.Candidate(kernel="diagonal", recurrent_kernel="diagonal")
    return kg.CellSpec(
        memory="hidden", forget_gate=0.5, input_gate=0.5, output_gate=False, candidate=candidate
    )


PAIRS = {
    "lstm": (kg.GatedLSTM, keras.layers.LSTM, {}),
    "gru": (kg.GatedGRU, keras.layers.GRU, {}),
    "gru before": (kg.GatedGRU, keras.layers.GRU, {"reset_after": False}),
    "elman": (lambda n, **a: kg.GatedRNN(n, "elman", **a), keras.layers.SimpleRNN, {}),
}


def both(pair: str, dtype="float32", seed=7, **arguments):
    """Ours and Keras's layer, the latter's weights random and carried over by set_weights."""
    ours, stock, own = PAIRS[pair]
    arguments = {**own, **QUICK, **arguments, "dtype": dtype}
    mine, theirs = ours(U, **arguments), stock(U, **arguments)
    for layer in (mine, theirs):
        layer.build((B, T, F))
    rng = np.random.default_rng(seed)
    theirs.set_weights([0.6 * rng.standard_normal(w.shape) for w in theirs.get_weights()])
    mine.set_weights(theirs.get_weights())
    return mine, theirs


def data(pair: str, dtype="float32", initial_state=True):
    """Inputs and, where asked for, initial states."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((B, T, F)).astype(dtype)
    state = [rng.standard_normal((B, U)).astype(dtype) for _ in range(1 + (pair == "lstm"))]
    return x, {"initial_state": state} if initial_state else {}


def as_list(outputs) -> list:
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]
