"""A model as a call whose recurrent states come in and go out."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops, tree

from keras_gated.onnx.convert import ModelCall
from keras_gated.onnx.errors import ExportError, require
from keras_gated.onnx.tracing.model_io import Interface, Port
from keras_gated.onnx.tracing.model_layers import Names, layers_within, places_within
from keras_gated.onnx.tracing.tracer import is_zeros


@dataclass(frozen=True)
class State:
    """A state of one call of a layer: the input that it comes in by, the name it leaves under."""

    port: Port
    output: str


class StreamingCall(ModelCall):
    """A model whose recurrent layers begin where the last chunk ended.

    Args:
        model, interface: as in `ModelCall`.
        states: those that a call without states found, named.

    Attributes:
        found: (name, shape, dtype) of each state that a layer begins with by default, in order.
        wired: names of the calls of layers to which the model itself passes the states.
        inside: names of recurrent layers that are called in a graph within the model's.
    """

    def __init__(self, model: keras.Model, interface: Interface, states: Sequence[State] = ()):
        super().__init__(model, interface)
        self.states = tuple(states)
        self.ports = (*interface.ports, *(state.port for state in states))
        self.found: list[tuple] = []
        self.wired: list[str] = []
        self.inside: list[str] = []

    def __call__(self, *tensors) -> dict:
        count = len(self.interface.ports)
        self._outermost, self._unique = _graph(), Names()
        self._places = places_within(self.model)
        self._given, self._last = iter(tensors[count:]), []
        with self._joined():
            outputs = super().__call__(*tensors[:count])
        ends = zip([s.output for s in self.states], self._last, strict=bool(self.states))
        return outputs | dict(ends)

    def input_axes(self) -> dict[str, list]:
        return super().input_axes() | {s.port.name: _axes(s.port) for s in self.states}

    def output_axes(self) -> dict[str, list]:
        return super().output_axes() | {s.output: _axes(s.port) for s in self.states}

    @contextmanager
    def _joined(self) -> Iterator[None]:
        """Inside, every recurrent layer's loop over time begins and ends here."""
        within = layers_in_stream(self.model)
        layers: list[Any] = [layer for layer in within if isinstance(layer, keras.layers.RNN)]
        before = [vars(layer).get("inner_loop") for layer in layers]
        for layer in layers:
            vars(layer)["inner_loop"] = self._loop(layer, layer.inner_loop)
        try:
            yield
        finally:
            for layer, own in zip(layers, before, strict=True):
                del vars(layer)["inner_loop"]
                if own is not None:
                    vars(layer)["inner_loop"] = own

    def _loop(self, layer: keras.layers.RNN, inner: Callable) -> Callable:
        def inner_loop(sequences, initial_state, mask, training=False):
            states = self._begun(layer, initial_state)
            last, outputs, after = inner(sequences, states, mask, training)
            if states is not initial_state:
                self._last += tree.flatten(after)
                last, outputs = _repeated(layer, states, mask, last, outputs)
            return last, outputs, after

        return inner_loop

    def _begun(self, layer: keras.layers.RNN, initial: Any) -> Any:
        """The states in place of a layer's default ones; those that the model passes, as they are.

        In the first trace there are none yet to be put in place.
        """
        name = self._places[layer]
        if _graph() is not self._outermost:
            self.inside.append(name)
            return initial
        name = self._unique(name.replace("/", "_"))
        flat = tree.flatten(initial)
        if not all(map(is_zeros, flat)):
            self.wired.append(name)
            return initial
        for state, tensor in zip(_state_names(layer, initial), flat, strict=True):
            dtype = keras.backend.standardize_dtype(tensor.dtype)
            self.found.append((f"{name}_{state}", tuple(tensor.shape), dtype))
        return tree.pack_sequence_as(initial, [next(self._given, tensor) for tensor in flat])


