"""Runs a cell over time: the one place where the way is chosen.

| way | when |
|---|---|
| a runner given by `run_by` | a model is traced for its gates, or exported |
| cuDNN (`fused`) | the layer has `use_cudnn=True` |
| all time steps at once (`parallel_scan`) | `time_parallel`, and the memory is linear |
| all time steps at once (`newton`) | `time_parallel=True`, and each unit sees itself alone |
| an operator of the backend (`fused`) | torch has one, and it computes the cell |
| in a loop with the engine's own gradient (`loop`) | everything else that it can differentiate |
| in a loop that the backend differentiates | `GatedCell.automatic_reason`, or `unroll=True` |
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

from keras import ops

from keras_gated.engine import newton
from keras_gated.engine.backends.selected import backend
from keras_gated.engine.backends.unrolled import unrolled_loop
from keras_gated.engine.call import RecurrentCall
from keras_gated.engine.fused import must_run_on_cudnn, run_fused, run_on_cudnn, runs_fused
from keras_gated.engine.loop import EngineLoop, reads_input
from keras_gated.engine.parallel_scan import run_all_steps

Runner = Callable[[RecurrentCall], tuple | None]
_runner: ContextVar[Runner | None] = ContextVar("keras_gated_runner", default=None)


@contextmanager
def run_by(runner: Runner) -> Iterator[None]:
    """Inside this context, `runner` runs gated layers over time.

    Args:
        runner: takes a `RecurrentCall` and returns what `run` does, or None: then a loop that the
            backend differentiates runs it.
    """
    token = _runner.set(runner)
    try:
        yield
    finally:
        _runner.reset(token)


def run(call: RecurrentCall) -> tuple:
    """Runs a cell over time.

    Returns:
        The last output (B, U), the outputs (B, T, U), or (B, 1, U) without return_sequences, and
        the list of last states.

    Raises:
        ValueError: if torch traces a model whose time axis is open, or cuDNN must run what it
            cannot.
    """
    if call.open_time and backend.traced_for_one_length():
        raise ValueError(
            f"The export of {call.layer.name} would be right for one length of sequences alone: "
            "torch records a copy of the step for each time step. Received: an open time axis. "
            "Use keras_gated.export_onnx(model, path), which keeps the axis open, or give the axis "
            "a size, e.g. keras.Input((10, features))."
        )
    if runner := _runner.get():
        result = runner(call)
        return _run_recorded(call) if result is None else result
    call = call if call.mask is None else replace(call, zero_masked=True)
    if must_run_on_cudnn(call):
        return call.result(*run_on_cudnn(call))
    if runs_parallel(call):
        return call.result(*run_all_steps(call))
    if runs_newton(call):
        return _time_first(call, newton.run_newton(call))
    if runs_fused(call):
        return call.result(*run_fused(call))
    if call.unroll or call.cell.automatic_reason:
        return run_with_automatic_gradient(call)
    return _time_first(call, EngineLoop(call, reads_input(call)).run())


def runs_parallel(call: RecurrentCall) -> bool:
    """Returns whether all time steps are computed at once: asked for, possible and worth it."""
    wanted = call.time_parallel and call.cell.form.linear_memory
    if call.time_parallel == "auto":
        wanted = call.cell.parallel_in_time and not call.unroll and backend.accelerated()
    return bool(wanted) and isinstance(call.sequences.shape[1], int)


def runs_newton(call: RecurrentCall) -> bool:
    """Returns whether the states of all time steps are found at once, by Newton's method."""
    # The number of rounds depends on the values: a record of those of an example is wrong.
    return call.time_parallel is True and newton.fits(call) and not backend.is_recorded()


def run_with_automatic_gradient(call: RecurrentCall) -> tuple:
    """Runs a cell in a loop that the backend differentiates."""
    return run_in_loop(call, unrolled_loop if call.unroll else backend.loop)


def _run_recorded(call: RecurrentCall) -> tuple:
    """Runs a cell in a loop whose graph is the same with and without an accelerator."""
    return run_in_loop(call, unrolled_loop if call.unroll else backend.recorded_loop)


def run_in_loop(call: RecurrentCall, loop: Callable) -> tuple:
    """Runs a cell in a loop of the caller's, which is called as `backend.loop`."""
    return _time_first(call, EngineLoop(call).run_in(loop))


def _time_first(call: RecurrentCall, result: tuple) -> tuple:
    """The result of a loop, whose outputs are (T, B, U), or None."""
    h, states = result
    return call.result(None if h is None else ops.transpose(h, (1, 0, 2)), states)
