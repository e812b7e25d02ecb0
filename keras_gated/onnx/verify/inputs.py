"""Inputs for an ONNX file that a user gives, and the ports of a file.

A feed is {input name: array}, the form in which onnxruntime takes inputs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_gated.onnx.errors import require
from keras_gated.onnx.tracing.model_io import Port
from keras_gated.onnx.verify.values import Feed


def input_ports(graph: Any) -> tuple[Port, ...]:
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


def feeds_from_samples(
    samples: Any, ports: Sequence[Port], argument: str = "samples"
) -> list[Feed]:
    """Returns a user's samples as feeds.

    Args:
        samples: inputs as the model takes them (an array, list or dictionary), or a list of such.
        ports: the inputs.
        argument: name of the argument by which the user gave them.

    Raises:
        ValueError: if the samples do not fit the inputs.
    """
    feed = _as_feed(samples, ports)
    if feed is not None:
        return [feed]
    several = [_as_feed(s, ports) for s in samples] if isinstance(samples, list | tuple) else []
    feeds = [feed for feed in several if feed is not None]
    if not feeds or len(feeds) < len(several):
        expected = ", ".join(f"{p.name} {p.dtype} {p.shape}" for p in ports).replace("None", "any")
        received = [getattr(leaf, "shape", leaf) for leaf in tree.flatten(samples)]
        raise ValueError(
            f"Argument `{argument}` must be inputs as the model takes them, arrays that are not "
            f"empty, or a list of such: {expected}. Received: {type(samples).__name__} with "
            f"arrays of shapes {received[:6]}."
        )
    return feeds


def describe_shapes(feed: Feed) -> str:
    """Returns names and shapes of a feed as text, e.g. "x (2, 9, 3)"."""
    return ", ".join(f"{name} {array.shape}" for name, array in feed.items())


def _as_feed(sample: Any, ports: Sequence[Port]) -> Feed | None:
    """Returns one sample as a feed; None if it does not fit the inputs."""
    by_name = isinstance(sample, Mapping) and set(sample) == {port.name for port in ports}
    leaves = [sample[port.name] for port in ports] if by_name else tree.flatten(sample)
    if len(leaves) != len(ports) or not all(hasattr(leaf, "shape") for leaf in leaves):
        return None
    arrays = [np.asarray(keras.ops.convert_to_numpy(leaf)) for leaf in leaves]
    if not all(_fits(array, port) for array, port in zip(arrays, ports, strict=True)):
        return None
    return {p.name: array.astype(p.dtype) for p, array in zip(ports, arrays, strict=True)}


def _fits(array: np.ndarray, port: Port) -> bool:
    """Whether an array may go into an input. An empty one may not: it might end the process."""
    same_shape = len(array.shape) == len(port.shape) and all(
        wanted in (None, size) for size, wanted in zip(array.shape, port.shape, strict=True)
    )
    return same_shape and array.size > 0 and np.can_cast(array.dtype, port.dtype, "same_kind")
