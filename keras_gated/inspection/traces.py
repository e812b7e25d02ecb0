"""Gate traces: the values of a model's gates at every time step, and numbers that sum them up.

`trace_gates` calls the model with a runner in place of the engine's loop. It (`_GateRecorder`)
runs each cell in Python, one time step after another, and reads its gates through the cell's hooks.
"""

from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gated.cell import GatedCell
from keras_gated.engine.formula import Hooks, cast_like
from keras_gated.engine.run import run_by
from keras_gated.layers import GatedRNN

GATES = ("input", "forget", "reset", "output")
Trace = dict[str, dict[str, np.ndarray]]


def trace_gates(model_or_layer: Any, x: Any) -> Trace:
    """Runs a model or layer and returns the values of its gates at every time step.

    The model is not changed. It may be compiled, trained, loaded from a file or nested in another;
    layers in a `Bidirectional` and layers with masks are traced like any other. The cells run in
    Python, one time step after another, so long sequences take their time.

    Args:
        model_or_layer: a Keras model, or one gated layer.
        x: what the model is called with: sequences (B, T, F), or a list or dictionary of inputs.

    Returns:
        `{layer: {name: array (B, T, U)}}`, layers in the order in which they run. The names are
        those of the gates that are not constant ("input", "forget", "reset", "output"; tied gates
        too), "candidate", the memory "c" if the cell has one, and the output "h". Time steps are in
        the order of the inputs, also for a layer with go_backwards. Masked time steps are NaN. If
        layer names are not unique, the key is the layer's path. If a layer is called several times,
        the later keys end in " (2)" and so on.

    Raises:
        ValueError: if no gated layer ran.

    Example:
        >>> layer = kg.GatedLSTM(8, name="lstm")
        >>> trace = kg.trace_gates(layer, np.ones((2, 5, 3), "float32"))
        >>> sorted(trace["lstm"])
        ['c', 'candidate', 'forget', 'h', 'input', 'output']
        >>> trace["lstm"]["forget"].shape
        (2, 5, 8)
    """
    tracer = _GateRecorder()
    # Calling a model runs it eagerly, even a compiled one: only `predict` and the like use a graph.
    try:
        with run_by(tracer):
            model_or_layer(keras.tree.map_structure(ops.convert_to_tensor, x), training=False)
    finally:
        for variable, value in tracer.states_before:
            variable.assign(value)
    if not tracer.runs:
        raise ValueError(
            "Argument `model_or_layer` must have a GatedRNN, GatedLSTM or GatedGRU layer that runs "
            f"when it is called. Received: {model_or_layer!r}. Convert Keras's own layers first, "
            "with keras_gated.from_keras(model)."
        )
    return _by_layer_name(tracer.runs)


class _GateRecorder:
    """Runs layers over time, one time step after another, and keeps the values of their gates.

    Attributes:
        runs: for each call of a layer the layer, and its values {name: (B, T, U)}.
        states_before: variables of stateful layers, with their values before the trace.
    """

    def __init__(self):
        self.runs: list[tuple[GatedRNN, dict]] = []
        self.states_before: list[tuple] = []

    def __call__(self, layer, sequences, states, mask, drawn) -> tuple:
        """A runner, see `engine.run.run_by`."""
        self._remember_states(layer)
        time = range(sequences.shape[1])
        order = time[::-1] if layer.go_backwards else time
        by_step, outputs = {}, []
        zeros = ops.zeros_like(states[0])
        repeated = zeros  # the output of a masked time step: the last valid one, or zeros
        for t in order:
            with _gate_values(layer.cell) as values:
                output, new = layer.cell(sequences[:, t], states)
            # The hooks saw the memory before zoneout and clipping; `new` is the memory after them.
            carried = zip(layer.cell.form.states, new, strict=False)
            values.update({name: state for name, state in carried if name in values})
            valid = None if mask is None else mask[:, t : t + 1]
            if valid is not None:
                output = ops.where(valid, output, cast_like(repeated, output))
                new = [ops.where(valid, n, s) for n, s in zip(new, states, strict=True)]
            by_step[t] = {k: _to_numpy_masked(v, valid) for k, v in values.items()}
            outputs.append(output)
            repeated, states = zeros if layer.zero_output_for_mask else output, new
        names = by_step[0]
        arrays = {k: np.stack([by_step[t][k] for t in time], axis=1) for k in names}
        self.runs.append((layer, arrays))
        return output, ops.stack(outputs, axis=1), states

    def _remember_states(self, layer: GatedRNN) -> None:
        """Keeps the states of a stateful layer, unless an earlier call of it did."""
        known = {id(variable) for variable, _ in self.states_before}
        if layer.stateful and not known & {id(variable) for variable in layer.states}:
            self.states_before += [(variable, ops.copy(variable)) for variable in layer.states]


@contextmanager
def _gate_values(cell: GatedCell):
    """Inside, one step of the cell fills the dictionary that this yields: {name: (B, U)}."""
    values = {}
    names = [k for k in GATES if cell.form.gates[k].constant is None]
    names += ["candidate", *(k for k in ("c", "h") if k in cell.form.states)]

    class Recorder(Hooks):
        def values(self, **computed):
            values.update({name: computed[name] for name in names})

    with cell.with_hooks(Recorder()):
        yield values


def _to_numpy_masked(value, valid) -> np.ndarray:
    """(B, U) as a float32 array, with NaN in the rows whose time step is masked."""
    value = np.array(ops.convert_to_numpy(ops.cast(value, "float32")))
    if valid is not None:
        value[~np.asarray(ops.convert_to_numpy(valid), bool)[:, 0]] = np.nan
    return value


def _by_layer_name(runs: list[tuple[GatedRNN, dict]]) -> Trace:
    """The traces by the name of the layer, or by its path if two layers have the same name."""
    layers = {id(layer): layer for layer, _ in runs}.values()
    names = [layer.name for layer in layers]
    trace: Trace = {}
    for layer, arrays in runs:
        name = layer.name if names.count(layer.name) == 1 else layer.path
        earlier = sum(key == name or key.startswith(f"{name} (") for key in trace)
        trace[f"{name} ({earlier + 1})" if earlier else name] = arrays
    return trace


def half_life(forget: np.ndarray) -> np.ndarray:
    """Returns the number of time steps in which each unit forgets half of its memory.

    Args:
        forget: values of a forget gate (B, T, U) between 0 and 1, NaN where masked.

    Returns:
        (U,): ln 2 divided by the mean of -ln f over rows and time steps; infinite where f is 1.
        What zoneout keeps in addition is not counted.

    Example:
        >>> kg.half_life(np.full((1, 10, 2), [0.5, 1.0])).tolist()
        [1.0, inf]
    """
    with np.errstate(divide="ignore"):
        decay = -np.nanmean(np.log(np.clip(forget, 0.0, 1.0)), axis=(0, 1))
        return np.log(2.0) / np.maximum(decay, 0.0)


def saturation(gate: np.ndarray, margin: float = 0.1) -> tuple[float, float]:
    """Returns the shares of a gate's values below `margin` and above `1 - margin`.

    Karpathy, Johnson and Fei-Fei 2015, arXiv:1506.02078, plot these shares for each unit.

    Args:
        gate: values of a gate, of any shape, NaN where masked.
        margin: float between 0 and 0.5.

    Example:
        >>> kg.saturation(np.array([0.05, 0.2, 0.5, 0.95]))
        (0.25, 0.25)
    """
    valid = gate[~np.isnan(gate)]
    return float((valid < margin).mean()), float((valid > 1.0 - margin).mean())
