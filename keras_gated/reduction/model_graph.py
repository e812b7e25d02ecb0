"""Where the units of a layer are read: the layers behind it, and at which of their inputs.

Fewer units of one layer mean fewer inputs of those that read it. `readers_of` finds them, or says
why the units of a layer cannot become fewer.
"""

from dataclasses import dataclass
from typing import Any

import keras

from keras_gated.convert.conversion import inner_layers
from keras_gated.layers import GatedRNN

LAYERS = keras.layers
# Each entry of their output is that entry of their input, at inference.
TRANSPARENT = (
    *(LAYERS.Dropout, LAYERS.SpatialDropout1D, LAYERS.GaussianDropout, LAYERS.GaussianNoise),
    *(LAYERS.AlphaDropout, LAYERS.ActivityRegularization, LAYERS.Identity, LAYERS.RepeatVector),
)


@dataclass(frozen=True)
class Reader:
    """A layer that reads the units of another one.

    Attributes:
        layer: a Dense, a Conv1D or a gated layer.
        first: position of the first unit among the layer's inputs.
    """

    layer: Any
    first: int


class NotRemovable(ValueError):
    """The units of a layer cannot become fewer; the message says why."""


def find_gated_layers(model: Any) -> list[GatedRNN]:
    """Returns the gated layers in a model, in order, also those in wrappers and nested models."""
    found: list[GatedRNN] = []
    for layer in [model] if isinstance(model, GatedRNN) else inner_layers(model):
        new = [layer] if isinstance(layer, GatedRNN) else find_gated_layers(layer)
        found += [one for one in new if one not in found]
    return found


def twin_of(model: Any, layer: GatedRNN) -> GatedRNN | None:
    """Returns the other layer of the Bidirectional that a gated layer is in, or None."""
    for outer in model.layers:
        pair = inner_layers(outer) if isinstance(outer, LAYERS.Bidirectional) else []
        if layer in pair:
            return pair[1 - pair.index(layer)]
    return None


def reset_states(model: Any) -> None:
    """Sets the states of stateful layers to zeros."""
    for layer in find_gated_layers(model):
        if layer.stateful:
            layer.reset_states()


def readers_of(model: Any, layer: GatedRNN) -> list[Reader]:
    """Returns the layers of a model that read the units of a gated layer.

    Raises:
        NotRemovable: if something else reads them, as a normalisation or a sum.
    """
    outer, first = _place(model, layer)
    output, *states = keras.tree.flatten(outer.output)
    for state in states:
        if _behind(model, state) or _is_output(model, state):
            raise NotRemovable(f"the last states of {layer.name!r} are read")
    return _readers(model, layer, output, first)


def _place(model: Any, layer: GatedRNN) -> tuple[Any, int]:
    """The layer of the model that holds a gated layer, and where its units begin in the output."""
    _check_calls(model)
    for outer in model.layers:
        if outer is layer:
            return outer, 0
        if isinstance(outer, LAYERS.Bidirectional) and layer in inner_layers(outer):
            if outer.merge_mode != "concat":
                raise NotRemovable(f"{outer.name!r} merges two layers by {outer.merge_mode!r}")
            before = outer.forward_layer.cell.output_size
            return outer, 0 if layer is outer.forward_layer else before
    raise NotRemovable(f"{layer.name!r} lies in a nested model or a wrapper")


def _readers(model: Any, layer: GatedRNN, tensor: Any, first: int) -> list[Reader]:
    """The readers behind a tensor of the model."""
    if _is_output(model, tensor):
        raise NotRemovable(f"the units of {layer.name!r} are an output of the model")
    found: list[Reader] = []
    for behind in _behind(model, tensor):
        if isinstance(behind, TRANSPARENT):
            found += _readers(model, layer, behind.output, first)
        elif isinstance(behind, LAYERS.Concatenate) and _joins_features(behind):
            before = 0
            for part in behind.input:
                if part is tensor:
                    found += _readers(model, layer, behind.output, first + before)
                before += part.shape[-1]
        else:
            found += [Reader(inner, first) for inner in _reading(behind, tensor, layer)]
    return found


def _reading(behind: Any, tensor: Any, layer: GatedRNN) -> list:
    """The layers with kernels that read a tensor, in one layer of the model."""
    inner = behind
    while isinstance(inner, LAYERS.TimeDistributed):
        inner = inner.layer
    if type(inner) is LAYERS.Dense or (type(inner) is LAYERS.Conv1D and inner.groups == 1):
        return [inner]
    if type(inner) is LAYERS.Conv1D or not isinstance(inner, GatedRNN | LAYERS.Bidirectional):
        raise NotRemovable(
            f"the units of {layer.name!r} are read by {type(inner).__name__} {inner.name!r}"
        )
    if any(tensor is state for state in keras.tree.flatten(behind.input)[1:]):
        raise NotRemovable(f"the units of {layer.name!r} are states of {inner.name!r}")
    readers = [inner] if isinstance(inner, GatedRNN) else inner_layers(inner)
    for reader in readers:
        _check_reader(reader, layer)
    return readers


def _check_reader(reader: Any, layer: GatedRNN) -> None:
    """Raises `NotRemovable` if a recurrent layer behind needs all units."""
    name = f"{reader.name!r}, which reads {layer.name!r},"
    if not isinstance(reader, GatedRNN):
        raise NotRemovable(f"{name} is not a gated layer")
    if reader.cell.form.square:
        raise NotRemovable(f"{name} has a diagonal or identity kernel")
    weights = [weight for weight in reader.cell.form.weights if weight.sees == "input"]
    if any(weight.kernel and weight.kernel.is_stack for weight in weights):
        raise NotRemovable(f"{name} has an input kernel of blocks")
    if reader.cell.layer_norm or reader.cell.batch_norm:
        raise NotRemovable(f"{name} normalises the product of its input")


def _behind(model: Any, tensor: Any) -> list:
    """The layers and other operations of the model that a tensor goes into."""
    _check_calls(model)
    inputs = {one: keras.tree.flatten(one.input) for one in _operations(model)}
    return [one for one, parts in inputs.items() if any(part is tensor for part in parts)]


def _operations(model: Any) -> list:
    """The layers of a model and, of a functional one, what else it computes with tensors."""
    return list(getattr(model, "operations", model.layers))


def _check_calls(model: Any) -> None:
    """Raises `NotRemovable` if a layer is called several times: its input is that of one call."""
    if isinstance(model, keras.Sequential):
        return
    for entry in model.get_config()["layers"]:
        if len(entry.get("inbound_nodes", ())) > 1:
            raise NotRemovable(f"{entry['name']!r} is called several times")


def _is_output(model: Any, tensor: Any) -> bool:
    return any(tensor is output for output in model.outputs)


def _joins_features(layer: Any) -> bool:
    return layer.axis in (-1, len(layer.output.shape) - 1)
