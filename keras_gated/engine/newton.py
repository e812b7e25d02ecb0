r"""Nonlinear cells whose units see only themselves, for all time steps at once: Newton in time.

The states of all time steps solve `s_t = step(s_{t-1}, x_t)`. Newton's method guesses all of them,
and then corrects all of them at once. With the slopes `J_t` of the step by the states before it,
the correction is a linear recurrence, which an associative scan solves in O(log T) depth:

    d_t = J_t d_{t-1} + (step(s_{t-1}, x_t) - s_t),    d_0 = 0

If all recurrent kernels are diagonal or identity, a unit sees only its own states: `J_t` is one
number for each unit (h), or 2 by 2 (h and c). T rounds are exact; a few usually do. Where they do
not, or where a number is not finite, the loop over time runs instead. So the numbers are the
loop's, up to rounding.

The gradient does not go through the rounds. At the states that were found it is one more linear
recurrence, backwards, with the transposed slopes: `λ_t = u_t + J_{t+1}ᵀ λ_{t+1}`. Products of many
slopes can overflow where the loop's numbers are finite: then the loop runs back, too.

References:
    - Danieli et al., "ParaRNN: unlocking parallel training of nonlinear RNNs for large language
      models", 2025. arXiv:2510.21450.
    - Lim et al., "Parallelizing non-linear sequential models over the sequence length", 2023.
      arXiv:2309.12252.
"""

from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gated.engine.backends.selected import backend
from keras_gated.engine.call import RecurrentCall
from keras_gated.engine.formula import Formula, cast_like
from keras_gated.engine.loop import EngineLoop
from keras_gated.engine.loop_plan import Inputs, LoopPlan

MOST_ROUNDS = 24  # after which the loop runs
TYPES = ("float32", "float64")  # of states; with fewer bits a tolerance would say nothing

Slopes = list[list[Any]]  # of each state by each state before, (T, B, U); None is 0


def fits(call: RecurrentCall) -> bool:
    """Returns whether Newton's method can find the states of a call."""
    time = call.sequences.shape[1]  # None where it is open; JAX also exports symbols
    known = time is None or isinstance(time, int)
    return call.cell.newton_in_time and known and _dtype(call.states[0]) in TYPES


def run_newton(call: RecurrentCall) -> tuple[Any, list]:
    """Runs a cell for all time steps, with a gradient of its own.

    Args:
        call: one that `fits`.

    Returns:
        h for all time steps (T, B, U), or None where only the last one is asked for, and the last
        states.
    """
    loop = EngineLoop(call)
    outputs = backend.with_gradient(NewtonPlan(loop.plan, MOST_ROUNDS), loop.tensors)
    return loop.plan.outputs_and_states(outputs)


def count_rounds(call: RecurrentCall) -> tuple[Any, Any]:
    """Returns how many rounds a call takes, and whether they end with the loop's numbers."""
    loop = EngineLoop(call if call.mask is None else replace(call, zero_masked=True))
    plan = NewtonPlan(loop.plan, MOST_ROUNDS)
    inputs = loop.plan.sort(loop.tensors)
    _, rounds, converged = plan.solve(inputs, loop.plan.formula.slice_weights(inputs.weights))
    return rounds, converged


