"""How a cell is run over time: the one place where the loop is chosen."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import keras
from keras import ops

from keras_gated.draws import Draws
from keras_gated.recurrence.fused import run_at_once, run_fused, takes, takes_parallel

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


def run(layer, sequences, states, mask, drawn: Draws, loop: Callable[[], tuple]) -> tuple:
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
