"""How a cell is run over time: the one place where the loop is chosen."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import keras
from keras import ops

from keras_gated.engine.backends.current import backend
from keras_gated.engine.layout import OF_INPUT, result_of, separate_columns, time_major
from keras_gated.engine.loop import Sequence
from keras_gated.engine.parallel_scan import run_parallel
from keras_gated.engine.random_masks import RandomMasks, is_series

Runner = Callable[..., tuple | None]
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
_runner: ContextVar[Runner | None] = ContextVar("keras_gated_runner", default=None)


@contextmanager
def run_by(runner: Runner) -> Iterator[None]:
    """Inside, gated layers are run over time by `runner` where it takes them.

    Args:
        runner: (layer, sequences, states, mask, drawn) -> (last output, outputs, states), or None
            to leave the layer to Keras's own loop. The sequences (B, T, k F) are windowed and in
            the order in which they were given, also with `layer.go_backwards`.
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
        sequences: (B, T, k F), the window of k inputs laid.
        states: list of (B, U).
        mask: bool (B, T) or None.
        drawn: what was drawn for the sequences.
        loop: () -> result, Keras's own loop over the cell.

    Returns:
        The last output (B, U), the outputs (B, T, U) (Keras's loop gives (B, 1, U) without
        return_sequences), and the list of last states.
    """
    runner = _runner.get()
    if runner:
        result = runner(layer, sequences, states, mask, drawn)
        if result is not None:
            return result
    elif takes_parallel(layer, sequences):
        return run_at_once(layer, sequences, states, mask, drawn)
    elif takes(layer):
        return run_fused(layer, sequences, states, mask, drawn)
    return loop() if mask is None or ON_TENSORFLOW else _silenced(layer, mask, *loop())


def takes(layer) -> bool:
    """Whether the engine can run the layer; if not, Keras's own loop does."""
    return layer.cell.loop_reason is None and not layer.unroll


def takes_parallel(layer, sequences) -> bool:
    """Whether the layer is run for all time steps at once: wanted, possible and worth it."""
    wanted = layer.time_parallel
    if wanted == "auto":
        wanted = layer.cell.linear and not layer.unroll and backend.accelerated()
    return wanted and sequences.shape[1] is not None


def run_fused(layer, sequences, states, mask, drawn: RandomMasks, loop=None):
    """Runs a layer's cell over time in a loop; arguments and result as `run`.

    Args:
        loop: like `backend.loop`, runs the step over time instead, without a gradient.
    """
    cell = layer.cell
    x = time_major(layer, sequences)
    valid = None if mask is None else time_major(layer, ops.cast(mask, x.dtype)[..., None])
    weights = cell.tensors
    terms = cell.input_terms(weights, x, separate_columns, valid, drawn.training)
    used = {k: w for k, w in weights.items() if k not in OF_INPUT}
    zoneout = [time_major(layer, d) if is_series(d) else d for d in drawn.zoneout]
    sequence = Sequence(cell.formula, used, terms, states, valid, drawn._replace(zoneout=zoneout))
    h, last = sequence.run() if loop is None else sequence.run_by(loop)
    return result_of(layer, ops.transpose(h, (1, 0, 2)), last, mask)


def run_at_once(layer, sequences, states, mask, drawn: RandomMasks):
    """Runs a layer's cell for all time steps at once; arguments and result as `run`."""
    return result_of(layer, *run_parallel(layer, sequences, states, mask, drawn), mask)


def _silenced(layer, mask, last, outputs, states) -> tuple:
    """What Keras's loop returned, 0 before the first valid step, where some backends show h_0."""
    valid = ops.cast(ops.flip(mask, axis=1) if layer.go_backwards else mask, "int32")
    seen = ops.cumsum(valid, axis=1)[..., None] > 0
    shown = seen if layer.return_sequences else seen[:, -1:]
    silence = ops.zeros_like(last)
    return (
        ops.where(seen[:, -1], last, silence),
        ops.where(shown, outputs, silence[:, None]),
        states,
    )
