"""Makes the contenders: layers of Keras, of keras_gated and of other libraries, ready to run."""

from collections.abc import Collection

import keras
import numpy as np

import keras_gated as kg
from benchmarks.others import make_others
from benchmarks.sizes import GENERIC, Size
from keras_gated.speed.adapters import Contender, make_contender

# Ends of names: all time steps in parallel; Keras's layer with its own choice of cuDNN.
AT_ONCE, ON_CUDNN = ", at once", ", cuDNN"


def make_layers(size: Size, ablations: tuple[str, ...]) -> dict[str, keras.layers.Layer]:
    """Returns layers of Keras and of keras_gated, by name.

    Args:
        size: gives the units.
        ablations: more names: of presets, "NAME, at once" for a preset with all time steps in
            parallel, and "keras LSTM, cuDNN" or "keras GRU, cuDNN" for Keras's layer with its
            default arguments, which uses cuDNN on a GPU.
    """
    # The values do not matter, and orthogonal ones take long to draw.
    units, common = (
        size.units,
        {"return_sequences": True, "recurrent_initializer": "glorot_uniform"},
    )
    found = {
        "keras LSTM": keras.layers.LSTM(units, use_cudnn=False, **common),
        # By default it uses cuDNN on TensorFlow; on JAX it then has a faster loop.
        "keras GRU": keras.layers.GRU(units, use_cudnn=_jax() and "auto", **common),
        "GatedLSTM": kg.GatedLSTM(units, **common),
        "GatedGRU": kg.GatedGRU(units, **common),
        GENERIC: keras.layers.RNN(kg.GatedCell(units, "lstm"), return_sequences=True),
    }
    return found | {name: _ablation(name, units, common) for name in ablations}


def _jax() -> bool:
    return keras.backend.backend() == "jax"


def _ablation(name: str, units: int, common: dict) -> keras.layers.Layer:
    if name.endswith(ON_CUDNN):
        kind = name.removesuffix(ON_CUDNN).removeprefix("keras ")
        return getattr(keras.layers, kind)(units, **common)
    preset = name.removesuffix(AT_ONCE)
    return kg.GatedRNN(units, preset, time_parallel=name != preset, **common)


def make_contenders(
    size: Size, seed: int, ablations: tuple[str, ...] = (), only: Collection[str] | None = None
) -> dict[str, Contender]:
    """Returns the contenders that can run here, by name.

    Args:
        size: size of the data and the layers.
        seed: seed of the data.
        ablations: see `make_layers`.
        only: names of the contenders to make. By default all, without those of
            `others.WHEN_NAMED`.
    """
    rng, sequences = np.random.default_rng(seed), (size.batch, size.time)
    x = rng.standard_normal((*sequences, size.inputs), dtype="float32")
    weights = rng.standard_normal((*sequences, size.units), dtype="float32")
    tensors, found = [keras.ops.convert_to_tensor(v) for v in (x, weights)], {}
    for name, layer in make_layers(size, ablations).items():
        if only is None or name in only:
            layer.build(x.shape)
            found[name] = make_contender(layer, *tensors)
    return found | make_others(size, x, weights, only)