def _repeated(layer, states, mask, last, outputs) -> tuple:
    """Masked steps before a chunk's first valid one repeat the output before the chunk, h."""
    mask = mask[0] if isinstance(mask, list | tuple) else mask
    if mask is None or layer.zero_output_for_mask:
        return last, outputs
    h = tree.flatten(states[-1] if _stacked(layer) else states)[0]
    if h.shape[1:] != last.shape[1:]:
        raise ExportError(
            "Argument `model` must not mask a layer whose output is not its first state: a masked "
            "step repeats the output before it, which no state holds. "
            f"Received: layer {layer.name!r} over {type(layer.cell).__name__}. Leave out the mask, "
            "or build the layer with zero_output_for_mask=True."
        )
    mask = mask[..., 0] if len(mask.shape) == 3 else mask
    seen: Any = ops.cumsum(ops.cast(mask, "int32"), axis=1)
    seen = seen > 0
    for _ in h.shape[1:]:
        seen = seen[..., None]
    return ops.where(seen[:, -1], last, h), ops.where(seen, outputs, h[:, None])


def layers_in_stream(model: keras.Model) -> list[keras.Layer]:
    """Returns the layers within a model that may see time; not those in a TimeDistributed.

    There a layer has a sequence of its own in each time step, and begins anew with each.
    """
    layers = layers_within(model)
    apart = [layer for layer in layers if isinstance(layer, keras.layers.TimeDistributed)]
    inside = {id(inner) for layer in apart for inner in layers_within(layer)}
    return [layer for layer in layers if id(layer) not in inside]


def _stacked(layer: keras.layers.RNN) -> bool:
    return isinstance(layer.cell, keras.layers.StackedRNNCells)


def _state_names(layer: keras.layers.RNN, initial: Any) -> list[str]:
    """A name for each state of a layer, flat."""
    if not _stacked(layer):
        return _names_of(layer.cell, initial)
    cells = enumerate(zip(layer.cell.cells, initial, strict=True), 1)
    return [f"cell_{k}_{name}" for k, (cell, part) in cells for name in _names_of(cell, part)]


def _names_of(cell: Any, initial: Any) -> list[str]:
    """h and c, and x for the inputs before the first."""
    count = len(tree.flatten(initial))
    form = getattr(cell, "form", None)
    known = ["h", "c"] if form is None else [*form.states, "x"]
    return known[:count] if count <= len(known) else [f"state_{k + 1}" for k in range(count)]


def is_timed(port: Port) -> bool:
    """Whether an input's second axis is open: time."""
    return len(port.shape) > 1 and port.shape[1] is None


def _axes(port: Port) -> list:
    return ["batch" if port.shape[0] is None else port.shape[0], *port.shape[1:]]


def named_states(probe: StreamingCall) -> list[State]:
    """The states that a first trace found, with names that nothing else in the file has.

    Raises:
        ExportError: if there are none, or a layer's are out of reach.
    """
    if probe.inside:
        raise ExportError(
            "Argument `model` must call its recurrent layers directly: the states of a layer in a "
            "condition, a loop or a tf.function of its own cannot leave the graph. "
            f"Received: layers {sorted(set(probe.inside))}. Call them outside of these."
        )
    if not probe.found:
        wired = f" but those that it passes on itself, {probe.wired}" if probe.wired else ""
        raise ExportError(
            "Argument `model` must hold a recurrent layer that begins with its default state. "
            f"Received: model {probe.model.name!r} with no states{wired}. "
            "Export it with export_onnx: there is nothing to keep between two chunks."
        )
    if unknown := [name for name, shape, _ in probe.found if None in shape[1:]]:
        raise ExportError(
            "Argument `model` must have states of known size. "
            f"Received: {unknown} with open axes. Give every input axis but batch and time a size."
        )
    unique = Names()
    for name in (*(port.name for port in probe.ports), *probe.names):
        unique(name)
    states = []
    for wanted, shape, dtype in probe.found:
        name = unique(wanted)
        states.append(State(Port(name, shape, dtype), unique(f"{name}_out")))
    return states


def _graph() -> Any:
    """The graph that is being traced."""
    (tf,) = require("tensorflow")
    return tf.compat.v1.get_default_graph()
