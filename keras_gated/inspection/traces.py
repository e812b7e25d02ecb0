"""What the gates of a model do over time, without training or building anything anew."""

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
    """Runs a model or layer and returns what its gates were at every time step.

    Nothing of the model changes: it may be compiled, trained, loaded from a file, nested; layers in
    a `Bidirectional` and with masks are traced like any other. The cell's own step runs in
    Python, one time step after another, so that long sequences take their time.

    Args:
        model_or_layer: a Keras model, or one gated layer.
        x: what it is called with: sequences (B, T, F), or the list or dictionary that the model
            takes.

    Returns:
        `{layer: {name: array (B, T, U)}}`, in the order in which the layers run: the gates that
        are not constant by name ("input", "forget", "reset", "output"), "candidate", the memory
        "c" of a cell that has one, and the output "h". Tied gates are there too. Time is that of
        the inputs, also for a layer that runs backwards; masked time steps are NaN. Layers whose
        names are not unique are called by their path; a layer that is called several times has
        " (2)" and so on behind its name.

    Raises:
        ValueError: if there is no gated layer.

    Example:
        >>> kg.trace_gates(model, x)["gated_lstm"]["forget"].shape
        (32, 100, 64)
    """
    watch = _Watch()
    # A compiled model runs as a graph only through `predict` and the like; a call is eager.
    try:
        with run_by(watch):
            model_or_layer(keras.tree.map_structure(ops.convert_to_tensor, x), training=False)
    finally:
        for variable, value in watch.before:
            variable.assign(value)
    if not watch.found:
        raise ValueError(
            "Argument `model_or_layer` must have a layer GatedRNN, GatedLSTM or GatedGRU that runs "
            f"when it is called. Received: {model_or_layer!r}. A stock layer becomes gated by "
            "keras_gated.from_keras(model)."
        )
    return _named(watch.found)


class _Watch:
    """Runs layers over time one step after another and keeps what their cells show."""

    def __init__(self):
        self.found: list[tuple[GatedRNN, dict]] = []
        self.before: list[tuple] = []  # the states of stateful layers, as they were first

    def __call__(self, layer, sequences, states, mask, drawn) -> tuple:
        self._remember(layer)
        time = range(sequences.shape[1])
        order = time[::-1] if layer.go_backwards else time
        seen, outputs = {}, []
        silence = shown = ops.zeros_like(states[0])  # what a masked time step gives
        for t in order:
            with _watched(layer.cell) as values:
                output, new = layer.cell(sequences[:, t], states)
            behind = zip(layer.cell.form.states, new, strict=False)  # zoneout is behind the formula
            values.update({k: state for k, state in behind if k in values})
            valid = None if mask is None else mask[:, t : t + 1]
            if valid is not None:
                output = ops.where(valid, output, cast_like(shown, output))
                new = [ops.where(valid, n, s) for n, s in zip(new, states, strict=True)]
            seen[t] = {k: _to_numpy_masked(v, valid) for k, v in values.items()}
            outputs.append(output)
            shown, states = silence if layer.zero_output_for_mask else output, new
        kept = {k: np.stack([seen[t][k] for t in time], axis=1) for k in seen[0]}
        self.found.append((layer, kept))
        return output, ops.stack(outputs, axis=1), states

    def _remember(self, layer: GatedRNN) -> None:
        known = {id(variable) for variable, _ in self.before}
        if layer.stateful and not known & {id(variable) for variable in layer.states}:
            self.before += [(variable, ops.copy(variable)) for variable in layer.states]


@contextmanager
def _watched(cell: GatedCell):
    """A dictionary that holds, behind it, what a step computed."""
    values = {}
    names = [k for k in GATES if cell.form.gates[k].constant is None]
    names += ["candidate", *(k for k in ("c", "h") if k in cell.form.states)]

    class Shown(Hooks):
        def values(self, **found):
            values.update({name: found[name] for name in names})

    with cell.with_hooks(Shown()):
        yield values


def _to_numpy_masked(value, valid) -> np.ndarray:
    """(B, U) as NumPy, NaN where a row's time step is masked."""
    value = np.array(ops.convert_to_numpy(ops.cast(value, "float32")))
    if valid is not None:
        value[~np.asarray(ops.convert_to_numpy(valid), bool)[:, 0]] = np.nan
    return value


def _named(found: list[tuple[GatedRNN, dict]]) -> Trace:
    layers = {id(layer): layer for layer, _ in found}.values()
    names = [layer.name for layer in layers]
    trace: Trace = {}
    for layer, kept in found:
        name = layer.name if names.count(layer.name) == 1 else layer.path
        times = sum(key == name or key.startswith(f"{name} (") for key in trace)
        trace[f"{name} ({times + 1})" if times else name] = kept
    return trace


def half_life(forget: np.ndarray) -> np.ndarray:
    """How many time steps it takes each unit to forget half of its memory.

    Args:
        forget: values of a forget gate (B, T, U) between 0 and 1, NaN where masked.

    Returns:
        (U,): ln 2 divided by the mean of -ln f over rows and time steps; infinite where f is 1.
        What zoneout keeps beside the gate is not counted.
    """
    with np.errstate(divide="ignore"):
        decay = -np.nanmean(np.log(np.clip(forget, 0.0, 1.0)), axis=(0, 1))
        return np.log(2.0) / np.maximum(decay, 0.0)


def saturation(gate: np.ndarray, margin: float = 0.1) -> tuple[float, float]:
    """The shares of a gate's values below `margin` and above `1 - margin`.

    After Karpathy, Johnson and Fei-Fei 2015, arXiv:1506.02078, who plot them for each unit.
    """
    valid = gate[~np.isnan(gate)]
    return float((valid < margin).mean()), float((valid > 1.0 - margin).mean())
