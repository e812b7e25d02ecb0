"""Recurrent modules of torch as gated layers: the same weights, block for block."""

import sys
from typing import Any

import keras
import numpy as np

from keras_gated.layers import GatedGRU, GatedLSTM, GatedRNN

# The blocks in the order in which torch stacks their rows.
BLOCKS = {
    "RNN": ("candidate",),
    "LSTM": ("input", "forget", "candidate", "output"),
    "GRU": ("reset", "forget", "candidate"),
}


def from_torch(module: Any) -> Any:
    """Returns gated layers with the weights of a recurrent module of torch.

    Keras's layers are batch first whatever the module's `batch_first` is: (B, T, F) -> (B, T, U).
    They give the sequence, torch's first result. Torch's update gate keeps, as Keras's does; where
    Keras has one bias it is the sum of torch's two.

    Args:
        module: a `torch.nn.RNN`, `LSTM` or `GRU` with any number of layers, in one direction or
            both, with biases or without. Nothing is changed in it.

    Returns:
        For one layer a built `GatedRNN`, `GatedLSTM` or `GatedGRU`, or a
        `keras.layers.Bidirectional` around it; for more a `keras.Sequential` of these, with
        `keras.layers.Dropout` between them where the module has dropout. The dtype is the module's.

    Raises:
        TypeError: if it is no such module, or a subclass of one.

    Example:
        >>> layer = kg.from_torch(torch.nn.LSTM(88, 36, batch_first=True))   # a GatedLSTM
    """
    name = _name(module)
    levels = [_level(module, name, k) for k in range(module.num_layers)]
    if len(levels) == 1:
        return levels[0]
    dtype = _dtype(module)
    layers = [keras.Input((None, module.input_size), dtype=dtype), levels[0]]
    for level in levels[1:]:
        if module.dropout:
            layers.append(keras.layers.Dropout(module.dropout, dtype=dtype))
        layers.append(level)
    return keras.Sequential(layers)


def _name(module: Any) -> str:
    """What a module is: "RNN", "LSTM" or "GRU"."""
    torch: Any = sys.modules.get("torch")  # loaded, if there is a module of it
    for name in BLOCKS if torch else ():
        if type(module) is getattr(torch.nn, name):
            return name
    raise TypeError(
        "Argument `module` must be a torch.nn.RNN, torch.nn.LSTM or torch.nn.GRU, and no subclass, "
        f"which may compute something else. Received: {type(module).__name__}. Give the module "
        "inside yours that is one."
    )


def _dtype(module: Any) -> str:
    return str(module.weight_ih_l0.dtype).removeprefix("torch.")


def _level(module: Any, name: str, level: int) -> Any:
    """One layer of the module, in one direction or both, with its weights."""
    layer: Any = _layer(module, name)
    size = module.proj_size or module.hidden_size
    features = size * (1 + module.bidirectional) if level else module.input_size
    if module.bidirectional:
        layer = keras.layers.Bidirectional(layer, dtype=_dtype(module))
    layer.build((None, None, features))
    if not module.bidirectional:
        layer.set_block_weights(_blocks(module, name, f"l{level}"))
        return layer
    layer.forward_layer.set_block_weights(_blocks(module, name, f"l{level}"))
    layer.backward_layer.set_block_weights(_blocks(module, name, f"l{level}_reverse"))
    return layer


def _layer(module: Any, name: str) -> GatedRNN:
    """A layer set as the module is, without weights; torch's `proj_size` is projection_units."""
    common = {"use_bias": module.bias, "return_sequences": True, "dtype": _dtype(module)}
    if name == "LSTM":
        return GatedLSTM(module.hidden_size, projection_units=module.proj_size or None, **common)
    if name == "GRU":
        return GatedGRU(module.hidden_size, reset_after=True, **common)
    return GatedRNN(module.hidden_size, "elman", activation=module.nonlinearity, **common)


def _blocks(module: Any, name: str, suffix: str) -> dict[str, dict[str, np.ndarray]]:
    """The weights of one layer and direction, as `block_weights` nests them."""

    def rows(kind: str) -> dict[str, np.ndarray]:
        weight = getattr(module, f"{kind}_{suffix}").detach().cpu().double().numpy()
        parts = np.split(weight, len(BLOCKS[name]))
        return {block: part.T for block, part in zip(BLOCKS[name], parts, strict=True)}

    weights = {"kernel": rows("weight_ih"), "recurrent_kernel": rows("weight_hh")}
    if module.bias:
        bias, recurrent = rows("bias_ih"), rows("bias_hh")
        if name == "GRU":
            weights |= {"bias": bias, "recurrent_bias": recurrent}
        else:
            weights["bias"] = {block: bias[block] + recurrent[block] for block in bias}
    blocks = {
        block: {key: parts[block] for key, parts in weights.items()} for block in BLOCKS[name]
    }
    if module.proj_size:
        kernel = getattr(module, f"weight_hr_{suffix}").detach().cpu().double().numpy()
        blocks["output_projection"] = {"kernel": kernel.T}
    return blocks
