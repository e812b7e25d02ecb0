"""The inputs and outputs of a model as an ONNX file shows them: names, shapes, structure."""

from dataclasses import dataclass
from itertools import count
from typing import Any

import keras
from keras import tree

from keras_gated.onnx.errors import ExportError
from keras_gated.onnx.tracing.model_layers import Names, layers_within

UNNAMED = ("keras_tensor", "input_layer")  # as Keras names inputs that were given no name


@dataclass(frozen=True)
class Port:
    """An input: its name, its shape with None for every dimension left open, its dtype."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class Interface:
    """How a model is called with flat tensors.

    Attributes:
        ports: the inputs, flat, in order.
        structure: the nested structure in which the model takes them.
    """

    ports: tuple[Port, ...]
    structure: Any

    def pack(self, tensors) -> Any:
        """Returns flat tensors in the structure that the model takes."""
        return tree.pack_sequence_as(self.structure, list(tensors))

    def axes(self, port: Port) -> list[str | int]:
        """Returns a name for each open dimension of an input, the number for the others."""
        timed = [p.name for p in self.ports if len(p.shape) > 1 and p.shape[1] is None]
        time = "time" if timed[:1] == [port.name] else f"{port.name}_time"
        names = ["batch", time] + [f"{port.name}_axis_{k}" for k in range(2, len(port.shape))]
        return [n if size is None else size for n, size in zip(names, port.shape, strict=False)]


def interface_of(model: keras.Model, input_signature=None, dynamic: bool = True) -> Interface:
    """Returns the interface of a model.

    Args:
        model: a Keras model.
        input_signature: None for a model that knows its inputs; else its inputs as it takes them
            (one, a list or a dictionary), each with `.shape` and `.dtype`: keras.KerasTensor,
            keras.InputSpec or tf.TensorSpec. A list of one stands for the one.
        dynamic: bool. False takes batch 1 where the batch is open, and nothing else may be.

    Raises:
        ValueError: if the inputs are unknown, or open with `dynamic=False`.
    """
    structure = _structure(model, input_signature)
    leaves, keys = tree.flatten(structure), _keys(structure)
    unique = Names()
    ports = []
    for key, leaf in zip(keys, leaves, strict=True):
        shape = _fixed(tuple(leaf.shape), leaf, dynamic)
        ports.append(Port(unique(_input_name(key, leaf)), shape, _dtype(leaf)))
    return Interface(tuple(ports), structure)


def output_names(model: keras.Model, outputs: Any, taken: Interface) -> list[str]:
    """Returns a readable name for each of a model's outputs, flat: keys, or its layers' names."""
    unique = Names()
    for port in taken.ports:
        unique(port.name)
    keys = _keys(outputs)
    layers = getattr(model, "output_names", None)
    if layers is None and isinstance(model, keras.Sequential):
        layers = [model.layers[-1].name] * len(keys)
    if not layers or len(layers) != len(keys):
        layers = ["output"] * len(keys)
    return [unique(key or layer) for key, layer in zip(keys, layers, strict=True)]


def output_axes(model: keras.Model, interface: Interface) -> list[list[str | None]] | None:
    """Returns which open axis of an input each axis of each output follows, or None if unknown.

    Keras says what shape comes out for a shape that goes in: large sizes, each another, are put in
    for the open axes.
    Where that does not go, the inputs' times may have to be equal.
    """
    axes = [interface.axes(port) for port in interface.ports]
    opened = dict.fromkeys(name for port in axes for name in port if isinstance(name, str))
    sizes = dict(zip(opened, count(1009, 101)))  # noqa: B905 - as many as there are axes
    for one in (sizes, sizes | {n: 907 for n in sizes if n.endswith("time")}):
        names = {size: name for name, size in reversed(one.items())}
        shapes = [tuple(one[n] if isinstance(n, str) else n for n in port) for port in axes]
        pairs = zip(shapes, interface.ports, strict=True)
        tensors = [keras.KerasTensor(shape, port.dtype) for shape, port in pairs]
        try:
            outputs = model.compute_output_spec(interface.pack(tensors))
        except Exception:  # noqa: BLE001 - any layer may refuse; the file is only less telling then
            continue
        return [[names.get(size) for size in t.shape] for t in tree.flatten(outputs)]
    return None


def _structure(model: keras.Model, signature: Any) -> Any:
    if signature is not None:
        one = isinstance(signature, list | tuple) and len(signature) == 1
        structure = signature[0] if one else signature
    elif isinstance(model, keras.Sequential):
        structure = (getattr(model, "inputs", None) or [None])[0]
    else:
        try:
            structure = model.input if getattr(model, "inputs", None) else None
        except AttributeError:
            structure = None
    leaves = tree.flatten(structure)
    if not leaves or not all(hasattr(leaf, "shape") and leaf.shape for leaf in leaves):
        raise ValueError(
            "Argument `input_signature` must say what the model takes: a keras.KerasTensor, "
            "keras.InputSpec or tf.TensorSpec with shape and dtype, or a list or dictionary of "
            f"these. Received: input_signature={signature!r} with model {model.name!r}, which "
            "does not know its inputs itself. Give e.g. "
            "input_signature=keras.InputSpec(shape=(None, None, 88), dtype='float32')."
        )
    return structure


def _keys(structure: Any) -> list[str]:
    """The key under which each leaf stands in a dictionary; "" where it stands in none."""
    return [
        ".".join(str(part) for part in path if isinstance(part, str))
        for path, _ in tree.flatten_with_path(structure)
    ]


def _input_name(key: str, leaf: Any) -> str:
    name = getattr(leaf, "name", None) or ""
    return key or ("input" if not name or name.startswith(UNNAMED) else name.split(":")[0])


def _dtype(leaf: Any) -> str:
    dtype = getattr(leaf, "dtype", None) or "float32"
    return getattr(dtype, "name", None) or str(dtype)


def _fixed(shape: tuple, leaf: Any, dynamic: bool) -> tuple:
    if dynamic:
        return shape
    shape = (shape[0] or 1, *shape[1:])
    if None in shape:
        raise ValueError(
            "Argument `dynamic` must be True where the model leaves a dimension other than the "
            f"batch open. Received: dynamic=False with an input of shape {tuple(leaf.shape)}. "
            "Give every size with input_signature, or leave dynamic=True."
        )
    return shape


def random_inputs(model: keras.Model, interface: Interface, batch: int, time: int, rng) -> list:
    """Returns random arrays for a model's inputs at a batch and a time length.

    Integers stay below the smallest vocabulary of an Embedding in the model; where a Masking layer
    stands, some time steps hold what it masks.
    """
    layers = layers_within(model)
    sizes = [layer.input_dim for layer in layers if isinstance(layer, keras.layers.Embedding)]
    masked = [layer.mask_value for layer in layers if isinstance(layer, keras.layers.Masking)]
    arrays = []
    for port in interface.ports:
        open_sizes = [batch, time] + [3] * len(port.shape)
        shape = [s if s is not None else k for s, k in zip(port.shape, open_sizes, strict=False)]
        if "int" in port.dtype:
            array = rng.integers(0, min(sizes, default=2), shape)
        elif port.dtype == "bool":
            array = rng.random(shape) < 0.7
        elif "float" in port.dtype:
            array = rng.standard_normal(shape)
            if masked and len(shape) == 3:
                array[rng.random(shape[:2]) < 0.3] = masked[0]
        else:
            raise ExportError(
                f"Input {port.name!r} must be of floats, integers or booleans to be checked with "
                f"random values. Received: dtype={port.dtype}. Export with verify=False."
            )
        arrays.append(array.astype(port.dtype))
    return arrays
