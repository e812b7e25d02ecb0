"""A step cut at its products, its nodes and its memory, and the gradient through the pieces.

Between the cuts the step is elementwise, so all that is needed of it is the slope of each raw value
by each known one that it depends on. The pieces are noted in the order in which the step comes to
them; backwards they are gone through in the reverse order.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from keras import ops

from keras_gated.engine.backends.current import backend
from keras_gated.engine.formula import BEHIND_RESET, Formula, Hooks, Tensors, cast_like, product

Slopes = list[dict[int, Any]]  # for each piece, {value it depends on: slope, None where it is it}


class Piece(NamedTuple):
    """What the step computes up to a cut: `raw`, known from there on under `names`."""

    kind: str
    names: tuple[str, ...]
    raw: Any
    kernel: Any = None


class _Replay(Hooks):
    """Runs a step on nodes and a memory that are known, and notes its pieces."""

    def __init__(self, nodes: Iterator, memory):
        self._nodes, self._memory = nodes, memory
        self.pieces: list[Piece] = []

    def product(self, names, v, kernel):
        self.pieces.append(Piece("product", names, v, kernel))
        return {name: ops.zeros_like(self._memory) for name in names}

    def node(self, name, a):
        self.pieces.append(Piece("node", (name,), a))
        return next(self._nodes)

    def memory(self, c, forget_value, written):
        self.pieces.append(Piece("memory", (), c))
        return self._memory


class Cut:
    """The cut step of a formula, at known values.

    Args:
        formula: of a cell without gate recurrence.
        weights: tensors by name.
        of_input: names of the blocks that have an input term.
        masks: see `Formula.step`.
        values: what the elementwise rest is a function of, for all time steps, tensors (T, B, U):
            the nodes, the states before, and the memory.
    """

    def __init__(self, formula: Formula, weights: Tensors, of_input, dropout, values: list):
        self.formula, self.weights, self.of_input = formula, weights, of_input
        self.dropout, self.values = dropout, values
        self.pieces = self._replay(weights, values)
        self.nodes = tuple(p.names[0] for p in self.pieces if p.kind == "node")
        self.same = [_place(piece.raw, values) for piece in self.pieces]
        self.transposed = [
            p.kernel if p.kernel is None else ops.transpose(p.kernel) for p in self.pieces
        ]

    def _replay(self, weights: Tensors, values) -> list[Piece]:
        states = len(self.formula.form.states)
        *known, memory = values
        nodes, before = known[:-states], known[-states:]
        at = _Replay(iter(nodes), memory)
        terms = {k: ops.zeros_like(memory) for k in self.of_input}
        h, _ = self.formula.step(weights, terms, before, self.dropout, at)
        return [*at.pieces, Piece("output", (), h)]

    def slopes(self, values=None) -> Slopes:
        """Returns the slopes of the pieces at `values`, by default at those for all time steps."""
        which = [at for at, same in enumerate(self.same) if same is None]

        def function(*values):
            pieces = self._replay(self.weights, values)
            return [pieces[at].raw for at in which]

        found = backend.partials(function, list(self.values if values is None else values))
        by_piece = dict(zip(which, found, strict=True))
        return [
            {same: None}
            if same is not None
            else {i: d for i, d in enumerate(by_piece[at]) if d is not None}
            for at, same in enumerate(self.same)
        ]

    def back(self, incoming: list, slopes: Slopes) -> tuple[list, list]:
        """One time step back.

        Args:
            incoming: gradients of the states after: tensors (B, U).
            slopes: of the pieces at this time step.

        Returns:
            The gradients of the states before, and those of the nodes.
        """
        got: list[Any] = [None] * len(self.values)

        def push(at: int, d) -> None:
            for i, slope in slopes[at].items():
                part = d if slope is None else slope * d
                got[i] = part if got[i] is None else got[i] + part

        nothing = ops.zeros_like(incoming[0])
        push(len(self.pieces) - 1, incoming[0])
        if len(incoming) > 1:
            got[-1] = incoming[1] if got[-1] is None else got[-1] + incoming[1]
        for at in reversed(range(len(self.pieces) - 1)):
            push(at, self._of_raw(at, [nothing if d is None else d for d in got]))
        got = [nothing if d is None else d for d in got]
        nodes = len(self.nodes)
        return got[nodes:-1], got[:nodes]

    def _of_raw(self, at: int, got: list):
        """The gradient of a piece's raw value from those of the known values."""
        piece = self.pieces[at]
        if piece.kind == "memory":
            return got[-1]
        of_nodes = [got[self.nodes.index(self._node(name))] for name in piece.names]
        if piece.kind == "node":
            return of_nodes[0]
        return product(ops.concatenate(of_nodes, axis=-1), self.transposed[at])

    def _node(self, block: str) -> str:
        """The node that a block's column of a product goes into."""
        behind = block == "candidate" and BEHIND_RESET in self.nodes
        return BEHIND_RESET if behind else block

    def of_weights(self, of_nodes: Tensors) -> Tensors:
        """Returns the gradients of the weights from those of the nodes for all time steps."""
        vectors = {k: w for k, w in self.weights.items() if k != "recurrent_kernel"}
        found = dict.fromkeys(self.weights)
        if vectors:
            found |= self._of_vectors(vectors, of_nodes)
        if "recurrent_kernel" in found:
            found["recurrent_kernel"] = self._of_kernel(of_nodes)
        return found

    def _of_vectors(self, vectors: Tensors, of_nodes: Tensors) -> Tensors:
        """The gradients of biases, peepholes and diagonals, in which the nodes are linear."""

        def function(*tensors):
            weights = self.weights | dict(zip(vectors, tensors, strict=True))
            pieces = self._replay(weights, self.values)
            full = ops.zeros_like(self.values[-1])
            return [full + piece.raw for piece in pieces if piece.kind == "node"]

        gradients = backend.vjp(function, list(vectors.values()), list(of_nodes.values()))
        return dict(zip(vectors, gradients, strict=True))

    def _of_kernel(self, of_nodes: Tensors):
        """The gradient of the recurrent kernel, block by block."""
        columns: Tensors = {}
        kernel = self.weights["recurrent_kernel"]
        for piece in self.pieces:
            if piece.kind == "product":
                rows = cast_like(ops.transpose(_flat(piece.raw)), kernel)
                flat = {k: cast_like(_flat(of_nodes[self._node(k)]), kernel) for k in piece.names}
                columns |= {k: ops.matmul(rows, d) for k, d in flat.items()}
        order = self.formula.names["recurrent_kernel"]
        return ops.concatenate([columns[name] for name in order], axis=-1)


def _flat(x):
    return ops.reshape(x, (-1, x.shape[-1]))


def _place(raw, values: list) -> int | None:
    """Where a raw value is, as it stands, one of the known ones."""
    return next((at for at, value in enumerate(values) if raw is value), None)
