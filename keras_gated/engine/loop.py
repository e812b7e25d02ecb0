"""One call of a cell over time: its tensors, and the plan by which the loop runs over them."""

from typing import Any

import keras
from keras import ops

from keras_gated.engine.backends.selected import backend
from keras_gated.engine.call import RecurrentCall, is_series
from keras_gated.engine.formula import SKIP, Hooks, cast_like, separate_columns
from keras_gated.engine.loop_plan import DRAWN, LoopPlan, not_none, states_before

_ONE_WIDE_TYPE = ({"float32"}, {"float64"})


class _ValuesHooks(Hooks):
    """Collects the values of a step."""

    def __init__(self):
        self.found: dict[str, Any] = {}

    def values(self, **values):
        self.found = values


def reads_input(call: RecurrentCall) -> bool:
    """Returns whether the loop makes the products of a call in each step, see `loop_plan`.

    It pays where XLA compiles the loop for a processor and the batch is known to be large. The
    gradients are summed in the type of the weights, so these must not have 16 bits.
    """
    cell, kernel, h = call.cell, call.weights.get("kernel"), call.states[0]
    if kernel is None or cell.normalizer is not None or backend.accelerated():
        return False
    types = {keras.backend.standardize_dtype(x.dtype) for x in (kernel, h)}
    batch = h.shape[0]  # None where it is open, on JAX a symbol
    return types in _ONE_WIDE_TYPE and isinstance(batch, int) and batch >= backend.LARGE_BATCH


class EngineLoop:
    """The loop over time for one call; shapes are time-major.

    Args:
        call: a `RecurrentCall`.
        reads_input: whether the loop makes the products in each step; only for `run`.
    """

    def __init__(self, call: RecurrentCall, reads_input: bool = False):
        cell, drawn = call.cell, call.drawn
        x, mask = call.time_major(call.sequences), None
        if call.mask is not None:  # of the type of x, 1 where a time step counts
            mask = call.time_major(ops.cast(call.mask, x.dtype)[..., None])
        goes_on = call.goes_on(x.dtype)
        goes_on = None if goes_on is None else ops.transpose(goes_on, (1, 0, 2))
        x, weights, clock = call.readable(x, mask), dict(call.weights), []
        if reads_input:
            blocks = [k for k, b in cell.form.blocks.items() if b.kernel]
            of_input, blocks = [x], blocks + [SKIP] * cell.form.input_skip
        else:
            terms = cell.input_terms(weights, x, separate_columns, mask, drawn.training)
            of_input, blocks = list(terms.values()), terms
            weights = {k: w for k, w in weights.items() if k not in cell.formula.of_input}
            # A loop needs a series to run over, even if no block sees the input.
            clock = [] if terms else [x[..., :1]]
        self.plan = LoopPlan(
            formula=cell.formula,
            input_blocks=tuple(blocks),
            reads_input=reads_input,
            names=tuple(weights),
            has_mask=tuple(x is not None for x in (mask, goes_on, *drawn.dropout)),
            zoneout=tuple(DRAWN if is_series(rate) else rate for rate in drawn.zoneout),
            sequences=call.return_sequences,
        )
        series = [call.time_major(rate) for rate in drawn.series]
        masks = not_none(mask, goes_on, *drawn.dropout, *series)
        # One flat list, since that is what a custom gradient takes; `sort` takes it apart.
        self.tensors = [*of_input, *call.states, *weights.values(), *masks, *clock]

    def run(self) -> tuple[Any, list]:
        """Runs the loop with the engine's own gradient.

        Returns:
            h for all time steps (T, B, U), or None where only the last one is asked for, and the
            last states.
        """
        outputs = backend.with_gradient(self.plan, self.tensors)
        return self.plan.outputs_and_states(outputs)

    def run_in(self, loop) -> tuple[Any, list]:
        """Returns the same; `loop`, called as `backend.loop`, runs the step over time.

        There is no gradient of our own: the backend differentiates the loop, or the loop writes an
        ONNX Scan. A file has no compiler behind it, so the biases are added for all time steps at
        once, before the loop.
        """
        inputs = self.plan.sort([ops.copy(x) for x in self.tensors])  # of a variable, a tensor
        weights = self.plan.formula.slice_weights(inputs.weights)
        biases = weights["bias", 0]  # of 32 bits under mixed precision, as the step adds them
        # A product that gates share has no bias of its own.
        ready = set(biases) - ({"candidate"} if self.plan.formula.form.shared else set())
        terms = {
            k: cast_like(x, biases[k]) + biases.pop(k) if k in ready else x
            for k, x in inputs.terms.items()
        }
        last, h = self.plan.over_time(inputs._replace(terms=terms), weights, False, loop)
        return self.plan.outputs_and_states([*h, *last])

    def states_before(self, states: list) -> list:
        """Returns the states before each step, from the series of those after each step."""
        return states_before(self.plan.sort(self.tensors), states)

    def values_of_steps(self) -> tuple[dict, list, list]:
        """Runs the loop; then returns what all steps computed, the series of states, and the last.

        The states of all steps are known then, so one step of the formula, for all time steps at
        once, gives the values of the gates.
        """
        inputs, hooks, formula = self.plan.sort(self.tensors), _ValuesHooks(), self.plan.formula
        weights = formula.slice_weights(inputs.weights)
        last, residuals = self.plan.over_time(inputs, weights, True, backend.loop)
        states = residuals[: len(last)]
        formula.step(weights, inputs.terms, states_before(inputs, states), inputs.dropout, hooks)
        return hooks.found, states, last
