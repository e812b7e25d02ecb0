"""The loop over time, forward and backward, with its own gradient; written once, in keras.ops.

Forward, the loop does one recurrent product and the elementwise rest in each time step. It stores
the states and the values of the activations, from which their slopes follow; where they do not,
the nodes, that is the pre-activations. Backward, a second loop goes from the last time step to the
first (`backward.Cut.step_back`). It carries only the gradients of the states and emits those of the
nodes. The gradients of the weights follow from these after the loop, with one product over all time
steps for each block of a recurrent kernel.

Automatic differentiation of a loop would instead add a whole (U, 4U) matrix in each step, and store
every intermediate value.

Each time series is a tensor of its own, never a block of a wider one. XLA on a CPU fuses the read
of a time step into what uses it, and compiles that without vector instructions where several
blocks are cut from one read.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from keras import ops

from keras_gated.engine.backends.selected import backend
from keras_gated.engine.backward import Cut, Slopes
from keras_gated.engine.call import apply_zoneout, is_series
from keras_gated.engine.formula import DropoutMasks, Formula, Hooks, Tensors, cast_like

DRAWN = "drawn"  # in a plan, a rate of zoneout that is a series of masks


class Inputs(NamedTuple):
    """The tensors that the loop reads, sorted by what they are."""

    terms: Tensors
    states: list
    weights: Tensors
    mask: Any
    dropout: DropoutMasks
    zoneout: list
    clock: list


class _RecordingHooks(Hooks):
    """Records what `Cut` must know of a step, in the shape of the states, and the memory."""

    def __init__(self, like, formula: Formula):
        self.like, self.by_value = like, formula.slope
        self.known, self.c = [], None

    def node(self, name: str, a):
        a = a if len(a.shape) > 1 else a + ops.zeros_like(self.like)  # a bias alone is (U,)
        if name not in self.by_value:
            self.known.append(a)
        return a

    def activated(self, block: str, function, a):
        value = function(a)
        if block in self.by_value:
            self.known.append(value)
        return value

    def memory(self, c, forget_value, written):
        self.c = c
        return c


@dataclass(frozen=True)
class LoopPlan:
    """How a loop over time runs, forward and backward: all but its tensors.

    Calls that are equal but for their tensors have equal plans, and share what a backend makes of
    one: a stack of thirty equal layers is traced once.

    Attributes:
        formula: the `Formula` of the cell.
        input_blocks: names of the blocks that have an input term.
        names: of the weights that the loop reads.
        has_mask: whether there are a mask of time steps, and the two masks of dropout.
        zoneout: for each state None, a number, or `DRAWN` for a series among the tensors.
        sequences: whether h of all time steps is asked for.
    """

    formula: Formula
    input_blocks: tuple[str, ...]
    names: tuple[str, ...]
    has_mask: tuple[bool, ...]
    zoneout: tuple
    sequences: bool

    @property
    def count(self) -> int:
        """The number of states."""
        return len(self.formula.states)

    def outputs_and_states(self, outputs: list) -> tuple[Any, list]:
        """Returns h of all time steps or None, and the last states, from what `forward` returns."""
        h, last = outputs[: -self.count], list(outputs[-self.count :])
        return (h[0] if h else None), last

    def sort(self, tensors) -> Inputs:
        """Returns a flat list of tensors as inputs, each under its name."""
        rest = iter(tensors)
        terms = {k: next(rest) for k in self.input_blocks}
        states = [next(rest) for _ in range(self.count)]
        weights = {k: next(rest) for k in self.names}
        mask, *dropout = (next(rest) if there else None for there in self.has_mask)
        zoneout = [next(rest) if is_series(rate) else rate for rate in self.zoneout]
        return Inputs(terms, states, weights, mask, DropoutMasks(*dropout), zoneout, list(rest))

    def forward(self, *tensors, keep: bool = True):
        """Returns [h of all time steps if asked for, *last states], and the residuals if `keep`.

        Residuals are what the backward pass needs: the series of the states, of the values of
        activations and of nodes, and with zoneout of the memory (without, the last state is it).
        """
        inputs = self.sort(tensors)
        weights = self.formula.slice_weights(inputs.weights)
        last, residuals = self.over_time(inputs, weights, keep, backend.loop)
        return [*(residuals[:1] if self.sequences else []), *last], residuals

    def over_time(self, inputs: Inputs, weights: dict, keep: bool, loop):
        """Returns the last states and the residuals.

        With `keep` False: the series of h instead, or none if only the last h is asked for.
        """

        def step(states, xs):
            terms = dict(zip(inputs.terms, xs, strict=False))
            hooks = _RecordingHooks(states[self.formula.memory_index], self.formula)
            _, new = self.formula.step(weights, terms, states, inputs.dropout, hooks)
            new = apply_zoneout(_of_step(inputs.zoneout, xs[len(inputs.terms) :]), new, states)
            if inputs.mask is not None:
                new = _where(xs[-1] > 0, new, states)
            if not keep:
                return new, new[:1] if self.sequences else []
            return new, [*new, *hooks.known, *([hooks.c] if inputs.zoneout else [])]

        terms = inputs.terms.values()
        series = not_none(*terms, *_series(inputs.zoneout), inputs.mask) or inputs.clock
        return loop(step, inputs.states, series)

    def backward(self, tensors, residuals, upstream):
        """Returns the gradient of each tensor.

        Args:
            tensors: what `forward` was given.
            residuals: the second result of `forward`.
            upstream: gradients of its outputs.
        """
        inputs = self.sort(tensors)
        history, known = residuals[: self.count], list(residuals[self.count :])
        memory = known.pop() if inputs.zoneout else history[-1]
        known += [*states_before(inputs, history), memory]
        cut = Cut(self.formula, inputs.weights, self.input_blocks, inputs.dropout, known)
        of_states, of_nodes = self._back_over_time(cut, inputs, upstream)
        of_weights = cut.weight_gradients(of_nodes)
        masks = not_none(inputs.mask, *inputs.dropout, *_series(inputs.zoneout))
        return [
            *(cast_like(of_nodes[k], term) for k, term in inputs.terms.items()),
            *of_states,
            *(of_weights[name] for name in self.names),
            *(ops.zeros_like(x) for x in (*masks, *inputs.clock)),
        ]

    def _back_over_time(self, cut: Cut, inputs: Inputs, upstream) -> tuple[list, Tensors]:
        """The loop back over time.

        Returns the gradients of the initial states and, for all time steps, of the nodes.
        """
        carry, mask = list(upstream[-self.count :]), inputs.mask
        of_h = upstream[: -self.count]  # empty where only the last h was asked for
        ahead = cut.slopes() if backend.SLOPES_AHEAD else []
        series = _tensors(ahead) or cut.known

        def step(carry, xs):
            incoming = [sum(xs[: len(of_h)], start=carry[0]), *carry[1:]]
            at_step, rest = xs[len(of_h) :][: len(series)], xs[len(of_h) + len(series) :]
            slopes = _filled(ahead, at_step) if ahead else cut.slopes(at_step)
            rates = _of_step(inputs.zoneout, rest)
            zeros = [ops.zeros_like(d) for d in incoming]
            # Zoneout: new = rate old + (1 - rate) computed. The second part goes through the step,
            # the first passes it by.
            outgoing, of_nodes = cut.step_back(apply_zoneout(rates, incoming, zeros), slopes)
            if rates:
                past = apply_zoneout(rates, zeros, incoming)
                outgoing = [new + d for new, d in zip(outgoing, past, strict=True)]
            if mask is not None:  # a masked time step repeats the states and reads nothing
                outgoing = _where(xs[-1] > 0, outgoing, incoming)
                of_nodes = _where(xs[-1] > 0, of_nodes, [ops.zeros_like(d) for d in of_nodes])
            return outgoing, of_nodes

        xs = not_none(*of_h, *series, *_series(inputs.zoneout), mask)
        carry, found = backend.loop(step, carry, xs, reverse=True)
        return carry, dict(zip(cut.nodes, found, strict=True))


def states_before(inputs: Inputs, states: list) -> list:
    """The states before each step, from the first ones and those after each step."""
    pairs = zip(inputs.states, states, strict=True)
    return [ops.concatenate([first[None], series[:-1]]) for first, series in pairs]


def _tensors(slopes: Slopes) -> list:
    return [d for of_piece in slopes for d in of_piece.values() if d is not None]


def _filled(slopes: Slopes, tensors: list) -> Slopes:
    """The slopes with `tensors` in their places."""
    rest = iter(tensors)
    return [{i: d if d is None else next(rest) for i, d in row.items()} for row in slopes]


def _series(zoneout) -> list:
    return [rate for rate in zoneout if is_series(rate)]


def _of_step(zoneout, series: Iterable) -> list:
    """The zoneout of one time step: numbers as they are, masks from the front of `series`."""
    rest = iter(series)
    return [next(rest) if is_series(rate) else rate for rate in zoneout]


def not_none(*tensors) -> list:
    return [x for x in tensors if x is not None]


def _where(valid, new: list, old: list) -> list:
    return [ops.where(valid, n, o) for n, o in zip(new, old, strict=True)]
