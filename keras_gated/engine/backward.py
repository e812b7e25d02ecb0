r"""The gradient of one time step: the step is cut into pieces, and each piece is differentiated.

Worked by hand for one LSTM step. Forward, with input terms x_k already computed:

    product   u = h_{t-1} U                                  one product for all four blocks
    nodes     a_i = x_i + u_i + b_i,  a_f, a_c, a_o likewise
    memory    c = σ(a_f) c_{t-1} + σ(a_i) tanh(a_c)
    output    h = σ(a_o) tanh(c)

Backward, dh and dc arrive from the time step after. Go through the same lines from the last to the
first; each passes on what it received, times its slopes:

    output    da_o  = dh tanh(c) σ'(a_o)
              dc   += dh σ(a_o) tanh'(c)
    memory    da_i  = dc tanh(a_c) σ'(a_i)
              da_f  = dc c_{t-1} σ'(a_f)
              da_c  = dc σ(a_i) tanh'(a_c)
              dc_{t-1} = dc σ(a_f)
    nodes     dx_k  = da_k                                    the gradients of the input terms
    product   dh_{t-1} = [da_i da_f da_c da_o] Uᵀ

The loop over time then goes on with dh_{t-1} and dc_{t-1}. Outside the loop, for all time steps at
once, dU = Σ_t h_{t-1}ᵀ [da_i da_f da_c da_o]: so no matrix is accumulated step by step.

`Cut` does this for every cell, and knows no gate by name. It runs the step with hooks that replace
each product, node and memory by its known value. What the step computes between two such points
is a `Piece`. It is elementwise, so its derivative by each known value has one number per entry: a
slope, for example σ'(a_o) tanh(c) above. `backend.partials` finds the slopes automatically.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from keras import ops

from keras_gated.engine.backends.selected import backend
from keras_gated.engine.formula import BEHIND_RESET, Formula, Hooks, Tensors, cast_like

# For each piece: {index of a known value: slope}. A slope of None: the piece is that value itself.
Slopes = list[dict[int, Any]]


class Piece(NamedTuple):
    """One line of the list above: `raw` is what the step computed there.

    Attributes:
        kind: "product", "node", "memory" or "output".
        names: of a product the blocks of its columns, of a node its name.
        raw: the value, as a function of the known ones; of a product what is multiplied.
        kernel: of a product its kind,
        weight: and its weight.
    """

    kind: str
    names: tuple[str, ...]
    raw: Any
    kernel: Any = None
    weight: Any = None


class _ReplayHooks(Hooks):
    """Gives a step its nodes and its memory, which are known, and collects its pieces."""

    def __init__(self, nodes: Iterator, memory):
        self._nodes, self._memory = nodes, memory
        self.pieces: list[Piece] = []

    def product(self, kernel, names, v, w):
        self.pieces.append(Piece("product", names, v, kernel, w))
        return {name: ops.zeros_like(self._memory) for name in names}

    def node(self, name, a):
        self.pieces.append(Piece("node", (name,), a))
        return next(self._nodes)

    def memory(self, c, forget_value, written):
        self.pieces.append(Piece("memory", (), c))
        return self._memory


class Cut:
    """The step of a formula, cut into pieces at known values.

    Args:
        formula: of a cell without gate recurrence.
        weights: tensors by name.
        input_blocks: names of the blocks that have an input term.
        dropout: `DropoutMasks`.
        values: the known values, for all time steps, tensors (T, B, U): the nodes in the order of
            the step, the states before the step, and the memory after it.

    Attributes:
        pieces: in the order of the step.
        nodes: names of the nodes, in that order.
    """

    def __init__(self, formula: Formula, weights: Tensors, input_blocks, dropout, values: list):
        self.formula, self.weights, self.input_blocks = formula, weights, input_blocks
        self.dropout, self.values = dropout, values
        self.pieces = self._replay(weights, values)
        self.nodes = tuple(p.names[0] for p in self.pieces if p.kind == "node")
        # Where a piece is a known value as it stands (h_{t-1} in a product), it needs no slope.
        self._is_value = [_index_of(piece.raw, values) for piece in self.pieces]
        self._transposed = [
            p.kernel.transposed(ops, p.weight) if p.kernel else None for p in self.pieces
        ]

    def _replay(self, weights: Tensors, values) -> list[Piece]:
        """Runs the step at known values and returns its pieces."""
        states = len(self.formula.states)
        *known, memory = values
        nodes, before = known[:-states], known[-states:]
        hooks = _ReplayHooks(iter(nodes), memory)
        # The terms and the products only add to nodes, and each node is replaced by its known
        # value: so zeros do for them here.
        terms = {k: ops.zeros_like(memory) for k in self.input_blocks}
        h, _ = self.formula.step(weights, terms, before, self.dropout, hooks)
        return [*hooks.pieces, Piece("output", (), h)]

    def slopes(self, values=None) -> Slopes:
        """Returns the slopes of each piece at `values`, by default at those of all time steps."""
        computed = [i for i, same in enumerate(self._is_value) if same is None]

        def raw_values(*values):
            pieces = self._replay(self.weights, values)
            return [pieces[i].raw for i in computed]

        found = backend.partials(raw_values, list(self.values if values is None else values))
        by_piece = dict(zip(computed, found, strict=True))
        return [
            {same: None}
            if same is not None
            else {j: slope for j, slope in enumerate(by_piece[i]) if slope is not None}
            for i, same in enumerate(self._is_value)
        ]

    def step_back(self, incoming: list, slopes: Slopes) -> tuple[list, list]:
        """Goes one time step back.

        Args:
            incoming: gradients of the states after the step, tensors (B, U): [dh, dc] or [dh].
            slopes: of the pieces at this time step.

        Returns:
            The gradients of the states before the step, and those of the nodes.
        """
        gradients: list[Any] = [None] * len(self.values)

        def push(piece: int, d) -> None:
            """Adds what a piece with gradient d passes on to the values that it depends on."""
            for i, slope in slopes[piece].items():
                part = d if slope is None else slope * d
                gradients[i] = part if gradients[i] is None else gradients[i] + part

        zeros = ops.zeros_like(incoming[0])
        push(len(self.pieces) - 1, incoming[0])
        if len(incoming) > 1:  # c is a state of its own: its gradient comes from both ways
            gradients[-1] = incoming[1] if gradients[-1] is None else gradients[-1] + incoming[1]
        for i in reversed(range(len(self.pieces) - 1)):
            push(i, self._gradient_of_raw(i, [zeros if d is None else d for d in gradients]))
        gradients = [zeros if d is None else d for d in gradients]
        nodes = len(self.nodes)
        return gradients[nodes:-1], gradients[:nodes]

    def _gradient_of_raw(self, i: int, gradients: list):
        """The gradient of a piece's raw value, from those of the values that follow from it."""
        piece = self.pieces[i]
        if piece.kind == "memory":
            return gradients[-1]
        of_nodes = [gradients[self.nodes.index(self._node_of(name))] for name in piece.names]
        if piece.kind == "node":
            return of_nodes[0]
        d, transposed = ops.concatenate(of_nodes, axis=-1), self._transposed[i]
        return cast_like(piece.kernel.product_back(ops, cast_like(d, transposed), transposed), d)

    def _node_of(self, block: str) -> str:
        """The node that a block's column of a product is added to."""
        behind = block == "candidate" and BEHIND_RESET in self.nodes
        return BEHIND_RESET if behind else block

    # For all time steps at once, after the loop

    def weight_gradients(self, of_nodes: Tensors) -> Tensors:
        """Returns the gradients of the weights from those of the nodes for all time steps."""
        found = self._kernel_gradients(of_nodes)
        vectors = {k: w for k, w in self.weights.items() if k not in found}
        return found | (self._vector_gradients(vectors, of_nodes) if vectors else {})

    def _vector_gradients(self, vectors: Tensors, of_nodes: Tensors) -> Tensors:
        """The gradients of biases, peepholes and diagonals: the nodes are linear in them."""

        def node_values(*tensors):
            weights = self.weights | dict(zip(vectors, tensors, strict=True))
            pieces = self._replay(weights, self.values)
            full = ops.zeros_like(self.values[-1])  # a bias alone would lack the axes T and B
            return [full + piece.raw for piece in pieces if piece.kind == "node"]

        gradients = backend.vjp(node_values, list(vectors.values()), list(of_nodes.values()))
        return dict(zip(vectors, gradients, strict=True))

    def _kernel_gradients(self, of_nodes: Tensors) -> Tensors:
        """The gradients of recurrent kernels that mix units: Σ_t vᵀ da of a block that reads v."""
        parts: dict[str, Tensors] = {}
        for piece in self.pieces:
            if piece.kind == "product":
                v, of_blocks = _flat(cast_like(piece.raw, piece.weight)), {}
                for k in piece.names:
                    d = _flat(cast_like(of_nodes[self._node_of(k)], piece.weight))
                    of_blocks[k] = piece.kernel.weight_gradient(ops, v, d)
                name = piece.kernel.weight_name("recurrent_kernel")
                parts[name] = parts.get(name, {}) | of_blocks
        names = self.formula.names
        return {w: ops.concatenate([p[k] for k in names[w]], axis=-1) for w, p in parts.items()}


def _flat(x):
    """(T, B, U) as (T B, U)."""
    return ops.reshape(x, (-1, x.shape[-1]))


def _index_of(raw, values: list) -> int | None:
    """The index of the known value that `raw` is, or None if it was computed."""
    return next((i for i, value in enumerate(values) if raw is value), None)
