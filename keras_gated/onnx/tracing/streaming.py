"""A model as a call whose recurrent states are further inputs and outputs.

During a trace, `patched_layers` wraps the loop over time of every recurrent layer. The wrapper
replaces the layer's default initial states with inputs of the file, and collects the states that
come out:

    without states:   x ----------------> lstm -> y         (states begin with zeros)
    for a stream:     x, lstm_h, lstm_c -> lstm -> y, lstm_h_out, lstm_c_out

The last inputs of a causal convolution are a state in the same way (`time_windows.py`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import ops, tree

from keras_gated.cell import GatedCell
from keras_gated.engine.call import TimeSteps
from keras_gated.onnx.errors import ExportError, require
from keras_gated.onnx.model_to_graph import ModelCall, trace
from keras_gated.onnx.tracing.layer_places import UniqueNames, layers_within, places_within
from keras_gated.onnx.tracing.model_io import Interface, Port
from keras_gated.onnx.tracing.operator_inputs import is_known_zero
from keras_gated.onnx.tracing.time_windows import (
    WINDOWED,
    Window,
    chunk_stride,
    convolve,
    reason_against,
    window_of,
)
from keras_gated.onnx.tracing.tracer import Tracer

MIXES_TIME = tuple(
    getattr(keras.layers, name)
    for name in (
        *("Attention", "AdditiveAttention", "MultiHeadAttention", "GroupQueryAttention"),
        *("GlobalAveragePooling1D", "GlobalMaxPooling1D", "ZeroPadding1D", "Cropping1D"),
        *("Conv1DTranspose", "Flatten"),
    )
)

KERAS_CELLS = (keras.layers.LSTMCell, keras.layers.GRUCell, keras.layers.SimpleRNNCell)


@dataclass(frozen=True)
class State:
    """A state of one call of a layer: the input that brings it in, the output that takes it out."""

    port: Port
    output: str


class StreamingCall(ModelCall):
    """A model whose layers begin with given states and return the last ones.

    A first trace, with no `states`, finds which states there are. `name_states` names them, and a
    second trace has an input and an output for each.

    Args:
        model, interface: as in `ModelCall`.
        states: the states, named.

    Attributes:
        default_states: (name, shape, dtype) of each state that begins with the layer's default.
        given_states: names of the calls of layers that get their initial states from the model.
        windows: (window, shape of the input) of each call of a convolution or pooling.
        refused: for each layer that cannot run in chunks, why, and what to do.
        in_inner_graphs: names of recurrent layers that are called inside a condition, a loop or a
            tf.function: a state cannot come from there to the outputs.
    """

    def __init__(self, model: keras.Model, interface: Interface, states: Sequence[State] = ()):
        super().__init__(model, interface)
        self.states, self._in_stream = tuple(states), layers_in_stream(model)
        self.ports = (*interface.ports, *(state.port for state in states))
        self.default_states: list[tuple] = []
        self.given_states: list[str] = []
        self.in_inner_graphs: list[str] = []
        self.windows: list[tuple[Window | None, Sequence[int | None]]] = []
        self.refused: list[str] = []
        self._in_stream = layers_in_stream(model)

    def __call__(self, *tensors) -> dict:
        count = len(self.interface.ports)
        self._graph, self._unique = _current_graph(), UniqueNames()
        self._places = places_within(self.model)
        self._initial, self._last = iter(tensors[count:]), []
        outputs = super().__call__(*tensors[:count])
        states = zip([s.output for s in self.states], self._last, strict=bool(self.states))
        return outputs | dict(states)

    def input_axes(self) -> dict[str, list]:
        return super().input_axes() | {s.port.name: _axes(s.port) for s in self.states}

    def output_axes(self) -> dict[str, list]:
        return super().output_axes() | {s.output: _axes(s.port) for s in self.states}

    def wrap_loop(self, layer: Any, loop: Callable) -> Callable:
        if layer not in self._in_stream:
            return loop

        def inner_loop(sequences, initial_state, mask, training=False):
            states = self._initial_states(layer, initial_state)
            last, outputs, after = loop(sequences, states, mask, training)
            if states is not initial_state:
                self._last += tree.flatten(after)
                last, outputs = _repeat_previous_output(layer, states, mask, last, outputs)
            return last, outputs, after

        return inner_loop

    def wrap_call(self, layer: Any, call: Callable | None) -> Callable | None:
        if call and isinstance(layer, keras.layers.TimeDistributed):
            return self._watch_time_distributed(layer, call)
        windowed = isinstance(layer, WINDOWED) and layer in self._in_stream
        return self._carry_window(layer, layer.call) if windowed else call

    def _carry_window(self, layer: Any, own_call: Callable) -> Callable:
        """Returns a call of a convolution or pooling that begins with the last inputs."""

        def call(inputs):
            name, window = self._places[layer], window_of(layer, inputs.shape)
            self.windows.append((window, inputs.shape))
            reason = window and reason_against(name, layer, window)
            if reason:
                self.refused.append(reason)
            if reason or not (window and window.is_carried):
                return own_call(inputs)
            if _current_graph() is not self._graph:
                self.in_inner_graphs.append(name)
                return own_call(inputs)
            shape = list(inputs.shape)
            shape[window.axis] = window.length - 1
            dtype = keras.backend.standardize_dtype(inputs.dtype)
            unique = self._unique(name.replace("/", "_"))
            self.default_states.append((f"{unique}_x", tuple(shape), dtype))
            before = next(self._initial, None)
            if before is None:
                return own_call(inputs)
            x = ops.concatenate([before, inputs], axis=window.axis)
            last = [slice(None)] * 3
            last[window.axis] = slice(1 - window.length, None)
            self._last.append(x[tuple(last)])
            return convolve(layer, x)

        return call

    def _watch_time_distributed(self, layer: Any, own_call: Callable) -> Callable:
        """Returns a call that records a TimeDistributed over another axis than time."""
        inside = [one for one in layers_within(layer) if isinstance(one, keras.layers.RNN)]

        def call(inputs, training=None, mask=None):
            if inside and inputs.shape[1] is not None and None in inputs.shape[2:]:
                self.refused.append(
                    f"layer {self._places[layer]!r} (TimeDistributed) runs over an axis of length "
                    f"{inputs.shape[1]}, which is not time, and the recurrent layer in it over "
                    "time: its states cannot leave the TimeDistributed. Call a recurrent layer on "
                    "each part of that axis, outside of a TimeDistributed"
                )
            return own_call(inputs, training=training, mask=mask)

        return call

    def stride(self) -> int:
        """Returns of how many time steps the length of each chunk must be a multiple.

        To be called after a trace. If a layer has strides, the model is traced again for a known
        time, which shows how many time steps reach each layer.
        """
        windows = [window for window, _ in self.windows]
        time = math.prod(window.stride for window in windows if window)
        if time == 1:
            return 1
        probe = self.traced_at(2, time)
        shapes = [shape for _, shape in probe.windows] if probe else []
        if len(shapes) != len(windows):
            return time
        pairs = zip(windows, shapes, strict=True)
        return chunk_stride(windows, [w and shape[w.axis] for w, shape in pairs], time)

    def traced_at(self, batch: int, time: int) -> "StreamingCall | None":
        """Returns a call that was traced for a known batch and time; None if that fails."""
        sizes = (batch, time)
        ports = [
            replace(
                port,
                shape=(*(n or k for n, k in zip(port.shape, sizes, strict=False)), *port.shape[2:]),
            )
            for port in self.interface.ports
        ]
        call = StreamingCall(self.model, replace(self.interface, ports=tuple(ports)))
        try:
            trace(call, Tracer(self.model, 17))
        except Exception:  # noqa: BLE001 - e.g. a model that takes longer sequences alone
            return None
        return call

    def reasons_against_file(self) -> list[str]:
        """Returns why the file may not run at all, and what to do. To be called after a trace."""
        probe = self.traced_at(3, 6 * self.stride())
        batches = {port.shape[0] or 3 for port in self.interface.ports}
        states = probe.default_states if probe else []
        folded = [name for name, shape, _ in states if shape[0] not in (None, *batches)]
        return folded and [
            f"The states {folded} do not have one row for each row of the batch: the model folds "
            "another axis, e.g. frequency, into the batch, and runs a recurrent layer over what "
            "results. Keep that axis among the features, or call a recurrent layer on each part of "
            "it."
        ]

    def reasons_against_chunks(self) -> list[str]:
        """Returns why chunks may differ from the whole sequence, and what to do.

        To be called after a trace.
        """
        found = [f"{reason[0].upper()}{reason[1:]}." for reason in self.refused]
        if self.given_states:
            found.append(
                f"The calls {self.given_states} begin every chunk with the initial_state that the "
                "model passes. If these states are known before the stream begins, e.g. because "
                "they are weights, leave initial_state out, and set StreamingSession.state to them "
                "before the first chunk."
            )
        mixing = [
            f"{self._places[layer]!r} ({type(layer).__name__})"
            for layer in self._in_stream
            if isinstance(layer, MIXES_TIME)
        ]
        if mixing:
            found.append(
                f"The layers {', '.join(mixing)} see one chunk alone. Move them out of the model."
            )
        return found

    def _initial_states(self, layer: keras.layers.RNN, initial: Any) -> Any:
        """Returns the states that a layer begins with.

        States that the model passes stay as they are. Default states are recorded, and replaced
        with inputs of the file; the first trace has no such inputs and keeps the default ones.
        """
        name = self._places[layer]
        if _current_graph() is not self._graph:
            self.in_inner_graphs.append(name)
            return initial
        name = self._unique(name.replace("/", "_"))
        flat = tree.flatten(initial)
        if not all(map(is_known_zero, flat)):
            self.given_states.append(name)
            return initial
        for state, tensor in zip(_state_names(layer, initial), flat, strict=True):
            dtype = keras.backend.standardize_dtype(tensor.dtype)
            self.default_states.append((f"{name}_{state}", tuple(tensor.shape), dtype))
        return tree.pack_sequence_as(initial, [next(self._initial, tensor) for tensor in flat])


def _repeat_previous_output(layer, states, mask, last, outputs) -> tuple:
    """Replaces the outputs of masked steps at the beginning of a chunk with the previous output.

    A masked step repeats the output of the step before it. At the beginning of a whole sequence
    there is no such step, and Keras's output is zero. At the beginning of a chunk, the step before
    is in the last chunk; its output is the state h that the chunk begins with.
    """
    steps = mask if isinstance(mask, TimeSteps) else TimeSteps(mask, None)
    mask = steps.mask[0] if isinstance(steps.mask, list | tuple) else steps.mask
    if mask is None or layer.zero_output_for_mask:
        return last, outputs
    h = tree.flatten(states[-1] if _stacked(layer) else states)[0]
    if h.shape[1:] != last.shape[1:]:
        raise ExportError(
            "Argument `model` must not mask a layer whose output is not its first state: a masked "
            "step repeats the previous output, and no state holds it. "
            f"Received: layer {layer.name!r} over {type(layer.cell).__name__}. Remove the mask, "
            "or build the layer with zero_output_for_mask=True."
        )
    mask = mask[..., 0] if len(mask.shape) == 3 else mask
    if steps.starts is not None:  # from there on the output is not that of the last chunk
        mask = ops.logical_or(mask, steps.starts)
    valid_so_far: Any = ops.cumsum(ops.cast(mask, "int32"), axis=1)
    begun = valid_so_far > 0
    for _ in h.shape[1:]:
        begun = begun[..., None]
    return ops.where(begun[:, -1], last, h), ops.where(begun, outputs, h[:, None])


def layers_in_stream(model: keras.Model) -> list[keras.Layer]:
    """Returns the layers within a model that run along the stream's time axis.

    Layers inside a TimeDistributed do not: each time step of the stream is a whole sequence for
    them, and they begin anew in each.
    """
    layers = layers_within(model)
    wrappers = [layer for layer in layers if isinstance(layer, keras.layers.TimeDistributed)]
    inside = {id(inner) for layer in wrappers for inner in layers_within(layer)}
    return [layer for layer in layers if id(layer) not in inside]


def _stacked(layer: keras.layers.RNN) -> bool:
    return isinstance(layer.cell, keras.layers.StackedRNNCells)


def _state_names(layer: keras.layers.RNN, initial: Any) -> list[str]:
    """Returns a name for each state of a layer, flat, e.g. "h" or "cell_2_c"."""
    if not _stacked(layer):
        return _names_of_cell(layer.cell, initial)
    cells = enumerate(zip(layer.cell.cells, initial, strict=True), 1)
    return [f"cell_{k}_{name}" for k, (cell, part) in cells for name in _names_of_cell(cell, part)]


def _names_of_cell(cell: Any, initial: Any) -> list[str]:
    """Returns "h" and "c", and "x" for the last inputs that an input window needs.

    The states of any other cell are "state_1", "state_2" and so on.
    """
    count, known = len(tree.flatten(initial)), []
    if isinstance(cell, GatedCell):
        known = [*cell.form.states, "x"]
    elif isinstance(cell, KERAS_CELLS) or type(cell).__module__.startswith("keras."):
        known = ["h", "c"]
    return known[:count] if count <= len(known) else [f"state_{k + 1}" for k in range(count)]


def has_open_time(port: Port) -> bool:
    """Whether an input's second axis, which is time, is open."""
    return len(port.shape) > 1 and port.shape[1] is None