@dataclass(frozen=True)
class NewtonPlan:
    """Newton's method for the loop of a plan; as a `LoopPlan` it has no tensors.

    Attributes:
        plan: the plan of the loop.
        most_rounds: after which the loop runs.
    """

    plan: LoopPlan
    most_rounds: int

    @property
    def formula(self) -> Formula:
        return self.plan.formula

    def forward(self, *tensors, keep: bool = True):
        """Returns [h of all time steps if asked for, *last states], and the series of states."""
        inputs = self.plan.sort(tensors)
        weights = self.formula.slice_weights(inputs.weights)
        found, _, converged = self.solve(inputs, weights)

        def in_loop():
            _, residuals = self.plan.over_time(inputs, weights, True, backend.loop)
            return list(residuals[: self.plan.count])

        states = ops.cond(converged, lambda: list(found), in_loop)
        outputs = [*(states[:1] if self.plan.sequences else []), *(s[-1] for s in states)]
        return outputs, list(states)

    def solve(self, inputs: Inputs, weights: dict) -> tuple[list, Any, Any]:
        """Returns the series of states, the rounds taken, and whether they have converged."""
        tolerance = 64.0 * float(np.finfo(_dtype(inputs.states[0])).eps)

        def step(*before):
            return self.plan.advance_all(inputs, weights, list(before))

        def goes_on(rounds, error, *states):
            return ops.logical_and(error > tolerance, rounds < self.most_rounds)

        def improve(rounds, error, *states):
            before = _shifted(inputs.states, states)
            wrong = [new - s for new, s in zip(step(*before), states, strict=True)]
            scaled = [abs(w) / (1.0 + abs(s)) for w, s in zip(wrong, states, strict=True)]
            error = ops.max(ops.stack([ops.max(e, initial=0.0) for e in scaled]))
            corrections = solve_recurrence(backend.partials(step, before), wrong)
            better = [s + d for s, d in zip(states, corrections, strict=True)]
            return rounds + 1, error, *better

        series = next(iter(inputs.terms.values()))
        zeros = [ops.zeros_like(cast_like(series, s)) for s in inputs.states]
        first = step(*_shifted(inputs.states, zeros))
        error = ops.ones((), dtype=_dtype(first[0]))
        rounds, error, *states = ops.while_loop(goes_on, improve, (0, error, *first))
        # The error is that of the states before the last correction. NaN is not below anything.
        return states, rounds, ops.logical_and(error <= tolerance, _all_finite(states))

    def backward(self, tensors, residuals, upstream):
        """Returns the gradient of each tensor, see `LoopPlan.backward`."""
        found = self._back_at_once(tensors, residuals, upstream)

        def in_loop():
            _, residuals = self.plan.forward(*tensors)
            back = self.plan.backward(tensors, residuals, upstream)
            return [cast_like(d, like) for d, like in zip(back, found, strict=True)]

        return ops.cond(_all_finite(found), lambda: list(found), in_loop)

    def _back_at_once(self, tensors, residuals, upstream) -> list:
        inputs, plan = self.plan.sort(tensors), self.plan
        before = _shifted(inputs.states, residuals)
        weights = self.formula.slice_weights(inputs.weights)
        slopes = backend.partials(
            lambda *before: plan.advance_all(inputs, weights, list(before)), before
        )
        of_new = _back_over_time(slopes, residuals, upstream, plan.count)
        names, values = list(inputs.terms), list(inputs.terms.values())

        def step(*tensors):
            terms = dict(zip(names, tensors[: len(names)], strict=True))
            own = dict(zip(plan.names, tensors[len(names) :], strict=True))
            own = self.formula.slice_weights(own)
            return plan.advance_all(inputs._replace(terms=terms), own, before)

        found = backend.vjp(step, [*values, *inputs.weights.values()], of_new)
        of_states = _times_transposed(slopes, of_new)
        others = tensors[len(names) + plan.count + len(plan.names) :]
        return [
            *found[: len(names)],
            *(d[0] for d in of_states),
            *found[len(names) :],
            *(ops.zeros_like(x) for x in others),
        ]


def _back_over_time(slopes: Slopes, states, upstream, count: int) -> list:
    """The gradients of the states after each step: from above, and from the steps behind it."""
    of_h, of_last = upstream[:-count], upstream[-count:]
    rows = [
        ops.concatenate([ops.zeros_like(s[:-1]), last[None]])
        for s, last in zip(states, of_last, strict=True)
    ]
    rows = [row + d for row, d in zip(rows, [*of_h, *[0.0] * count], strict=False)]
    # Backwards step t is reached through the slopes of step t + 1: the first one through none.
    transposed = [[slopes[i][j] for i in range(count)] for j in range(count)]
    backwards = [[_shifted_back(x) for x in row] for row in transposed]
    found = solve_recurrence(backwards, [ops.flip(row, axis=0) for row in rows])
    return [ops.flip(d, axis=0) for d in found]


def _shifted_back(x):
    if x is None:
        return None
    x = ops.flip(x, axis=0)
    return ops.concatenate([ops.zeros_like(x[:1]), x[:-1]])


