"""A cell run over time with its gradient placed by hand; written once, in keras.ops.

Forward, one product for all time steps gives what the blocks see of the input; the loop over time
then does one recurrent product and the elementwise rest. Only the states are kept. Backward, the
recurrent products of all time steps are done again as one, the elementwise rest is differentiated
for all time steps at once, and the loop over time carries only the gradients of the states. The
gradient of a recurrent kernel is one product over all time steps.

No gate is known here by name: `Formula.step` is told how to do its products and where its memory
is, and everything else in it is elementwise.
"""

from importlib import import_module
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_gated.formula import Formula, Tensors, multiplied, split

backend = import_module(f"keras_gated.recurrence.on_{keras.backend.backend()}")


class Product(NamedTuple):
    """A dense recurrent product `v @ kernel`, for all time steps, and its blocks."""

    v: Any
    kernel: Any
    blocks: Tensors


class Parts(NamedTuple):
    """The tensors of a sequence, by what they are."""

    terms: Tensors
    states: list
    weights: Tensors
    mask: Any
    h_mask: Any


class Sequence:
    """The computation for one formula; shapes are time major.

    Args:
        formula: of a cell without gate recurrence.
        weights: tensors by name.
        terms: what `Formula.input_terms` gave for all time steps: tensors (T, B, U), or (U,).
        states: initial ones, tensors (B, U): [h, c] or [h].
        mask: (T, B, 1) of the states' type, 1 where a time step counts, or None.
        h_mask: (B, U) or None, see `Formula.step`.
    """

    def __init__(self, formula: Formula, weights: Tensors, terms: Tensors, states, mask, h_mask):
        self.formula = formula
        self.moving = tuple(k for k, term in terms.items() if len(term.shape) == 3)
        self.fixed = tuple(k for k in terms if k not in self.moving)
        self.names, self.count = tuple(weights), len(states)
        self.masks = (mask is not None, h_mask is not None)
        along = [ops.concatenate([terms[k] for k in self.moving], axis=-1)] if self.moving else []
        self.tensors = [
            *along,
            *(terms[k] for k in self.fixed),
            *states,
            *weights.values(),
            *(x for x in (mask, h_mask) if x is not None),
        ]

    def run(self) -> tuple[Any, list]:
        """Returns h for all time steps (T, B, U) and the last states."""
        h, *last = backend.with_gradient(self.forward, self.backward, self.tensors)
        return h, last

    def _parts(self, tensors) -> Parts:
        rest = list(tensors)

        def take(count: int) -> list:
            taken, rest[:] = rest[:count], rest[count:]
            return taken

        terms = split(self.moving, take(1)[0]) if self.moving else {}
        terms |= dict(zip(self.fixed, take(len(self.fixed)), strict=True))
        states = take(self.count)
        weights = dict(zip(self.names, take(len(self.names)), strict=True))
        mask, h_mask = (take(1)[0] if there else None for there in self.masks)
        return Parts(terms, states, weights, mask, h_mask)

    def forward(self, *tensors):
        """Returns [h of all time steps, *last states], and the states of all time steps."""
        parts = self._parts(tensors)
        fixed = {k: parts.terms[k] for k in self.fixed}
        weights = self.formula.prepared(parts.weights)

        def step(states, xs):
            terms = split(self.moving, xs[0]) | fixed
            _, new = self.formula.step(weights, terms, states, parts.h_mask)
            if parts.mask is not None:
                new = [ops.where(xs[1] > 0, n, s) for n, s in zip(new, states, strict=True)]
            return new, new

        xs = [x for x in (tensors[0], parts.mask) if x is not None]
        last, history = backend.loop(step, parts.states, xs)
        return [history[0], *last], history

    def backward(self, tensors, history, upstream):
        """Returns the gradient of each tensor."""
        parts = self._parts(tensors)
        cut = _Cut(self.formula, parts, history)
        carry, emitted = self._back(cut, parts, upstream)
        of_terms, of_weights = cut.gradients(emitted)
        along = (
            [ops.concatenate([of_terms[k] for k in self.moving], axis=-1)] if self.moving else []
        )
        masks = [ops.zeros_like(x) for x in (parts.mask, parts.h_mask) if x is not None]
        fixed = [of_terms[k] for k in self.fixed]
        return [*along, *fixed, *carry, *(of_weights[name] for name in self.names), *masks]

    def _back(self, cut: "_Cut", parts: Parts, upstream):
        """The loop back over time.

        Returns the gradients of the initial states and, for all time steps, those of the cut's
        outputs that the weights have a part in.
        """
        of_h, *carry = upstream
        slopes, layout = cut.slopes()
        transposed = [ops.transpose(product.kernel) for product in cut.products]

        def step(carry, xs):
            of_h, rest = xs[0], xs[1:]
            incoming = [carry[0] + of_h, *carry[1:]]
            outgoing, emitted = cut.back(incoming, rest[: len(slopes)], layout, transposed)
            if parts.mask is not None:
                valid = rest[-1] > 0
                pairs = zip(outgoing, incoming, strict=True)
                outgoing = [ops.where(valid, n, d) for n, d in pairs]
                emitted = [ops.where(valid, d, ops.zeros_like(d)) for d in emitted]
            return outgoing, emitted

        xs = [of_h, *slopes, *(x for x in (parts.mask,) if x is not None)]
        return backend.loop(step, carry, xs, reverse=True)


