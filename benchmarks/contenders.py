"""Makes the contenders: layers of Keras, of keras_gated and of other libraries, ready to run."""

from collections.abc import Collection

import keras
import numpy as np

import keras_gated as kg
from benchmarks.others import make_others
from benchmarks.sizes import GENERIC, LAST, Size
from keras_gated.speed.adapters import Contender, make_contender

# Ends of names: all time steps in parallel; on cuDNN, Keras's layer if it so chooses, ours by
# use_cudnn=True.
AT_ONCE, ON_CUDNN = ", at once", ", cuDNN"


def make_layers(
    size: Size, ablations: tuple[str, ...] = (), last_too: bool = False
) -> dict[str, keras.layers.Layer]:
    """Returns layers of Keras and of keras_gated, by name.

    Args:
        size: gives the units.
        ablations: more names: of presets, "NAME, at once" for a preset with all time steps in
            parallel, "keras LSTM, cuDNN" or "keras GRU, cuDNN" for Keras's layer with its default
            arguments, which uses cuDNN on a GPU, and "GatedLSTM, cuDNN" for ours, which must.
        last_too: whether to make the four that are compared once more, without return_sequences.
    """
    # The values do not matter, and orthogonal ones take long to draw.
    units, common = (
        size.units,
        {"return_sequences": True, "recurrent_initializer": "glorot_uniform"},
    )
    found = make_compared(units, common)
    if last_too:
        last = make_compared(units, common | {"return_sequences": False})
        return found | {name + LAST: layer for name, layer in last.items()}
    found[GENERIC] = keras.layers.RNN(kg.GatedCell(units, "lstm"), return_sequences=True)
    return found | {name: _ablation(name, units, common) for name in ablations}


def make_compared(units: int, common: dict) -> dict[str, keras.layers.Layer]:
    """Returns Keras's LSTM and GRU and ours, by name."""
    return {
        "keras LSTM": keras.layers.LSTM(units, use_cudnn=False, **common),
        # By default it uses cuDNN on TensorFlow; on JAX it then has a faster loop.
        "keras GRU": keras.layers.GRU(units, use_cudnn=_jax() and "auto", **common),
        "GatedLSTM": kg.GatedLSTM(units, **common),
        "GatedGRU": kg.GatedGRU(units, **common),
    }


def make_stacks(size: Size, layers: int, seed: int) -> dict[str, Contender]:
    """Returns models of equal layers, of those that are compared, by name."""
    x, weights = _data(size, seed)
    made = [make_compared(size.units, {"return_sequences": True}) for _ in range(layers)]
    stacks = {name: keras.Sequential([layer[name] for layer in made]) for name in made[0]}
    for stack in stacks.values():
        stack.build(x.shape)
    return {name: make_contender(stack, x, weights) for name, stack in stacks.items()}


def _data(size: Size, seed: int) -> list:
    """A batch of sequences, and the weights of the outputs in the loss."""
    rng, sequences = np.random.default_rng(seed), (size.batch, size.time)
    shapes = (*sequences, size.inputs), (*sequences, size.units)
    return [rng.standard_normal(shape, dtype="float32") for shape in shapes]


def _jax() -> bool:
    return keras.backend.backend() == "jax"


def _ablation(name: str, units: int, common: dict) -> keras.layers.Layer:
    if name.endswith(ON_CUDNN):
        kind = name.removesuffix(ON_CUDNN)
        if hasattr(kg, kind):
            return getattr(kg, kind)(units, use_cudnn=True, **common)
        return getattr(keras.layers, kind.removeprefix("keras "))(units, **common)
    preset = name.removesuffix(AT_ONCE)
    return kg.GatedRNN(units, preset, time_parallel=name != preset, **common)


def make_contenders(
    size: Size,
    seed: int,
    ablations: tuple[str, ...] = (),
    only: Collection[str] | None = None,
    last_too: bool = False,
) -> dict[str, Contender]:
    """Returns the contenders that can run here, by name.

    Args:
        size: size of the data and the layers.
        seed: seed of the data.
        ablations: see `make_layers`.
        only: names of the contenders to make. By default all, without those of
            `others.WHEN_NAMED`.
        last_too: as in `make_layers`; then no others are made.
    """
    x, weights = _data(size, seed)
    tensors, found = [keras.ops.convert_to_tensor(v) for v in (x, weights)], {}
    for name, layer in make_layers(size, ablations, last_too).items():
        if only is None or name in only:
            layer.build(x.shape)
            upstream = tensors[1][:, -1] if name.endswith(LAST) else tensors[1]
            found[name] = make_contender(layer, tensors[0], upstream)
    return found if last_too else found | make_others(size, x, weights, only)