def _axes(port: Port) -> list:
    return ["batch" if port.shape[0] is None else port.shape[0], *port.shape[1:]]


def name_states(first: StreamingCall) -> list[State]:
    """Returns the states that a first trace found, with names that nothing else in the file has.

    Raises:
        ExportError: if there are none, or if a state cannot be an input and an output.
    """
    if first.in_inner_graphs:
        raise ExportError(
            "Argument `model` must call its recurrent layers and causal convolutions directly: a "
            "state cannot become an input and output of the file if its layer is called in a "
            "condition, a loop or a "
            f"tf.function. Received: layers {sorted(set(first.in_inner_graphs))}. Call them "
            "outside of these."
        )
    if not first.default_states:
        given, reasons = first.given_states, first.reasons_against_chunks()
        only = f" except those that the model passes itself, to {given}" if given else ""
        raise ExportError(
            "Argument `model` must have a recurrent layer that begins with its default state, or "
            f"a causal convolution. Received: model {first.model.name!r} with no states{only}. "
            f"{' '.join(reasons) or 'Export it with export_onnx: there is nothing to keep.'}"
        )
    if unknown := [name for name, shape, _ in first.default_states if None in shape[1:]]:
        raise ExportError(
            "Argument `model` must have states of known size. "
            f"Received: {unknown} with open axes. Give every input axis but batch and time a size."
        )
    unique = UniqueNames()
    for name in (*(port.name for port in first.ports), *first.names):
        unique(name)
    states = []
    for wanted, shape, dtype in first.default_states:
        name = unique(wanted)
        states.append(State(Port(name, shape, dtype), unique(f"{name}_out")))
    return states


def _current_graph() -> Any:
    """Returns the TensorFlow graph that is being recorded."""
    (tf,) = require("tensorflow")
    return tf.compat.v1.get_default_graph()
