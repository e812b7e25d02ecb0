"""The loop over time, forward and backward, with its own gradient; written once, in keras.ops.

Forward, the loop does one recurrent product and the elementwise rest in each time step. It stores
the states and the values of the activations, from which their slopes follow; where they do not,
the nodes, that is the pre-activations. Backward, a second loop goes from the last time step to the
first (`backward.Cut.step_back`). There are two ways to treat what is linear, the products with the
weights. `loop.reads_input` chooses:

| | input terms | gradients of the weights |
|---|---|---|
| products over all time steps | before the loop | after the loop, from a series of the nodes' |
| products in each step (`reads_input`) | in the loop, from x_t | summed in the loop back |

The first way has few and large products, and does not touch a whole (U, 4U) matrix in each step.
The second way has no series of input terms and of gradients of nodes, (T, B, 4U) each: with a large
batch, or few inputs and units, writing and reading these takes longer than the products.

Automatic differentiation of a loop would instead store every intermediate value.

Each time series is a tensor of its own, never a block of a wider one. XLA on a CPU fuses the read
of a time step into what uses it, and compiles that without vector instructions where several
blocks are cut from one read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from keras import ops

from keras_gated.engine.backends.selected import backend
from keras_gated.engine.backward import Cut, Slopes
from keras_gated.engine.call import apply_zoneout, is_series
from keras_gated.engine.formula import (
    DropoutMasks,
    Formula,
    Hooks,
    Tensors,
    cast_like,
    product_by_block,
    separate_columns,
)
from keras_gated.spec.kernels import Kernel

DRAWN = "drawn"  # in a plan, a rate of zoneout that is a series of masks


class Inputs(NamedTuple):
    """The tensors that the loop reads, sorted by what they are."""

    terms: Tensors
    x: Any
    states: list
    weights: Tensors
    mask: Any
    goes_on: Any
    dropout: DropoutMasks
    zoneout: list
    clock: list


class _RecordingHooks(Hooks):
    """Records what `Cut` must know of a step, in the shape of the states, and the memory."""

    def __init__(self, like, formula: Formula):
        self.like, self.by_value = like, formula.slope
        self.known, self.memories = [], []

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
        self.memories.append(c)
        return c


@dataclass(frozen=True)
class LoopPlan:
    """How a loop over time runs, forward and backward: all but its tensors.

    Calls that are equal but for their tensors have equal plans, and share what a backend makes of
    one: a stack of thirty equal layers is traced once.

    Attributes:
        formula: the `Formula` of the cell.
        input_blocks: names of the blocks that have an input term.
        reads_input: whether x and the weights of its products are among the tensors, in place of
            the input terms.
        names: of the weights that the loop reads.
        has_mask: whether there are a mask of time steps, a series that says where the states go on
            and do not begin with zeros, and the two masks of dropout.
        zoneout: for each state None, a number, or `DRAWN` for a series among the tensors.
        sequences: whether h of all time steps is asked for.
    """

    formula: Formula
    input_blocks: tuple[str, ...]
    reads_input: bool
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
        x = next(rest) if self.reads_input else None
        terms = {} if self.reads_input else {k: next(rest) for k in self.input_blocks}
        states = [next(rest) for _ in range(self.count)]
        weights = {k: next(rest) for k in self.names}
        mask, goes_on, *dropout = (next(rest) if there else None for there in self.has_mask)
        drawn = DropoutMasks(*dropout)
        zoneout = [next(rest) if is_series(rate) else rate for rate in self.zoneout]
        return Inputs(terms, x, states, weights, mask, goes_on, drawn, zoneout, list(rest))

    def forward(self, *tensors, keep: bool = True):
        """Returns [h of all time steps if asked for, *last states], and the residuals if `keep`.

        Residuals are what the backward pass needs: the series of the states, of the values of
        activations and of nodes, and with zoneout of the memory (without, the last states are it).
        """
        inputs = self.sort(tensors)
        weights = self.formula.slice_weights(inputs.weights)
        last, residuals = self.over_time(inputs, weights, keep, backend.loop)
        return [*(residuals[:1] if self.sequences else []), *last], residuals

    def advance_all(self, inputs: Inputs, weights: dict, before: list) -> list:
        """Returns the states after each step from those before it, (T, B, U), all steps at once."""
        if inputs.goes_on is not None:
            before = _zeros_unless(inputs.goes_on > 0, before)
        _, new = self.formula.step(weights, inputs.terms, before, inputs.dropout)
        new = apply_zoneout(inputs.zoneout, new, before)
        return new if inputs.mask is None else _where(inputs.mask > 0, new, before)

    def over_time(self, inputs: Inputs, weights: dict, keep: bool, loop):
        """Returns the last states and the residuals.

        With `keep` False: the series of h instead, or none if only the last h is asked for.
        """

        def step(states, xs):
            rest = iter(xs)
            terms = {k: next(rest) for k in inputs.terms}
            if self.reads_input:
                terms = self.formula.input_terms(weights, next(rest), _product_in_step)
            if inputs.goes_on is not None:
                states = _zeros_unless(next(rest) > 0, states)
            hooks = _RecordingHooks(states[self.formula.memory_index], self.formula)
            _, new = self.formula.step(weights, terms, states, inputs.dropout, hooks)
            new = apply_zoneout(_of_step(inputs.zoneout, rest), new, states)
            if inputs.mask is not None:
                new = _where(xs[-1] > 0, new, states)
            if not keep:
                return new, new[:1] if self.sequences else []
            return new, [*new, *hooks.known, *(hooks.memories if inputs.zoneout else [])]

        of_input = (*inputs.terms.values(), inputs.x)
        series = not_none(*of_input, inputs.goes_on, *_series(inputs.zoneout), inputs.mask)
        series = series or inputs.clock
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
        # With zoneout the state after a step is not its memory; there is one memory then.
        memories = [known.pop()] if inputs.zoneout else history[self.formula.memory_index :]
        known += [*states_before(inputs, history), *memories]
        cut = Cut(self.formula, inputs.weights, self.input_blocks, inputs.dropout, known)
        of_states, of_input, of_weights = self._back_over_time(cut, inputs, upstream)
        masks = not_none(inputs.mask, inputs.goes_on, *inputs.dropout, *_series(inputs.zoneout))
        return [
            *of_input,
            *of_states,
            *(of_weights[name] for name in self.names),
            *(ops.zeros_like(x) for x in (*masks, *inputs.clock)),
        ]

    def _back_over_time(self, cut: Cut, inputs: Inputs, upstream) -> tuple[list, list, Tensors]:
        """The loop back over time.

        Returns the gradients of the initial states, of the input terms or of x, and of the weights.
        """
        of_h, of_last = upstream[: -self.count], list(upstream[-self.count :])
        ahead = cut.slopes() if backend.SLOPES_AHEAD else []
        series = _tensors(ahead) or cut.known
        sums = [ops.zeros_like(w) for w in inputs.weights.values()] if self.reads_input else []

        def step(carry, xs):
            rest = iter(xs)
            incoming = [sum(_next(rest, of_h), start=carry[0]), *carry[1 : self.count]]
            at_step = _next(rest, series)
            slopes = _filled(ahead, at_step) if ahead else cut.slopes(at_step)
            rates = _of_step(inputs.zoneout, rest)
            valid = None if inputs.mask is None else xs[-1] > 0
            outgoing, of_nodes = _step_back(cut, incoming, slopes, rates, valid)
            if inputs.goes_on is not None:
                outgoing = _zeros_unless(next(rest) > 0, outgoing)
            if not self.reads_input:
                return outgoing, of_nodes
            of_x, of_weights = cut.step_gradients(next(rest), of_nodes, at_step)
            added = [d + more for d, more in zip(carry[self.count :], of_weights, strict=True)]
            return [*outgoing, *added], [of_x]

        zoneout = _series(inputs.zoneout)
        xs = not_none(*of_h, *series, *zoneout, inputs.goes_on, inputs.x, inputs.mask)
        carry, found = backend.loop(step, [*of_last, *sums], xs, reverse=True)
        of_states, sums = carry[: self.count], carry[self.count :]
        if self.reads_input:
            return of_states, found, dict(zip(inputs.weights, sums, strict=True))
        of_nodes = dict(zip(cut.nodes, found, strict=True))
        of_terms = [
            cast_like(of_nodes[cut.node_of_term(k)], term) for k, term in inputs.terms.items()
        ]
        return of_states, of_terms, cut.weight_gradients(of_nodes)


def _step_back(cut: Cut, incoming: list, slopes: Slopes, rates: list, valid) -> tuple[list, list]:
    """What `Cut.step_back` returns, under zoneout with `rates`, and where a time step is `valid`.

    Zoneout: new = rate old + (1 - rate) computed. The second part goes through the step, the first
    passes it by. A masked time step repeats the states and reads nothing.
    """
    zeros = [ops.zeros_like(d) for d in incoming]
    outgoing, of_nodes = cut.step_back(apply_zoneout(rates, incoming, zeros), slopes)
    if rates:
        past = apply_zoneout(rates, zeros, incoming)
        outgoing = [new + d for new, d in zip(outgoing, past, strict=True)]
    if valid is not None:
        outgoing = _where(valid, outgoing, incoming)
        of_nodes = _where(valid, of_nodes, [ops.zeros_like(d) for d in of_nodes])
    return outgoing, of_nodes


def _product_in_step(kernel: Kernel, names: tuple[str, ...], x, w) -> Tensors:
    """Returns `{name: its part of x w}`, in the loop.

    Of one input XLA makes a sum of elementwise products, so no block must be cut from it.
    """
    by_block = separate_columns if x.shape[-1] == 1 else product_by_block
    return by_block(kernel, names, x, w)


def states_before(inputs: Inputs, states: list) -> list:
    """The states with which each step begins, from the first ones and those after each step."""
    pairs = zip(inputs.states, states, strict=True)
    before = [ops.concatenate([first[None], series[:-1]]) for first, series in pairs]
    return before if inputs.goes_on is None else _zeros_unless(inputs.goes_on > 0, before)


def _tensors(slopes: Slopes) -> list:
    return [d for of_piece in slopes for d in of_piece.values() if d is not None]


def _filled(slopes: Slopes, tensors: list) -> Slopes:
    """The slopes with `tensors` in their places."""
    rest = iter(tensors)
    return [{i: d if d is None else next(rest) for i, d in row.items()} for row in slopes]


def _series(zoneout) -> list:
    return [rate for rate in zoneout if is_series(rate)]


def _next(rest: Iterator, like: Sequence) -> list:
    """The next of `rest`, as many as `like` has."""
    return [next(rest) for _ in like]


def _of_step(zoneout, rest: Iterator) -> list:
    """The zoneout of one time step: numbers as they are, masks the next of `rest`."""
    return [next(rest) if is_series(rate) else rate for rate in zoneout]


def not_none(*tensors) -> list:
    return [x for x in tensors if x is not None]


def _zeros_unless(goes_on, states: list) -> list:
    """The states, or zeros where a sequence begins; chosen, since 0 times NaN is NaN."""
    return _where(goes_on, states, [ops.zeros_like(state) for state in states])


def _where(valid, new: list, old: list) -> list:
    return [ops.where(valid, n, o) for n, o in zip(new, old, strict=True)]
