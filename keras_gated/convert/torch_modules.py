"""`from_torch`: recurrent modules of torch as gated layers, with the weights copied block by block.

torch stacks the blocks of a weight as rows in an order of its own; `BLOCKS` is that order.
"""

import sys
from typing import Any

import keras
import numpy as np

from keras_gated.layers import GatedGRU, GatedLSTM, GatedRNN

# Blocks in the order in which torch stacks them. torch calls the forget gate of a GRU update gate.
BLOCKS = {
    "RNN": ("candidate",),
    "LSTM": ("input", "forget", "candidate", "output"),
    "GRU": ("reset", "forget", "candidate"),
}


def from_torch(module: Any) -> Any:
    """Returns gated layers with the weights of a recurrent module of torch.

    The result takes (B, T, F) and returns the sequence (B, T, U), the first result of the module,
    whatever the module's `batch_first` is. torch has two biases in every block; if Keras has one,
    it is their sum.

    Args:
        module: a `torch.nn.RNN`, `LSTM` or `GRU` with any number of layers, in one direction or
            both, with or without biases. It is not changed.

    Returns:
        For a module of one layer a built `GatedRNN`, `GatedLSTM` or `GatedGRU`, or a
        `keras.layers.Bidirectional` around it. For several layers a `keras.Sequential` of these,
        with a `keras.layers.Dropout` between them if the module has dropout. The dtype is that of
        the module.

    Raises:
        TypeError: if `module` is another object, or a subclass of these modules.

    Example:
        >>> import torch
        >>> module = torch.nn.LSTM(8, 4, batch_first=True)
        >>> layer = kg.from_torch(module)
        >>> type(layer).__name__
        'GatedLSTM'
        >>> x = np.ones((2, 5, 8), "float32")
        >>> expected = module(torch.from_numpy(x))[0].detach().numpy()
        >>> np.allclose(keras.ops.convert_to_numpy(layer(x)), expected, atol=1e-5)
        True
    """
    name = _class_name(module)
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


def _class_name(module: Any) -> str:
    """Returns "RNN", "LSTM" or "GRU"."""
    torch: Any = sys.modules.get("torch")  # whoever has a module of torch has imported torch
    for name in BLOCKS if torch else ():
        if type(module) is getattr(torch.nn, name):
            return name
    raise TypeError(
        "Argument `module` must be a torch.nn.RNN, torch.nn.LSTM or torch.nn.GRU, and not a "
        "subclass, which may compute something else. "
        f"Received: {type(module).__name__}. Pass the recurrent module inside your module."
    )


def _dtype(module: Any) -> str:
    return str(module.weight_ih_l0.dtype).removeprefix("torch.")


def _level(module: Any, name: str, level: int) -> Any:
    """The gated layer for one level of the module, in one direction or both, with its weights."""
    layer: Any = _unbuilt_layer(module, name)
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


def _unbuilt_layer(module: Any, name: str) -> GatedRNN:
    """A gated layer with the settings of the module. torch's `proj_size` is projection_units."""
    common = {"use_bias": module.bias, "return_sequences": True, "dtype": _dtype(module)}
    if name == "LSTM":
        return GatedLSTM(module.hidden_size, projection_units=module.proj_size or None, **common)
    if name == "GRU":
        return GatedGRU(module.hidden_size, reset_after=True, **common)
    return GatedRNN(module.hidden_size, "elman", activation=module.nonlinearity, **common)


def _blocks(module: Any, name: str, suffix: str) -> dict[str, dict[str, np.ndarray]]:
    """The weights of one level and direction, in the form that `set_block_weights` takes."""

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