class _Cut:
    """The step of all time steps, cut at its products and its memory: the rest is elementwise.

    Inputs of the elementwise rest are, in this order, the blocks of each product, the states
    before, and the memory; outputs are the memory, h, and what each product reads.
    """

    def __init__(self, formula: Formula, parts: Parts, history):
        self.formula, self.parts = formula, parts
        states = zip(parts.states, history, strict=True)
        self.before = [ops.concatenate([s[None], h[:-1]]) for s, h in states]
        self.memory = history[-1]
        self.products: list[Product] = []
        self._record()
        self.names = [tuple(product.blocks) for product in self.products]
        self.inputs = [b for product in self.products for b in product.blocks.values()]
        self.inputs += [*self.before, self.memory]

    def _record(self) -> None:
        """Does the products of all time steps, and sees which outputs are an input as it is."""

        def product(names, v, kernel):
            blocks = multiplied(names, v, kernel)
            self.products.append(Product(v, kernel, blocks))
            return blocks

        parts = self.parts
        h, _ = self.formula.step(
            parts.weights, parts.terms, self.before, parts.h_mask, product, lambda c: self.memory
        )
        self.h_is_memory = h is self.memory
        self.reads_h = [product.v is self.before[0] for product in self.products]

    def elementwise(self, weights: Tensors, terms: Tensors, inputs) -> list:
        """The elementwise rest: [memory, h, what each product reads]."""
        rest, operands, memory = list(inputs), [], []
        blocks = [{k: rest.pop(0) for k in names} for names in self.names]
        *before, cut = rest

        def product(names, v, kernel):
            operands.append(v)
            return blocks[len(operands) - 1]

        def at_memory(c):
            memory.append(c)
            return cut

        h, _ = self.formula.step(weights, terms, before, self.parts.h_mask, product, at_memory)
        return [memory[0], h, *operands]

    def slopes(self) -> tuple[list, list[dict[int, int | None]]]:
        """The derivatives of the elementwise rest for all time steps.

        Returns them in a list and, for each output, {input: place in the list}, None for an input
        that is the output.
        """
        same = [False, self.h_is_memory, *self.reads_h]
        which = [at for at, skip in enumerate(same) if not skip]

        def function(*inputs):
            outputs = self.elementwise(self.parts.weights, self.parts.terms, inputs)
            return [outputs[at] for at in which]

        found = dict(zip(which, backend.partials(function, self.inputs), strict=True))
        slopes, layout = [], []
        h, memory = len(self.inputs) - 1 - len(self.before), len(self.inputs) - 1
        for at in range(len(same)):
            if same[at]:
                layout.append({memory if at == 1 else h: None})
                continue
            there = {i: d for i, d in enumerate(found[at]) if d is not None}
            layout.append(
                dict(zip(there, range(len(slopes), len(slopes) + len(there)), strict=True))
            )
            slopes += there.values()
        return slopes, layout

    def back(self, incoming, slopes, layout, transposed):
        """One time step back.

        Returns the gradients of the states before, and of the outputs: memory, h, operands.
        """
        count, states = len(self.inputs), len(self.before)
        got: list[Any] = [None] * count

        def push(output: int, d) -> None:
            for at, slope in layout[output].items():
                part = d if slope is None else slopes[slope] * d
                got[at] = part if got[at] is None else got[at] + part

        push(1, incoming[0])
        if states > 1:
            got[-1] = incoming[1] if got[-1] is None else got[-1] + incoming[1]
        of_memory = got[-1]
        push(0, of_memory)
        operands, end = [], count - states - 1
        for at in range(len(self.names) - 1, -1, -1):
            blocks = got[end - len(self.names[at]) : end]
            end -= len(self.names[at])
            blocks = [ops.zeros_like(of_memory) if d is None else d for d in blocks]
            d = ops.matmul(ops.concatenate(blocks, axis=-1), transposed[at])
            operands.insert(0, d)
            push(2 + at, d)
        outgoing = [
            ops.zeros_like(of_memory) if d is None else d for d in got[count - states - 1 : -1]
        ]
        return outgoing, self._wanted([of_memory, incoming[0], *operands])

    def _wanted(self, outputs: list) -> list:
        """Of the outputs, or their gradients, those that depend on weights or input terms."""
        kept = [outputs[0]] if self.h_is_memory else outputs[:2]
        return kept + [d for d, same in zip(outputs[2:], self.reads_h, strict=True) if not same]

    def gradients(self, emitted) -> tuple[Tensors, Tensors]:
        """The gradients of the input terms and of the weights from those of the wanted outputs."""
        parts = self.parts
        blocks = [b for product in self.products for b in product.blocks.values()]
        flat = [*parts.terms.values(), *parts.weights.values(), *blocks]
        terms, weights = tuple(parts.terms), tuple(parts.weights)

        def function(*tensors):
            rest = list(tensors)
            by_term = dict(zip(terms, rest, strict=False))
            by_weight = dict(zip(weights, rest[len(terms) :], strict=False))
            inputs = [*rest[len(terms) + len(weights) :], *self.before, self.memory]
            return self._wanted(self.elementwise(by_weight, by_term, inputs))

        found = backend.vjp(function, flat, emitted)
        of_terms = dict(zip(terms, found, strict=False))
        of_weights = dict(zip(weights, found[len(terms) :], strict=False))
        of_blocks = list(found[len(terms) + len(weights) :])
        if self.products:
            of_weights["recurrent_kernel"] = self._of_kernel(of_blocks)
        return of_terms, of_weights

    def _of_kernel(self, of_blocks: list):
        """The gradient of the recurrent kernel: each product's, put where its columns are."""
        columns: Tensors = {}
        for product, names in zip(self.products, self.names, strict=True):
            d = ops.concatenate([of_blocks.pop(0) for _ in names], axis=-1)
            rows = ops.transpose(ops.reshape(product.v, (-1, product.v.shape[-1])))
            columns |= split(names, ops.matmul(rows, ops.reshape(d, (-1, d.shape[-1]))))
        order = self.formula.names["recurrent_kernel"]
        return ops.concatenate([columns[name] for name in order], axis=-1)
