"""A cell run over time with its gradient placed by hand; written once, in keras.ops.

Forward, the loop over time does one recurrent product and the elementwise rest, and keeps the
states and the nodes: the pre-activations, which are linear in the weights. Backward, a second loop
carries only the gradients of the states and emits those of the nodes; the gradients of the weights
follow from these, with one product over all time steps for each block of a recurrent kernel.

No gate is known here by name: the step is run with `Hooks` that see its products, its nodes and
its memory, and everything between them is elementwise.

Each time series is a tensor of its own, never a block of a wider one. XLA on a CPU fuses the read
of a time step into what uses it, and compiles that without vector instructions where several
blocks are cut from one read.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from keras import ops

from keras_gated.engine.backends.current import backend
from keras_gated.engine.backward import Cut, Slopes
from keras_gated.engine.formula import DropoutMasks, Formula, Hooks, Tensors, cast_like
from keras_gated.engine.random_masks import RandomMasks, apply_zoneout, is_series


class Parts(NamedTuple):
    """The tensors of a sequence, by what they are."""

    terms: Tensors
    states: list
    weights: Tensors
    mask: Any
    dropout: DropoutMasks
    zoneout: list


class _Noted(Hooks):
    """Notes the nodes of a step, each in the form of the states, and the memory."""

    def __init__(self, like):
        self.like, self.nodes, self.c = like, [], None

    def node(self, name: str, a):
        a = a if len(a.shape) > 1 else a + ops.zeros_like(self.like)
        self.nodes.append(a)
        return a

    def memory(self, c, forget_value, written):
        self.c = c
        return c


class Sequence:
    """The computation for one formula; shapes are time major.

    Args:
        formula: of a cell without gate recurrence.
        weights: tensors by name.
        terms: what `Formula.input_terms` gave for all time steps: tensors (T, B, U).
        states: initial ones, tensors (B, U): [h, c] or [h].
        mask: (T, B, 1) of the states' type, 1 where a time step counts, or None.
        drawn: what acts on the states; shares of each time step are (T, B, U).
    """

    def __init__(
        self, formula: Formula, weights: Tensors, terms: Tensors, states, mask, drawn: RandomMasks
    ):
        self.formula, self.zoneout = formula, drawn.zoneout
        self.of_input, self.names, self.count = tuple(terms), tuple(weights), len(states)
        self.has_mask = [x is not None for x in (mask, *drawn.dropout)]
        masks = _known(mask, *drawn.dropout, *drawn.series)
        self.tensors = [*terms.values(), *states, *weights.values(), *masks]

    def run(self) -> tuple[Any, list]:
        """Returns h for all time steps (T, B, U) and the last states."""
        h, *last = backend.with_gradient(self.forward, self.backward, self.tensors)
        return h, last

    def run_by(self, loop) -> tuple[Any, list]:
        """Returns the same, the step run over time by another `backend.loop`, without gradient.

        What can be done for all time steps at once is: a loop in a file has no compiler behind it.
        """
        parts = self._parts([ops.copy(x) for x in self.tensors])  # of a variable, a tensor
        weights = self.formula.slice_weights(parts.weights)
        biases = weights["bias", 0]
        terms = {k: x + biases.pop(k) if k in biases else x for k, x in parts.terms.items()}
        last, (h,) = self._over_time(parts._replace(terms=terms), weights, False, loop)
        return h, last

    def _parts(self, tensors) -> Parts:
        rest = iter(tensors)
        terms = {k: next(rest) for k in self.of_input}
        states = [next(rest) for _ in range(self.count)]
        weights = {k: next(rest) for k in self.names}
        mask, *dropout = (next(rest) if there else None for there in self.has_mask)
        zoneout = [next(rest) if is_series(share) else share for share in self.zoneout]
        return Parts(terms, states, weights, mask, DropoutMasks(*dropout), zoneout)

    def forward(self, *tensors, keep: bool = True):
        """Returns [h of all time steps, *last states], and what the gradient needs, if `keep`."""
        parts = self._parts(tensors)
        weights = self.formula.slice_weights(parts.weights)
        last, residuals = self._over_time(parts, weights, keep, backend.loop)
        return [residuals[0], *last], residuals

    def _over_time(self, parts: Parts, weights: dict, keep: bool, loop):
        """Returns the last states and the series of states and nodes, or of h alone."""

        def step(states, xs):
            terms, at = (
                dict(zip(parts.terms, xs, strict=False)),
                _Noted(states[self.formula.form.memory_at]),
            )
            _, new = self.formula.step(weights, terms, states, parts.dropout, at)
            new = apply_zoneout(_of_step(parts.zoneout, xs[len(parts.terms) :]), new, states)
            if parts.mask is not None:
                new = _where(xs[-1] > 0, new, states)
            memory = [at.c] if parts.zoneout else []  # else the last state is the memory
            return new, [*new, *at.nodes, *memory] if keep else new[:1]

        return loop(
            step, parts.states, _known(*parts.terms.values(), *_series(parts.zoneout), parts.mask)
        )

    def backward(self, tensors, residuals, upstream):
        """Returns the gradient of each tensor."""
        parts = self._parts(tensors)
        history = residuals[: self.count]
        *nodes, memory = (*residuals[self.count :], residuals[self.count - 1])
        if parts.zoneout:
            *nodes, memory = nodes
        pairs = zip(parts.states, history, strict=True)
        before = [ops.concatenate([s[None], x[:-1]]) for s, x in pairs]
        values = [*nodes, *before, memory]
        cut = Cut(self.formula, parts.weights, self.of_input, parts.dropout, values)
        carry, of_nodes = self._back(cut, parts, upstream)
        of_weights = cut.of_weights(of_nodes)
        fixed = _known(parts.mask, *parts.dropout, *_series(parts.zoneout))
        return [
            *(cast_like(of_nodes[k], term) for k, term in parts.terms.items()),
            *carry,
            *(of_weights[name] for name in self.names),
            *(ops.zeros_like(x) for x in fixed),
        ]

    def _back(self, cut: Cut, parts: Parts, upstream) -> tuple[list, Tensors]:
        """The loop back over time.

        Returns the gradients of the initial states and, for all time steps, of the nodes.
        """
        (of_h, *carry), mask = upstream, parts.mask
        ahead = cut.slopes() if backend.SLOPES_AHEAD else []
        series = _tensors(ahead) or cut.values

        def step(carry, xs):
            incoming = [carry[0] + xs[0], *carry[1:]]
            given = xs[1 : 1 + len(series)]
            slopes = _filled(ahead, given) if ahead else cut.slopes(given)
            share = _of_step(parts.zoneout, xs[1 + len(series) :])
            nothing = [ops.zeros_like(d) for d in incoming]
            outgoing, of_nodes = cut.back(apply_zoneout(share, incoming, nothing), slopes)
            if share:
                stays = apply_zoneout(share, nothing, incoming)
                outgoing = [new + d for new, d in zip(outgoing, stays, strict=True)]
            if mask is not None:
                outgoing = _where(xs[-1] > 0, outgoing, incoming)
                of_nodes = _where(xs[-1] > 0, of_nodes, [ops.zeros_like(d) for d in of_nodes])
            return outgoing, of_nodes

        known = _known(of_h, *series, *_series(parts.zoneout), mask)
        carry, found = backend.loop(step, carry, known, reverse=True)
        return carry, dict(zip(cut.nodes, found, strict=True))


def _tensors(slopes: Slopes) -> list:
    return [d for of_piece in slopes for d in of_piece.values() if d is not None]


def _filled(slopes: Slopes, tensors: list) -> Slopes:
    """The slopes with `tensors` in their places."""
    rest = iter(tensors)
    return [{i: d if d is None else next(rest) for i, d in row.items()} for row in slopes]


def _series(zoneout) -> list:
    return [share for share in zoneout if is_series(share)]


def _of_step(zoneout, given: Iterable) -> list:
    """The shares at one time step; those that are series are the first of `given`."""
    rest = iter(given)
    return [next(rest) if is_series(share) else share for share in zoneout]


def _known(*tensors) -> list:
    return [x for x in tensors if x is not None]


def _where(valid, new: list, old: list) -> list:
    return [ops.where(valid, n, o) for n, o in zip(new, old, strict=True)]
