"""What is measured: Keras's layers and ours, those of others, and the bare products."""

from collections.abc import Collection

import keras
import numpy as np

import keras_gated as kg
from benchmarks.others import others
from benchmarks.sizes import GENERIC, Size
from keras_gated.speed.adapters import Contender, make_contender

AT_ONCE, ON_CUDNN = ", at once", ", cuDNN"  # what a name in `ablations` can end with


def layers(size: Size, ablations: tuple[str, ...]) -> dict[str, keras.layers.Layer]:
    """Returns Keras's layers and ours, by name.

    Args:
        size: units are used.
        ablations: names of presets, "NAME, at once" for all time steps in parallel; and
            "keras LSTM, cuDNN" or "keras GRU, cuDNN" for Keras's layer as it comes, which leaves
            its own loop on a GPU.
    """
    # The numbers do not matter, and orthogonal ones take long to draw.
    units, every = size.units, {"return_sequences": True, "recurrent_initializer": "glorot_uniform"}
    found = {
        "keras LSTM": keras.layers.LSTM(units, use_cudnn=False, **every),
        # As it comes it goes over to cuDNN on TensorFlow, and on JAX to a better loop.
        "keras GRU": keras.layers.GRU(units, use_cudnn=_jax() and "auto", **every),
        "GatedLSTM": kg.GatedLSTM(units, **every),
        "GatedGRU": kg.GatedGRU(units, **every),
        GENERIC: keras.layers.RNN(kg.GatedCell(units, "lstm"), return_sequences=True),
    }
    return found | {name: _ablation(name, units, every) for name in ablations}


def _jax() -> bool:
    return keras.backend.backend() == "jax"


def _ablation(name: str, units: int, every: dict) -> keras.layers.Layer:
    if name.endswith(ON_CUDNN):
        kind = name.removesuffix(ON_CUDNN).removeprefix("keras ")
        return getattr(keras.layers, kind)(units, **every)
    preset = name.removesuffix(AT_ONCE)
    return kg.GatedRNN(units, preset, time_parallel=name != preset, **every)


def contenders(
    size: Size, seed: int, ablations: tuple[str, ...] = (), only: Collection[str] | None = None
) -> dict[str, Contender]:
    """Returns what can be measured here, by name.

    Args:
        size: of the data and the layers.
        seed: of the data.
        ablations: see `layers`.
        only: names of those to make; by default all, but what is made only when it is named.
    """
    rng, sequences = np.random.default_rng(seed), (size.batch, size.time)
    x = rng.standard_normal((*sequences, size.inputs), dtype="float32")
    weights = rng.standard_normal((*sequences, size.units), dtype="float32")
    given, found = [keras.ops.convert_to_tensor(v) for v in (x, weights)], {}
    for name, layer in layers(size, ablations).items():
        if only is None or name in only:
            layer.build(x.shape)
            found[name] = make_contender(layer, *given)
    return found | others(size, x, weights, only)
