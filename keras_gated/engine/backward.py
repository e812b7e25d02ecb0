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
once, dU = Σ_t h_{t-1}ᵀ [da_i da_f da_c da_o]; or each step adds its summand (`loop_plan` has the
two ways).

`Cut` does this for every cell, and knows no gate by name. It runs the step with hooks that replace
each product, node and memory by its known value. What the step computes between two such points
is a `Piece`. It is elementwise, so its derivative by each known value has one number per entry: a
slope, for example σ'(a_o) tanh(c) above. `backend.partials` finds the slopes automatically. Where
the slope of an activation follows from its value, σ' = σ (1 - σ), the value is known instead of
the node, and no σ is computed again.
"""

from itertools import count
from typing import Any, NamedTuple

from keras import ops

from keras_gated.engine.backends.selected import backend
from keras_gated.engine.formula import BEHIND_RESET, SHARED, Formula, Hooks, Tensors, cast_like

# For each piece: {index of a known value: slope}. A slope of None: the piece is that value itself.
Slopes = list[dict[int, Any]]


class Piece(NamedTuple):
    """One line of the list above: `raw` is what the step computed there.

    Attributes:
        kind: "product", "node", "activation", "memory" or "output".
        names: of a product the blocks of its columns, of a node its name, of an activation its
            block.
        raw: the value, as a function of the known ones; of a product what is multiplied, of an
            activation its argument.
        at: the place of its value in `Cut.known`, or behind them for a node without a known value.
        kernel: of a product its kind,
        weight: and its weight.
    """

    kind: str
    names: tuple[str, ...]
    raw: Any
    at: int = -1
    kernel: Any = None
    weight: Any = None


class _ReplayHooks(Hooks):
    """Gives a step its known values, and collects its pieces.

    Products are zeros, unless `products` says that they are to be computed.
    """

    def __init__(self, formula: Formula, known: list, products: bool):
        self._products = products
        self._by_value, self._known, self._zeros = formula.slope, known, ops.zeros_like(known[-1])
        self._known_places, self._behind = count(), count(len(known))
        self._memory_places = count(len(known) - len(formula.form.memories))
        self.pieces: list[Piece] = []

    def product(self, kernel, names, v, w):
        self.pieces.append(Piece("product", names, v, -1, kernel, w))
        if self._products:
            return super().product(kernel, names, v, w)
        return {name: self._zeros for name in names}

    def node(self, name, a):
        """Returns any value where only an activation reads the node: its value is known."""
        if name in self._by_value:
            self.pieces.append(Piece("node", (name,), a, next(self._behind)))
            return self._zeros
        return self._replaced("node", name, a)

    def activated(self, block, function, a):
        return self._replaced("activation", block, a) if block in self._by_value else function(a)

    def memory(self, c, forget_value, written):
        at = next(self._memory_places)
        self.pieces.append(Piece("memory", (), c, at))
        return self._known[at]

    def stabilizer(self, m):
        self.pieces.append(Piece("memory", (), m, len(self._known) - 1))
        return self._known[-1]

    def _replaced(self, kind: str, name: str, raw):
        at = next(self._known_places)
        self.pieces.append(Piece(kind, (name,), raw, at))
        return self._known[at]


class Cut:
    """The step of a formula, cut into pieces at known values.

    Args:
        formula: of a cell without gate recurrence.
        weights: tensors by name.
        input_blocks: names of the blocks that have an input term.
        dropout: `DropoutMasks`.
        known: the known values, for all time steps, tensors (T, B, U): those of activations and
            nodes in the order of the step, the states before the step, and the memories after it.

    Attributes:
        pieces: in the order of the step.
        nodes: {name: place of its gradient}, in that order.
    """

    def __init__(self, formula: Formula, weights: Tensors, input_blocks, dropout, known: list):
        self.formula, self.weights, self.input_blocks = formula, weights, input_blocks
        self.dropout, self.known = dropout, known
        self._first_memory = len(known) - len(formula.form.memories)  # its place in `known`
        self.pieces = self._replay(weights, known)
        self.nodes = {p.names[0]: p.at for p in self.pieces if p.kind == "node"}
        # Where a piece is a known value as it stands (h_{t-1} in a product), it needs no slope.
        self._is_value = [_index_of(piece.raw, known) for piece in self.pieces]
        self._transposed = [
            p.kernel.transposed(ops, p.weight) if p.kernel else None for p in self.pieces
        ]

    def _replay(self, weights: Tensors, known: list, x=None) -> list[Piece]:
        """Runs the step at known values and returns its pieces.

        The terms and the products only add to nodes, and each node is replaced by its known value:
        so zeros do for them, unless x is given.
        """
        hooks = _ReplayHooks(self.formula, known, products=x is not None)
        terms = {k: ops.zeros_like(known[-1]) for k in self.input_blocks}
        terms = terms if x is None else self.formula.input_terms(weights, x)
        behind = self._first_memory
        before = known[behind - len(self.formula.states) : behind]
        h, _ = self.formula.step(weights, terms, before, self.dropout, hooks)
        return [*hooks.pieces, Piece("output", (), h)]

    def slopes(self, known: list | None = None) -> Slopes:
        """Returns the slopes of each piece at `known`, by default at those of all time steps."""
        known = self.known if known is None else known
        computed = [i for i, same in enumerate(self._is_value) if same is None]

        def raw_values(*known):
            pieces = self._replay(self.weights, list(known))
            return [pieces[i].raw for i in computed]

        found = backend.partials(raw_values, known)
        by_piece = dict(zip(computed, found, strict=True))
        return [
            self._with_activation(i, known, by_piece[i]) if same is None else {same: None}
            for i, same in enumerate(self._is_value)
        ]

    def _with_activation(self, i: int, known: list, slopes: list) -> dict[int, Any]:
        """The slopes of a computed piece, of an activation through its argument."""
        piece, row = self.pieces[i], {j: d for j, d in enumerate(slopes) if d is not None}
        if piece.kind != "activation":
            return row
        (block,) = piece.names
        slope = self.formula.slope[block](known[piece.at])
        by_node = {self.nodes[block]: slope} if block in self.nodes else {}
        return by_node | {j: slope * d for j, d in row.items()}

    def step_back(self, incoming: list, slopes: Slopes) -> tuple[list, list]:
        """Goes one time step back.

        Args:
            incoming: gradients of the states after the step, tensors (B, U): [dh, dc] or [dh]; dn
                and dm with a normaliser.
            slopes: of the pieces at this time step.

        Returns:
            The gradients of the states before the step, and those of the nodes.
        """
        gradients: list[Any] = [None] * (len(self.known) + len(self.nodes))

        def push(piece: int, d) -> None:
            """Adds what a piece with gradient d passes on to the values that it depends on."""
            for i, slope in slopes[piece].items():
                part = d if slope is None else slope * d
                gradients[i] = part if gradients[i] is None else gradients[i] + part

        zeros, c = ops.zeros_like(incoming[0]), self._first_memory
        push(len(self.pieces) - 1, incoming[0])
        # c is a state of its own: its gradient comes from both ways. So is n.
        for at, d in enumerate(incoming[1:], c):
            gradients[at] = d if gradients[at] is None else gradients[at] + d
        for i in reversed(range(len(self.pieces) - 1)):
            push(i, self._gradient_of_raw(i, [zeros if d is None else d for d in gradients]))
        gradients = [zeros if d is None else d for d in gradients]
        return gradients[c - len(incoming) : c], [gradients[at] for at in self.nodes.values()]

    def _gradient_of_raw(self, i: int, gradients: list):
        """The gradient of a piece's raw value, from those of the values that follow from it."""
        piece = self.pieces[i]
        if piece.kind != "product":
            return gradients[piece.at]
        of_nodes = [gradients[self.nodes[self._node_of(name)]] for name in piece.names]
        d, transposed = ops.concatenate(of_nodes, axis=-1), self._transposed[i]
        narrow = cast_like(d, transposed)
        sums = ops if narrow is d else backend.ops_with_sums_in(d.dtype, narrow.dtype)
        of_v = piece.kernel.product_back(sums, narrow, transposed, len(piece.names))
        return cast_like(of_v, d)

    def _node_of(self, block: str) -> str:
        """The node that a block's column of a product is added to."""
        behind = block == "candidate" and BEHIND_RESET in self.nodes
        return BEHIND_RESET if behind else self.node_of_term(block)

    def node_of_term(self, block: str) -> str:
        """Returns the node that the input term of a block is added to."""
        return SHARED if block == "candidate" and SHARED in self.nodes else block

    def step_gradients(self, x, of_nodes: list, known: list) -> tuple[Any, list]:
        """Returns the gradients of x and of the weights at one time step.

        With the known values given, each node is linear in the weights.

        Args:
            x: (B, F), the inputs of this time step.
            of_nodes: gradients of the nodes.
            known: the known values at this time step.
        """

        def node_values(x, *tensors):
            weights = dict(zip(self.weights, tensors, strict=True))
            return self._nodes(self._replay(weights, known, x), known)

        of_x, *found = backend.vjp(node_values, [x, *self.weights.values()], of_nodes)
        return of_x, found

    def _nodes(self, pieces: list[Piece], known: list) -> list:
        """The raw values of the nodes, with all axes: a bias alone would lack those of x."""
        full = ops.zeros_like(known[-1])
        return [full + piece.raw for piece in pieces if piece.kind == "node"]

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
            return self._nodes(self._replay(weights, self.known), self.known)

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
