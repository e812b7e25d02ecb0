"""Gate traces: the values of a model's gates at every time step, and numbers that sum them up.

`trace_gates` calls the model with a runner in place of the engine's loop. It (`_GateRecorder`)
runs each cell in that loop, and then one step of the formula for all time steps at once.
"""

from typing import Any

import numpy as np
from keras import ops

from keras_gated.engine.call import RecurrentCall
from keras_gated.engine.loop import EngineLoop
from keras_gated.inspection.recorded_runs import by_layer_name, recorded_by, run_once
from keras_gated.layers import GatedRNN

GATES = ("input", "forget", "reset", "output")
Trace = dict[str, dict[str, np.ndarray]]


def trace_gates(model_or_layer: Any, x: Any) -> Trace:
    """Runs a model or layer and returns the values of its gates at every time step.

    The model is not changed. It may be compiled, trained, loaded from a file or nested in another;
    layers in a `Bidirectional` and layers with masks are traced like any other.

    Args:
        model_or_layer: a Keras model, or one gated layer.
        x: what the model is called with: sequences (B, T, F), or a list or dictionary of inputs.

    Returns:
        `{layer: {name: array (B, T, U)}}`, layers in the order in which they run. The names are
        those of the gates that are not constant ("input", "forget", "reset", "output"; tied gates
        too), "candidate", the memory "c" if the cell has one, with a normaliser "n" and "m", and
        the output "h". Time steps are in the order of the inputs, also for a layer with
        go_backwards. Masked time steps are NaN. If layer names are not unique, the key is the
        layer's path. If a layer is called several times, the later keys end in " (2)" and so on.

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
    with recorded_by(tracer):
        run_once(model_or_layer, x)
    if not tracer.runs:
        raise ValueError(
            "Argument `model_or_layer` must have a GatedRNN, GatedLSTM or GatedGRU layer that runs "
            f"when it is called. Received: {model_or_layer!r}. Convert Keras's own layers first, "
            "with keras_gated.from_keras(model)."
        )
    return by_layer_name(tracer.runs)


class _GateRecorder:
    """Runs layers over time and records the values of their gates. A runner, see `engine.run`.

    Attributes:
        runs: for each call of a layer the layer, and its values {name: (B, T, U)}.
    """

    def __init__(self):
        self.runs: list[tuple[GatedRNN, dict]] = []

    def __call__(self, call: RecurrentCall) -> tuple:
        form = call.cell.form
        values, states, last = EngineLoop(call).values_of_steps()
        # The step saw the memory before zoneout; the states are those after it.
        values |= dict(zip(form.states, states, strict=True))
        names = [k for k in GATES if form.gates[k].constant is None]
        names += ["candidate", *(k for k in ("c", "n", "m", "h") if k in form.states)]
        self.runs.append((call.layer, {k: _to_numpy_masked(call, values[k]) for k in names}))
        return call.result(ops.transpose(states[0], (1, 0, 2)), last)


def _to_numpy_masked(call: RecurrentCall, value) -> np.ndarray:
    """(T, B, U) as float32 (B, T, U), in the order of the inputs, with NaN at masked time steps."""
    value = value + ops.zeros_like(call.states[0][None, :, :1])  # a bias alone is (U,)
    array = np.swapaxes(ops.convert_to_numpy(ops.cast(value, "float32")), 0, 1)
    array = np.broadcast_to(array, (*call.sequences.shape[:2], array.shape[-1])).copy()
    array = array[:, ::-1] if call.go_backwards else array
    if call.mask is not None:
        array[~np.asarray(ops.convert_to_numpy(call.mask), bool)] = np.nan
    return array


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
