r"""One step of the formula on tensors; letters and order as in the equations.

$$
\begin{aligned}
a_k &= W_k \phi_x(x_t) + U_k \phi_h(h_{t-1}) + p_k \odot c^*
    + \textstyle\sum_j R_{jk} j_{t-1} + b_k \\
\tilde{c}_t &= g(W_c x_t + U_c (r_t \odot h_{t-1}) + b_c)
    \quad\text{or}\quad g(W_c x_t + b_c + r_t \odot (U_c h_{t-1} + b'_c)) \\
c_t &= \mu(f_t \odot \kappa(c_{t-1}) + i_t \odot \tilde{c}_t) \\
h_t &= o_t \odot \varphi(c_t)
\end{aligned}
$$

`Formula.step` computes these lines for one time step, in the setting of a normal form. It knows no
time: `loop`, `parallel_scan` and `GatedCell` call it, and read its inside through `Hooks`. Rare
parts of gates are in `gate_tensors`, memories with a normaliser in `scaled_memories`.

`weights` is a dictionary of tensors, by the names in `NormalForm.weights`. Under mixed precision
matrices, inputs and products have 16 bits. States, vectors and all elementwise operations have 32,
so that the memory loses nothing over many time steps.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import keras
from keras import ops

from keras_gated.engine.backends.selected import backend
from keras_gated.engine.gate_tensors import GateTensors
from keras_gated.engine.scaled_memories import scaled_memories, with_rounded_scale
from keras_gated.spec.activations import is_own, lookup
from keras_gated.spec.kernels import DENSE, Kernel
from keras_gated.spec.normal_form import NormalForm, Weight

Tensors = dict[Any, Any]  # by name, or by key and blocks
EPSILON = 1e-5  # of layer normalisation, added to the variance
GAINS = {"kernel": "kernel_gain", "recurrent_kernel": "recurrent_gain"}


def split(names: tuple[str, ...], tensor) -> Tensors:
    """Returns the blocks of a tensor that holds `names` side by side.

    The only place that cuts a tensor into blocks: a gate is found by its name, never by an offset.
    """
    if len(names) == 1:
        return {names[0]: tensor}
    return dict(zip(names, ops.split(tensor, len(names), axis=-1), strict=True))


def cast_like(x, like):
    """Returns x in the type of `like`, x itself if it has that type."""
    return x if x.dtype == like.dtype else ops.cast(x, like.dtype)


def product(kernel: Kernel, x, w, blocks: int = 1):
    """Returns the product of x with a kernel w of some blocks, taken in the type of w.

    A matrix may have 16 bits, and the result then has the type of x.
    """
    sums = ops if x.dtype == w.dtype else backend.ops_with_sums_in(x.dtype, w.dtype)
    y = kernel.product(sums, cast_like(x, w), w, blocks)
    return cast_like(y, x) if kernel.mixes_units else y


def product_by_block(kernel: Kernel, names: tuple[str, ...], x, w) -> Tensors:
    """Returns `{name: its part of the product of x with w}`."""
    return split(names, product(kernel, x, w, len(names)))


def separate_columns(kernel: Kernel, names: tuple[str, ...], x, w) -> Tensors:
    """Returns the same for x in the type of w; each part is from a product of its own.

    A wide product that is cut later is slower in the loop: XLA reads several blocks from one tensor
    without vector instructions (see `loop_plan`).
    """
    return {name: kernel.product(ops, x, part, 1) for name, part in split(names, w).items()}


def _normal(x):
    """x with mean 0 and variance 1 over the last axis."""
    x = x - ops.mean(x, axis=-1, keepdims=True)
    return x * ops.rsqrt(ops.mean(x * x, axis=-1, keepdims=True) + EPSILON)


class DropoutMasks(NamedTuple):
    """Masks (B, U) that multiply h where it is read, and the candidate, or None."""

    h: Any = None
    candidate: Any = None


class Hooks:
    """Places of a step at which its caller can read a value, or put in another one.

    Everything between these places is elementwise, so a caller can differentiate it entry by entry
    (`backward`), or replace the memory of one step by that of all steps (`parallel_scan`).
    A node is a pre-activation: the sum of an input term, columns of a product, and terms that are
    elementwise in weights and states.
    """

    def product(self, kernel: Kernel, names: tuple[str, ...], v, w) -> Tensors:
        """Returns `{name: its part of v w}`. All recurrent products that mix units are here."""
        return product_by_block(kernel, names, v, w)

    def node(self, name: str, a):
        """Returns the pre-activation `name`; `BEHIND_RESET` is `U_c h + b'_c`, before its reset."""
        return a

    def activated(self, block: str, function: Callable, a):
        """Returns `function(a)`, the activation of a block."""
        return function(a)

    def memory(self, c, forget_value, written):
        """Returns `c_t`, which is `μ(forget_value ⊙ κ(c_{t-1}) + written)`; then a normaliser n_t.

        A constant forget gate is a float; `written` is None where nothing is written.
        """
        return c

    def stabilizer(self, m):
        """Returns the stabiliser `m_t`, which comes before the memories that it scales."""
        return m

    def values(self, **values) -> None:
        """Receives the gates by name, the candidate, `c` and `h` of a finished step."""


SKIP = "skip"  # the input that the output shows, among the input terms and the nodes
SHARED = "shared products"  # a node: of the candidate, and of gates that share them
BEHIND_RESET = "candidate behind the reset gate"
HOOKS = Hooks()
NO_DROPOUT = DropoutMasks()


_shared: "WeakValueDictionary[tuple, Formula]" = WeakValueDictionary()


def formula_of(*arguments) -> "Formula":
    """Returns `Formula(*arguments)`: for equal arguments the same one, if it is repeatable."""
    formula = Formula(*arguments)
    return _shared.setdefault(arguments, formula) if formula.repeatable else formula


class Formula:
    """The formula as one normal form sets it.

    Args:
        form: the normal form.
        clip: float > 0, the largest |c_t|, or None.
        extra_weights: weights of options: gains of layer normalisation (Ba, Kiros and Hinton 2016,
            arXiv:1607.06450), which is done where there are any, and a projection of the output.
    """

    def __init__(
        self,
        form: NormalForm,
        clip: float | None = None,
        extra_weights: tuple[Weight, ...] = (),
    ):
        self.form, self.states, self.memory_index = form, form.states, form.memory_index
        self.mu = _clipped(lookup(form.memory_activation).function, clip)
        self.kappa = lookup(form.carry_activation).function
        self.phi = lookup(form.output_activation).function
        self.activation = {k: lookup(b.activation).function for k, b in form.blocks.items()}
        # Of some gates a step computes the logarithm, by an activation of its own.
        computed = {k: lookup(b.activation) for k, b in form.blocks.items()}
        computed |= {k: lookup(computed[k].log) for k in form.in_log if not form.blocks[k].decay}
        self.log_activation = {k: computed[k].function for k in form.in_log}
        self.decay = {k: b.decay for k, b in form.blocks.items() if b.decay}
        # Slopes of a value, see `Cut`: of blocks whose activation alone reads their node.
        alone = form.blocks.keys() - ({"candidate"} if form.reset == "all" else set())
        self.slope = {k: a.slope for k, a in computed.items() if a.slope and k in alone}
        blocks = form.blocks.values()
        of_blocks = (x for b in blocks for x in (b.activation, b.recurrent_input_activation))
        named = (form.memory_activation, form.carry_activation, form.output_activation, *of_blocks)
        used = [lookup(name) for name in named]
        # Whether nothing is called that a user wrote, and that may not be the same at each call.
        self.repeatable = all(map(is_own, named))
        self.elementwise = all(activation.elementwise for activation in used)
        self.functions = [activation.function for activation in used]
        self.phi_x = {k: lookup(b.input_activation).function for k, b in form.blocks.items()}
        self.phi_h = {
            k: lookup(b.recurrent_input_activation).function for k, b in form.blocks.items()
        }
        # The gate whose peephole sees c_t; its pre-activation is complete after the memory.
        self.late = frozenset(k for k, b in form.blocks.items() if b.peephole == "current")
        weights = (*form.weights, *extra_weights)
        self.names = {weight.name: weight.blocks for weight in weights}
        self.of_input = {weight.name for weight in weights if weight.sees == "input"}
        # A reset before the product needs the gates first: then the candidate reads h after them.
        behind = ("candidate",) if form.reset == "before" else ()
        self.read_order = (tuple(k for k in form.blocks if k not in behind), behind)

    def input_terms(self, weights: Tensors, x, product=product_by_block) -> Tensors:
        """Returns `W_k φ_x(x)` of each block that has it; x may have any leading axes.

        `SKIP` is x itself, where the output shows it.
        """
        x = self.projected(weights, x)
        terms = self._kernel_terms(weights, x, "kernel", self.form.blocks, self.phi_x, product)
        return terms | ({SKIP: x} if self.form.input_skip else {})

    def biased(self, weights: Tensors, terms: Tensors) -> Tensors:
        """Returns the input terms with `b_k` added."""
        return _added(terms, self._biases(weights, row=0))

    def projected(self, weights: Tensors, x):
        """Returns x as the kernels see it: after the input projection, if there is one."""
        if self.form.projection is None:
            return x
        x = product(DENSE, x, weights["projection_kernel"])
        if "projection_bias" in weights:
            x = x + cast_like(weights["projection_bias"], x)
        return lookup(self.form.projection.activation).function(x)

    def recurrent_terms(self, weights: Tensors, h, blocks: Iterable[str], product=product_by_block):
        """Returns `U_k φ_h(h) + b'_k` of each of `blocks` that has any."""
        terms = self._kernel_terms(weights, h, "recurrent_kernel", blocks, self.phi_h, product)
        biases = self._biases(weights, row=1)
        return _added(terms, {k: b for k, b in biases.items() if k in blocks})

    def slice_weights(self, weights: dict) -> dict:
        """Slices kernels and biases once, before the loop.

        Returns the weights, and with them the columns of each product and the biases by block, so
        that no step cuts a weight again. Kernels of the input may be missing.
        """
        ready = dict(weights)
        reads = [("recurrent_kernel", blocks, self.phi_h) for blocks in self.read_order]
        for key, blocks, before in (*reads, ("kernel", self.form.blocks, self.phi_x)):
            for kernel, _, names in self._products(key, blocks, before):
                if (name := kernel.weight_name(key)) in weights:
                    ready[name, names] = self._columns(weights, name, names)
        return ready | {("bias", row): self._biases(weights, row) for row in (0, 1)}

    def step(
        self, weights: Tensors, input_terms: Tensors, states: list, dropout=NO_DROPOUT, hooks=HOOKS
    ):
        """Returns the output and the new states of one step.

        Args:
            weights: tensors by name.
            input_terms: what `input_terms` returned for x_t, tensors (B, U).
            states: tensors (B, U) in the order of `NormalForm.states`: [h, c], [h], [h, c, n, m]
                with a normaliser, or [h, c, i, f, o] with gate recurrence.
            dropout: `DropoutMasks`.
            hooks: `Hooks`.
        """
        form, names = self.form, self.states
        state = dict(zip(names, states, strict=True))
        h = state["h"] if dropout.h is None else state["h"] * dropout.h
        c = state.get("c", state["h"])

        # a_k of the gates; the output gate's is not complete if it has a peephole at c_t.
        first, behind = self.read_order
        terms = {k: cast_like(a, c) for k, a in input_terms.items()}
        recurrent = self.recurrent_terms(weights, h, first, hooks.product)
        if form.shared:
            terms, recurrent = self._shared_terms(terms, recurrent, hooks)
        terms = self.biased(weights, terms)
        p = split(self.names["peephole"], weights["peephole"]) if "peephole" in weights else {}
        a = _added(_gates(terms), _gates(recurrent))
        a = _added(a, self._gates_before(weights, state))
        a = _added(a, {k: p[k] * c for k in p if k not in self.late})
        a = {k: x if k in self.late else hooks.node(k, x) for k, x in a.items()}
        value = self.gate_values(a, hooks, weights)

        r = value("reset")
        if behind:
            recurrent = self.recurrent_terms(weights, _times(r, h), behind, hooks.product)
        candidate = self._candidate(terms.get("candidate"), recurrent.get("candidate"), r, hooks)
        if dropout.candidate is not None:
            candidate = dropout.candidate * candidate

        # c_t, then what depends on it: the output gate's peephole, and h_t.
        new = self._memories(value, state, candidate, hooks)
        c = new["c"]
        if self.late:
            a["output"] = hooks.node("output", _sum(a.get("output"), p["output"] * c))
        o = value("output")
        read = c / new["n"] if form.normalizer else c
        h = _times(o, self.phi(self._normalized_memory(weights, read)))
        h = _sum(h, _times(1.0 - o, a[SKIP]) if form.input_skip else None, like=c)
        if "output_projection_kernel" in weights:
            h = product(DENSE, h, weights["output_projection_kernel"])
        gates = {"input": value("input"), "forget": value("forget"), "output": o}
        hooks.values(**gates, reset=r, candidate=candidate, c=c, h=h)
        new |= {"h": h} | (gates if form.gate_recurrence else {})
        return h, [new[name] for name in names]

    def states_in(self, dtype: str, states: list) -> list:
        """Returns states that can be rounded to `dtype` one by one: no scale is lost."""
        if not self.form.normalizer or keras.backend.standardize_dtype(states[0].dtype) == dtype:
            return states
        state = dict(zip(self.states, states, strict=True))
        state |= with_rounded_scale(state, dtype)
        return [state[name] for name in self.states]

    def gate_values(self, a: Tensors, hooks=HOOKS, weights: Tensors | None = None) -> GateTensors:
        """Returns a function: name of a gate -> its value, from pre-activations `a` by block.

        `weights` may be missing if no gate has a decay or a trained tie.
        """
        weights = weights or {}
        vectors = {k: weights[k] for k in ("decay", "tie") if k in weights}
        parts = {k: split(self.names[k], w) for k, w in vectors.items()}
        return GateTensors(self, a, hooks, parts.get("decay", {}), parts.get("tie", {}))

    def _shared_terms(self, terms: Tensors, recurrent: Tensors, hooks: Hooks) -> tuple:
        """Returns the terms with the candidate's products in all blocks that share them.

        The sum is a node: the gradients of all its readers meet there, before they go on to the
        products.
        """
        rest = {k: u for k, u in recurrent.items() if k != "candidate"}
        q = hooks.node(SHARED, _sum(terms.get("candidate"), recurrent.get("candidate")))
        return terms | {k: q for k in (*self.form.shared, "candidate")}, rest

    def _memories(self, value: GateTensors, state: Tensors, candidate, hooks: Hooks) -> Tensors:
        """Returns the memories after the step by name; the first is "c", also if it is h."""
        if self.form.normalizer:
            return scaled_memories(value, state, candidate, hooks)
        c, f = state[self.form.memories[0]], value("forget")
        written = _times(value("input"), candidate)
        if self.form.input_scale and written is not None:
            written = _times(value.root_of_rest("forget"), written)
        c = self.mu(_sum(_times(f, self.kappa(c)), written, like=c))
        return {"c": hooks.memory(c, f, written)}

    def _normalized_memory(self, weights: Tensors, c):
        """The memory as the output h reads it: LN(c) with layer normalisation, else c."""
        if "memory_gain" not in weights:
            return c
        return _normal(c) * weights["memory_gain"] + weights["memory_shift"]

    def _candidate(self, term, recurrent, r, hooks: Hooks):
        if self.form.reset == "after":
            recurrent = _times(r, hooks.node(BEHIND_RESET, recurrent))
            a = _sum(None if term is None else hooks.node("candidate", term), recurrent)
        else:
            a = hooks.node("candidate", _sum(term, recurrent))
            a = _times(r, a) if self.form.reset == "all" else a
        return hooks.activated("candidate", self.activation["candidate"], a)

    def _kernel_terms(
        self, weights, x, key: str, blocks, before: dict, product_of_blocks
    ) -> Tensors:
        """`{block: its term}` for the kernels called `key`: "kernel" or "recurrent_kernel".

        `before` holds the function that each block applies to x first.
        """
        terms: Tensors = {}
        for kernel, phi, names in self._products(key, blocks, before):
            seen, name = phi(x), kernel.weight_name(key)
            w = self._columns(weights, name, names) if name else None
            if not kernel.mixes_units:
                terms[names[0]] = seen if w is None else product(kernel, seen, w)
            elif (gain := GAINS[key]) in weights:
                whole = product(kernel, seen, w, len(names))
                normal = _normal(cast_like(whole, weights[gain]))
                terms |= split(names, normal * self._columns(weights, gain, names))
            else:
                terms |= product_of_blocks(kernel, names, seen, w)
        # In the order of the blocks, whichever products they are from: `Cut` counts on it.
        return {name: terms[name] for name in self.form.blocks if name in terms}

    def _products(self, key: str, blocks, before: dict) -> list[tuple]:
        """`(kernel, φ, names of blocks)` of each product with the kernels called `key`.

        Blocks with one φ and one kind of kernel share a product, unless that is elementwise.
        """
        found: dict[tuple, tuple] = {}
        for name in blocks:
            if (kernel := getattr(self.form.blocks[name], key)) is not None:
                group = (kernel, before[name], "" if kernel.mixes_units else name)
                found[group] = (*found.get(group, ()), name)
        return [(kernel, phi, names) for (kernel, phi, _), names in found.items()]

    def _columns(self, weights: Tensors, name: str, names: tuple[str, ...]):
        """The part of a weight that belongs to some blocks."""
        if (name, names) in weights:
            return weights[name, names]
        if names == self.names[name]:
            return weights[name]
        parts = split(self.names[name], weights[name])
        return ops.concatenate([parts[k] for k in names], axis=-1)

    def _biases(self, weights: Tensors, row: int) -> Tensors:
        """`{block: bias}` of row 0, or of row 1, which only cells with reset_after have."""
        if ("bias", row) in weights:
            return weights["bias", row]
        if "bias" not in weights:
            return {}
        bias = weights["bias"]
        if len(bias.shape) == 2:
            return split(self.names["bias"], bias[row])
        return split(self.names["bias"], bias) if row == 0 else {}

    def _gates_before(self, weights: Tensors, state: Tensors) -> Tensors:
        if not self.form.gate_recurrence:
            return {}
        before = ops.concatenate([state[name] for name in self.states[2:]], axis=-1)
        kernel = weights["gate_recurrent_kernel"]
        return product_by_block(DENSE, self.names["gate_recurrent_kernel"], before, kernel)


def _clipped(function: Callable, limit: float | None) -> Callable:
    if limit is None:
        return function
    return lambda x: ops.clip(function(x), -limit, limit)


def _times(gate, x):
    """`gate ⊙ x`; None for a gate that is 0."""
    if isinstance(gate, float) and gate in (0.0, 1.0):
        return x if gate else None
    return gate * x


def _sum(*terms, like=None):
    """The sum of the terms that exist; zeros in the form of `like` if none does."""
    terms = [term for term in terms if term is not None]
    return sum(terms[1:], start=terms[0]) if terms else ops.zeros_like(like)


def _gates(terms: Tensors) -> Tensors:
    return {k: a for k, a in terms.items() if k != "candidate"}


def _added(terms: Tensors, more: Tensors) -> Tensors:
    """The sum of two dictionaries of terms, block by block."""
    return {
        k: _sum(terms.get(k), more.get(k)) for k in (*terms, *(k for k in more if k not in terms))
    }
