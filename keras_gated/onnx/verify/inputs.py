"""Inputs for an ONNX file, from what a user calls the model with, or random ones."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_gated.onnx.errors import require
from keras_gated.onnx.tracing.model_io import Interface, Port, random_inputs

Feed = dict[str, np.ndarray]

# (batch, time): never an empty one, which would end the process of an unguarded file.
SHAPES = ((2, 9), (3, 1), (1, 14))
LONGER = (32, 128, 512)  # time steps, for models that take no short sequence


def at_shapes(run: Callable[[int, int], bool]) -> None:
    """Calls `run` at several shapes.

    Args:
        run: takes a batch and a time length; returns whether the model takes them. If it takes
            none of several time steps, longer ones are tried until it does.
    """
    taken = [run(batch, time) for batch, time in SHAPES]
    if any(took and time > 1 for took, (_, time) in zip(taken, SHAPES, strict=True)):
        return
    if longer := next((time for time in LONGER if run(2, time)), None):
        run(1, longer + 5)


def ports_of(graph: Any) -> tuple[Port, ...]:
    """Returns the inputs of an onnx.GraphProto."""
    (onnx,) = require("onnx")
    constants = {tensor.name for tensor in graph.initializer}
    ports = []
    for port in graph.input:
        if port.name not in constants:
            kind = port.type.tensor_type
            shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
            ports.append(Port(port.name, shape, dtype.name))
    return tuple(ports)


def random_feeds(
    model: keras.Model | None, ports: tuple[Port, ...], seed: int
) -> Callable[[int, int], Feed]:
    """Returns what makes random inputs at a batch and a time length.

    They are within the model's vocabulary if it is known.
    """
    rng = np.random.default_rng(seed)
    known = keras.Sequential() if model is None else model
    interface, names = Interface(ports, None), [port.name for port in ports]

    def feed(batch: int, time: int) -> Feed:
        return dict(zip(names, random_inputs(known, interface, batch, time, rng), strict=True))

    return feed


def sampled_feeds(samples: Any, ports: Sequence[Port]) -> list[Feed]:
    """Returns samples by input name.

    Args:
        samples: inputs as the model takes them (an array, list or dictionary), or a list of such.
        ports: the inputs.

    Raises:
        ValueError: if they do not fit the inputs.
    """
    one = _feed(samples, ports)
    if one is not None:
        return [one]
    several = [_feed(s, ports) for s in samples] if isinstance(samples, list | tuple) else []
    feeds = [feed for feed in several if feed is not None]
    if not feeds or len(feeds) < len(several):
        wanted = ", ".join(f"{p.name} {p.dtype} {p.shape}" for p in ports).replace("None", "any")
        received = [getattr(leaf, "shape", leaf) for leaf in tree.flatten(samples)]
        raise ValueError(
            "Argument `samples` must be inputs as the model takes them, arrays that are not empty, "
            f"or a list of such: {wanted}. Received: {type(samples).__name__} with arrays of "
            f"shapes {received[:6]}."
        )
    return feeds


def describe_shapes(feed: Feed) -> str:
    """Returns the shapes of inputs in words."""
    return ", ".join(f"{name} {array.shape}" for name, array in feed.items())


def _feed(sample: Any, ports: Sequence[Port]) -> Feed | None:
    """One sample by input name; None if it does not fit."""
    by_name = isinstance(sample, Mapping) and set(sample) == {port.name for port in ports}
    leaves = [sample[port.name] for port in ports] if by_name else tree.flatten(sample)
    if len(leaves) != len(ports) or not all(hasattr(leaf, "shape") for leaf in leaves):
        return None
    arrays = [np.asarray(keras.ops.convert_to_numpy(leaf)) for leaf in leaves]
    if not all(_fits(array, port) for array, port in zip(arrays, ports, strict=True)):
        return None
    return {p.name: array.astype(p.dtype) for p, array in zip(ports, arrays, strict=True)}


def _fits(array: np.ndarray, port: Port) -> bool:
    """Whether an array may go into an input; an empty one might end the process."""
    sizes = len(array.shape) == len(port.shape) and all(
        theirs in (None, size) for size, theirs in zip(array.shape, port.shape, strict=True)
    )
    return sizes and array.size > 0 and np.can_cast(array.dtype, port.dtype, "same_kind")
