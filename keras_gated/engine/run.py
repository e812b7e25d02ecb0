"""Runs a cell over time: the one place where the loop is chosen.

| loop | when |
|---|---|
| a runner given by `run_by` | a model is traced for its gates, or exported |
| `parallel_scan` | `time_parallel`, and the memory is linear |
| `loop`, this package's own | everything else that it can differentiate |
| Keras's own | `GatedCell.loop_reason`, or `unroll=True` |
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import keras
from keras import ops

from keras_gated.engine.backends.selected import backend
from keras_gated.engine.loop import EngineLoop
from keras_gated.engine.parallel_scan import run_all_steps
from keras_gated.engine.random_masks import RandomMasks, is_series
from keras_gated.engine.time_major import OF_INPUT, result_of, separate_columns, time_major

Runner = Callable[..., tuple | None]
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
_runner: ContextVar[Runner | None] = ContextVar("keras_gated_runner", default=None)


@contextmanager
def run_by(runner: Runner) -> Iterator[None]:
    """Inside this context, `runner` runs gated layers over time.

    Args:
        runner: (layer, sequences, states, mask, drawn) -> (last output, outputs, states), or None:
            then Keras's own loop runs the layer. The sequences are windows (B, T, k F), in the
            order of the call, also with `layer.go_backwards`.
    """
    token = _runner.set(runner)
    try:
        yield
    finally:
        _runner.reset(token)


def run(layer, sequences, states, mask, drawn: RandomMasks, loop: Callable[[], tuple]) -> tuple:
    """Runs a layer's cell over time.

    Args:
        layer: a `GatedRNN`.
        sequences: (B, T, k F), windows of k inputs.
        states: list of (B, U).
        mask: bool (B, T) or None.
        drawn: `RandomMasks` of the batch.
        loop: () -> result of Keras's own loop over the cell.

    Returns:
        The last output (B, U), the outputs (B, T, U) (Keras's loop gives (B, 1, U) without
        return_sequences), and the list of last states.
    """
    runner = _runner.get()
    if runner:
        result = runner(layer, sequences, states, mask, drawn)
        if result is not None:
            return result
    elif runs_parallel(layer, sequences):
        return run_parallel(layer, sequences, states, mask, drawn)
    elif engine_can_run(layer):
        return run_in_engine(layer, sequences, states, mask, drawn)
    return loop() if mask is None or ON_TENSORFLOW else _zero_before_first(layer, mask, *loop())


def engine_can_run(layer) -> bool:
    """Returns whether the engine can run the layer; if not, Keras's own loop does."""
    return layer.cell.loop_reason is None and not layer.unroll


def runs_parallel(layer, sequences) -> bool:
    """Returns whether all time steps are computed at once: asked for, possible and worth it."""
    wanted = layer.time_parallel
    if wanted == "auto":
        wanted = layer.cell.parallel_in_time and not layer.unroll and backend.accelerated()
    return wanted and sequences.shape[1] is not None


def run_in_engine(layer, sequences, states, mask, drawn: RandomMasks, loop=None):
    """Runs a layer's cell over time in a loop; arguments and result as `run`.

    Args:
        loop: called as `backend.loop`; runs the step over time instead, without a gradient.
    """
    cell = layer.cell
    x = time_major(layer, sequences)
    valid = None if mask is None else time_major(layer, ops.cast(mask, x.dtype)[..., None])
    weights = cell.tensors
    terms = cell.input_terms(weights, x, separate_columns, valid, drawn.training)
    used = {k: w for k, w in weights.items() if k not in OF_INPUT}
    zoneout = [time_major(layer, d) if is_series(d) else d for d in drawn.zoneout]
    fused = EngineLoop(cell.formula, used, terms, states, valid, drawn._replace(zoneout=zoneout))
    h, last = fused.run() if loop is None else fused.run_without_gradient(loop)
    return result_of(layer, ops.transpose(h, (1, 0, 2)), last, mask)


def run_parallel(layer, sequences, states, mask, drawn: RandomMasks):
    """Runs a layer's cell for all time steps at once; arguments and result as `run`."""
    return result_of(layer, *run_all_steps(layer, sequences, states, mask, drawn), mask)


def _zero_before_first(layer, mask, last, outputs, states) -> tuple:
    """The result of Keras's loop, 0 before the first valid step: JAX and torch give h_0 there."""
    valid = ops.cast(ops.flip(mask, axis=1) if layer.go_backwards else mask, "int32")
    seen = ops.cumsum(valid, axis=1)[..., None] > 0
    at_outputs = seen if layer.return_sequences else seen[:, -1:]
    zeros = ops.zeros_like(last)
    return (
        ops.where(seen[:, -1], last, zeros),
        ops.where(at_outputs, outputs, zeros[:, None]),
        states,
    )