def _times_transposed(slopes: Slopes, d: list) -> list:
    """Jᵀ d."""
    count = len(d)
    return [
        _added(d[0], (_product(slopes[i][j], d[i]) for i in range(count))) for j in range(count)
    ]


def _shifted(first, states) -> list:
    """The states before each step, from the first ones and those after each step."""
    return [ops.concatenate([f[None], s[:-1]]) for f, s in zip(first, states, strict=True)]


def _all_finite(tensors):
    return ops.all(ops.stack([ops.all(ops.isfinite(x)) for x in tensors]))


def _dtype(x) -> str:
    return keras.backend.standardize_dtype(x.dtype)


def solve_recurrence(slopes: Slopes, b: list) -> list:
    """Returns all `d_t = J_t d_{t-1} + b_t` from d_0 = 0, tensors (T, B, U).

    Two steps of it are one step of the same form, so pairs of neighbours make a recurrence of half
    the length.
    """
    time, n = b[0].shape[0], range(len(b))
    if time is None:
        return _solve_open(slopes, b)
    if time <= 1:
        return b
    pairs = time - time % 2
    early, late = slice(0, pairs, 2), slice(1, pairs, 2)
    j_early, j_late = _cut(slopes, early), _cut(slopes, late)
    both = [
        [_added(None, (_product(j_late[i][k], j_early[k][j]) for k in n)) for j in n] for i in n
    ]
    into = _after(j_late, [x[early] for x in b], [x[late] for x in b])
    second = solve_recurrence(both, into)  # the second of each pair, by recursion
    first = [x[:1] for x in b]
    if time > 2:  # the others from the one before them
        before = [x[: (time - 1) // 2] for x in second]
        rest = _after(_cut(slopes, slice(2, None, 2)), before, [x[2::2] for x in b])
        first = [ops.concatenate([x, y]) for x, y in zip(first, rest, strict=True)]
    return [_interleaved(x, y, time) for x, y in zip(first, second, strict=True)]


def _solve_open(slopes: Slopes, b: list) -> list:
    """`solve_recurrence` of a length that is known when it runs: each round doubles the reach."""
    n, time = range(len(b)), ops.shape(b[0])[0]
    at = ops.arange(time)

    def before(x, reach):
        """x of `reach` time steps before; 0 where there is none."""
        there = ops.reshape(at >= reach, (-1, 1, 1))
        moved = ops.take(x, ops.maximum(at - reach, 0), axis=0)
        return ops.where(there, moved, ops.zeros_like(x))

    def double(reach, d, slopes):
        new = _after(slopes, [before(x, reach) for x in d], d)
        early = [[before(x, reach) for x in row] for row in slopes]
        both = [[sum(slopes[i][k] * early[k][j] for k in n) for j in n] for i in n]
        return 2 * reach, new, both

    whole = [[ops.zeros_like(b[i]) if x is None else x for x in slopes[i]] for i in n]
    _, d, _ = ops.while_loop(lambda reach, *_: reach < time, double, (1, list(b), whole))
    return d


def _cut(slopes: Slopes, steps: slice) -> Slopes:
    return [[None if x is None else x[steps] for x in row] for row in slopes]


def _after(slopes: Slopes, d: list, b: list) -> list:
    """J d + b."""
    n = range(len(d))
    return [_added(b[i], (b[i], *(_product(slopes[i][j], d[j]) for j in n))) for i in n]


def _product(x, y):
    return None if x is None or y is None else x * y


def _added(like, terms):
    """The sum of the terms that are not None; if there is none, zeros like `like`, or None."""
    terms = [term for term in terms if term is not None]
    if not terms:
        return None if like is None else ops.zeros_like(like)
    return sum(terms[1:], start=terms[0])


def _interleaved(first, second, time: int):
    """x_1, y_1, x_2, y_2, ..."""
    pairs = time // 2
    both = ops.stack([first[:pairs], second], axis=1)
    both = ops.reshape(both, (2 * pairs, *ops.shape(first)[1:]))
    return ops.concatenate([both, first[pairs:]]) if time % 2 else both
