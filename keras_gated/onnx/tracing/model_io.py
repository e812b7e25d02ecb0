"""The inputs and outputs of a model as an ONNX file has them: flat, named, with named axes."""

from dataclasses import dataclass
from itertools import count
from typing import Any

import keras
from keras import tree

from keras_gated.onnx.tracing.layer_places import UniqueNames

DEFAULT_NAMES = ("keras_tensor", "input_layer")  # how Keras's names of unnamed inputs begin


@dataclass(frozen=True)
class Port:
    """An input of a model or a file.

    Attributes:
        name: its name.
        shape: sizes, None for an open axis.
        dtype: e.g. "float32".
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class Interface:
    """The inputs of a model, flat, and the structure in which the model takes them.

    Attributes:
        ports: the inputs, flat, in order.
        structure: the nested structure (one tensor, a list, a dictionary) that the model takes.
    """

    ports: tuple[Port, ...]
    structure: Any

    def pack(self, tensors) -> Any:
        """Returns flat tensors in the structure that the model takes."""
        return tree.pack_sequence_as(self.structure, list(tensors))

    def axes(self, port: Port) -> list[str | int]:
        """Returns, for each axis of an input, its size, or a name if it is open.

        Open axes are "batch", "time" for the first input that has open time, "<input>_time" for
        the others, and "<input>_axis_<k>".
        """
        timed = [p.name for p in self.ports if len(p.shape) > 1 and p.shape[1] is None]
        time = "time" if timed[:1] == [port.name] else f"{port.name}_time"
        names = ["batch", time] + [f"{port.name}_axis_{k}" for k in range(2, len(port.shape))]
        return [n if size is None else size for n, size in zip(names, port.shape, strict=False)]


def interface_of(model: keras.Model, input_signature=None, dynamic: bool = True) -> Interface:
    """Returns the interface of a model.

    Args:
        model: a Keras model.
        input_signature: None if the model knows its inputs. Otherwise its inputs as it takes them
            (one, a list or a dictionary), each with `.shape` and `.dtype`: keras.KerasTensor,
            keras.InputSpec or tf.TensorSpec. A list of one means the one.
        dynamic: bool. False sets an open batch to 1; then no other axis may be open.

    Raises:
        ValueError: if the inputs are unknown, or if an axis is open with `dynamic=False`.
    """
    structure = _input_structure(model, input_signature)
    leaves, keys = tree.flatten(structure), _keys(structure)
    own = tree.flatten(_own_inputs(model))  # their names stand in for those of a signature
    own = own if len(own) == len(leaves) else leaves
    unique = UniqueNames()
    ports = []
    for key, leaf, own_leaf in zip(keys, leaves, own, strict=True):
        shape = tuple(leaf.shape) if dynamic else _with_batch_1(leaf)
        ports.append(Port(unique(_input_name(key, leaf, own_leaf)), shape, _dtype(leaf)))
    return Interface(tuple(ports), structure)


def output_names(model: keras.Model, outputs: Any, interface: Interface) -> list[str]:
    """Returns a name for each of a model's outputs, flat.

    A name is the output's key if the model returns a dictionary, else the name of the layer that
    makes it. No output has the name of an input.
    """
    unique = UniqueNames()
    for port in interface.ports:
        unique(port.name)
    keys = _keys(outputs)
    layers = getattr(model, "output_names", None)
    if layers is None and isinstance(model, keras.Sequential):
        layers = [model.layers[-1].name] * len(keys)
    if not layers or len(layers) != len(keys):
        layers = ["output"] * len(keys)
    return [unique(key or layer) for key, layer in zip(keys, layers, strict=True)]


def output_axes(model: keras.Model, interface: Interface) -> list[list[str | None]] | None:
    """Returns, for each axis of each output, the name of the input's open axis that it follows.

    An axis that follows none is None; if nothing is known, the result is None.

    Keras can compute the output's shape for a given input's shape. So each open axis gets an
    unusual size of its own, and this size is looked for in the output's shape. If the model
    refuses, it may need several inputs of the same length: then all time axes get the same size.
    """
    axes = [interface.axes(port) for port in interface.ports]
    open_axes = dict.fromkeys(name for port in axes for name in port if isinstance(name, str))
    different = dict(zip(open_axes, count(1009, 101)))  # noqa: B905 - count() has no end
    same_time = different | {n: 907 for n in different if n.endswith("time")}
    for sizes in (different, same_time):
        names = {size: name for name, size in reversed(sizes.items())}
        shapes = [tuple(sizes[n] if isinstance(n, str) else n for n in port) for port in axes]
        pairs = zip(shapes, interface.ports, strict=True)
        tensors = [keras.KerasTensor(shape, port.dtype) for shape, port in pairs]
        try:
            outputs = model.compute_output_spec(interface.pack(tensors))
        except Exception:  # noqa: BLE001 - any layer may refuse; then the file has fewer names
            continue
        return [[names.get(size) for size in t.shape] for t in tree.flatten(outputs)]
    return None


def _input_structure(model: keras.Model, signature: Any) -> Any:
    """Returns the model's inputs in their nested structure, from the signature or the model."""
    if signature is not None:
        one = isinstance(signature, list | tuple) and len(signature) == 1
        structure = signature[0] if one else signature
    else:
        structure = _own_inputs(model)
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


def _own_inputs(model: keras.Model) -> Any:
    """Returns the inputs that a model knows itself, in their nested structure; None if none."""
    inputs = getattr(model, "inputs", None)
    if not inputs:
        return None
    try:
        return inputs[0] if isinstance(model, keras.Sequential) else model.input
    except AttributeError:
        return None


def _keys(structure: Any) -> list[str]:
    """Returns the dictionary key of each leaf of a structure; "" for a leaf without one."""
    return [
        ".".join(str(part) for part in path if isinstance(part, str))
        for path, _ in tree.flatten_with_path(structure)
    ]


def _input_name(key: str, *tensors: Any) -> str:
    """Returns the key, or the first name that a user gave to one of the tensors, or "input"."""
    names = [getattr(tensor, "name", None) or "" for tensor in tensors]
    given = [name for name in names if name and not name.startswith(DEFAULT_NAMES)]
    return key or (given[0].split(":")[0] if given else "input")


def _dtype(leaf: Any) -> str:
    dtype = getattr(leaf, "dtype", None) or "float32"
    return getattr(dtype, "name", None) or str(dtype)


def _with_batch_1(leaf: Any) -> tuple:
    """Returns the shape of an input with batch 1 if the batch is open."""
    shape = (leaf.shape[0] or 1, *leaf.shape[1:])
    if None in shape:
        raise ValueError(
            "Argument `dynamic` must be True if an axis of an input other than the batch is "
            f"open. Received: dynamic=False with an input of shape {tuple(leaf.shape)}. "
            "Give every size with input_signature, or use dynamic=True."
        )
    return shape


def shape_of(port: Port, batch: int, time: int, other: int = 3) -> tuple[int, ...]:
    """Returns a shape for an input, with these sizes for its open axes."""
    sizes = [batch, time] + [other] * len(port.shape)
    return tuple(k if size is None else size for size, k in zip(port.shape, sizes, strict=False))
