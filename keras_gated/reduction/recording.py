"""What the gates of a model saw on data: a sample of time steps of each gated layer.

The pre-activation of a gate is linear in what its kernels see. So the inputs and states of enough
time steps are all that a fit of a smaller gate needs. A sample has a bounded size: data of any
length fit.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from keras_gated.engine.call import RecurrentCall
from keras_gated.engine.loop import EngineLoop
from keras_gated.inspection.recorded_runs import recorded_by, run_once
from keras_gated.layers import GatedRNN
from keras_gated.spec.cell_spec import GATES

ROWS = 4096  # time steps of a sample


@dataclass
class Recording:
    """Time steps that one layer ran, drawn at random from all that are not masked.

    Attributes:
        x: what the kernels see of the input (N, F): after the window and the input projection.
        before: the states before the step, by name: "h" (N, P), "c" (N, U).
        values: the gates, "candidate", "c" and "h" of the step, by name, (N, U).
        output_mean: the mean (P,) of the layer's output, over the time steps that it returns.
    """

    x: np.ndarray
    before: dict[str, np.ndarray]
    values: dict[str, np.ndarray]
    output_mean: np.ndarray

    @property
    def memory_before(self) -> np.ndarray:
        """The memory before the step."""
        return self.before.get("c", self.before["h"])


def record(model: Any, batches: Iterable, rows: int = ROWS, seed: int = 0) -> dict:
    """Runs a model on batches of inputs; returns a `Recording` of each gated layer, by layer.

    Args:
        model: a model with gated layers. It is not changed.
        batches: inputs, as the model is called with.
        rows: how many time steps are kept of each layer.
        seed: int, of the draw.
    """
    recorder = _Recorder(rows, np.random.default_rng(seed))
    with recorded_by(recorder):
        for x in batches:
            run_once(model, x)
    return {layer: sample.recording() for layer, sample in recorder.samples.items()}


class _Recorder:
    """Runs layers over time and keeps time steps of them. A runner, see `engine.run`."""

    def __init__(self, rows: int, rng: np.random.Generator):
        self.rows, self.rng = rows, rng
        self.samples: dict[GatedRNN, _Sample] = {}

    def __call__(self, call: RecurrentCall) -> tuple:
        layer, form = call.layer, call.cell.form
        loop = EngineLoop(call)
        values, states, last = loop.values_of_steps()
        series = dict(zip(form.states, states, strict=True))
        before = dict(zip(form.states, loop.states_before(states), strict=True))
        gates = {k: values[k] for k in GATES if form.gates[k].constant is None}
        found = {"x": call.time_major(call.cell.formula.projected(call.weights, call.sequences))}
        found |= {f"before {k}": before[k] for k in ("h", "c") if k in before}
        # The output gate sees the memory before zoneout, which the series of states do not have.
        found |= gates | {"candidate": values["candidate"]} | series
        found |= {"c": values["c"]} if "c" in series else {}
        sample = self.samples.setdefault(layer, _Sample(self.rows))
        sample.add(_valid_rows(call, found), self.rng)
        if not call.return_sequences:
            sample.last_outputs.append(ops.convert_to_numpy(last[0]))
        return call.result(ops.transpose(states[0], (1, 0, 2)), last)


def _valid_rows(call: RecurrentCall, series: dict) -> dict[str, np.ndarray]:
    """Arrays (N, ...) of the time steps that are not masked, from series (T, B, ...)."""
    shape = (call.sequences.shape[1], call.sequences.shape[0])
    valid = np.ones(shape, bool)
    if call.mask is not None:
        mask = ops.cast(call.mask, "int32")[..., None]
        valid = ops.convert_to_numpy(call.time_major(mask))[..., 0] > 0
    # A bias alone is (U,), the same at all time steps.
    arrays = {k: ops.convert_to_numpy(ops.cast(v, "float32")) for k, v in series.items()}
    return {k: np.broadcast_to(a, (*shape, a.shape[-1]))[valid] for k, a in arrays.items()}


class _Sample:
    """A random sample of rows, each row with the same probability (reservoir sampling)."""

    def __init__(self, rows: int):
        self.rows, self.keys = rows, np.empty(0)
        self.arrays: dict[str, np.ndarray] = {}
        self.last_outputs: list[np.ndarray] = []

    def add(self, arrays: dict[str, np.ndarray], rng: np.random.Generator) -> None:
        """Takes rows from arrays (N, ...): those with the smallest of all keys drawn stay."""
        keys = np.concatenate([self.keys, rng.random(len(arrays["x"]))])
        best = np.sort(np.argsort(keys)[: self.rows])
        self.keys = keys[best]
        for name, new in arrays.items():
            old = self.arrays.get(name, new[:0])
            self.arrays[name] = np.concatenate([old, new])[best]

    def recording(self) -> Recording:
        """The sample as a `Recording`."""
        prefix = "before "
        before = {k.removeprefix(prefix): a for k, a in self.arrays.items() if prefix in k}
        rest = {k: a for k, a in self.arrays.items() if prefix not in k and k != "x"}
        outputs = np.concatenate(self.last_outputs) if self.last_outputs else rest["h"]
        return Recording(self.arrays["x"], before, rest, outputs.sum(axis=0) / max(1, len(outputs)))
