r"""The equations of a cell in LaTeX and in plain text, built from its normal form.

An equation is built from `Expr` objects. Each holds its LaTeX and counts the elementwise operations
that it stands for, so that equations and FLOPs cannot disagree.

Letters: i, f, r, o are the gates, c is the memory, n its normaliser, m the stabiliser. i' and f'
are gates divided by their sum, or times a power of e; s is a scale of what is written, q the
products that gates share with the candidate. W and U are dense kernels, w and u diagonal ones,
`U^{(n)}` one of n blocks on the diagonal, p peepholes, λ the vectors of decays, ζ and ν the trained
numbers of ties, `R_{jk}` the kernels of gate recurrence from gate j to gate k. b are biases, b'
second biases; that of the candidate is multiplied by the reset gate.
"""

import re
from typing import NamedTuple

from keras_gated.spec.activations import lookup
from keras_gated.spec.gate_values import GateValue, evaluate
from keras_gated.spec.normal_form import RECURRENT_GATES, Block, NormalForm

LETTER = {"input": "i", "forget": "f", "reset": "r", "candidate": "c", "output": "o"}


class Expr(NamedTuple):
    """An expression.

    Attributes:
        latex: the expression in LaTeX.
        ops: elementwise operations that it takes for each unit.
        is_sum: whether it needs brackets as a factor.
    """

    latex: str
    ops: int = 0
    is_sum: bool = False


class Equation(NamedTuple):
    """One equation: the quantity on the left, and the expression that computes it."""

    left: str
    right: Expr

    @property
    def latex(self) -> str:
        """The equation in LaTeX."""
        return f"{self.left} &= {self.right.latex}"

    @property
    def text(self) -> str:
        """The equation in plain text."""
        return f"{to_plain_text(self.left)} = {to_plain_text(self.right.latex)}"


def build_equations(form: NormalForm) -> list[Equation]:
    """Returns the equations of a cell, in the order in which they are computed."""
    return _EquationBuilder(form).equations()


def to_plain_text(latex: str) -> str:
    """Returns as plain text what this file writes as LaTeX."""
    for pattern, text in _PLAIN_TEXT:
        latex = re.sub(pattern, text, latex)
    return latex


_PLAIN_TEXT = (  # (pattern, replacement), applied in this order
    (r"\\tilde\{(\w)\}", "\\1\u0303"),
    (r"\\hat\{(\w)\}", "\\1\u0302"),
    (r"\\bar\{(\w)\}", "\\1\u0304"),
    (r"\\operatorname\{(\w+)\}", r"\1"),
    (r"\\frac\{1\}\{2\} ", "½ "),
    (r"\^\{(\(\d+\))\}", lambda m: m[1].translate(str.maketrans("()0123456789", "⁽⁾⁰¹²³⁴⁵⁶⁷⁸⁹"))),
    (r"\\sqrt\{([^}]*)\}", r"√(\1)"),
    (r"\^2", "²"),
    (r"_t(?=²)", "ₜ"),
    (r"\\lambda", "λ"),
    (r"\\zeta", "ζ"),
    (r"\\nu", "ν"),
    (r"_\{(\w),t\}", r"_\1"),
    (r"_\{(t-\d+)\}", lambda m: m[1].translate(str.maketrans("t-0123456789", "ₜ₋₀₁₂₃₄₅₆₇₈₉"))),
    (r"_\{(\w+)\}", r"_\1"),
    (r"_t\b", "ₜ"),
    (r"\\sigma", "σ"),
    (r"\\odot", "⊙"),
    (r"\\dots", "…"),
    (r"\\,", " "),
    (r"\\(\w+)", r"\1"),
)


def _sum(*terms: Expr | None) -> Expr:
    """The sum of the terms that are not None."""
    present = [term for term in terms if term is not None]
    if len(present) == 1:
        return present[0]
    ops = sum(term.ops for term in present) + len(present) - 1
    return Expr(" + ".join(term.latex for term in present), ops, is_sum=True)


def _times(gate: Expr | float, x: Expr) -> Expr | None:
    """`gate ⊙ x`: x itself if the gate is 1, None if it is 0."""
    if isinstance(gate, Expr):
        latex = rf"{_in_brackets(gate)} \odot {_in_brackets(x)}"
        return Expr(latex, gate.ops + x.ops + 1)
    if gate == 1.0:
        return x
    return Expr(rf"{gate:.12g} \, {_in_brackets(x)}", x.ops + 1) if gate else None


def _activated(activation, x: Expr) -> Expr:
    """The activation applied to x; x itself if the activation is linear."""
    found = lookup(activation)
    if found.latex == "{}":
        return x
    latex = found.latex.format(x.latex, g=_in_brackets(x))
    return Expr(latex, x.ops + found.ops, is_sum="+" in found.latex)


def _in_brackets(x: Expr) -> str:
    """LaTeX of x as a factor of an elementwise product: a sum gets brackets."""
    return f"({x.latex})" if x.is_sum else x.latex


def _as_factor(x: Expr) -> str:
    """LaTeX of x as a factor of a matrix product: all but a single symbol gets brackets."""
    return x.latex if re.fullmatch(r"[\\\w{}-]+", x.latex) else f"({x.latex})"


def _gate_value(block: Block, a: Expr) -> Expr:
    """The value of a gate with pre-activation a."""
    value = _activated(block.activation, a)
    if not block.decay:
        return value
    rate = rf"\operatorname{{softplus}}(\lambda_{LETTER[block.name]})"
    power = rf"-{block.decay:.12g} \, {rate} \odot {_in_brackets(value)}"
    return Expr(rf"\exp({power})", value.ops + 4)


class _EquationBuilder:
    """Builds the equations of one normal form.

    `x` and `h` are the symbols that blocks see: x becomes that of the window or of the projection.
    """

    def __init__(self, form: NormalForm):
        self.form = form
        self.memory = "c" if form.memory == "cell" else "h"
        self.x = Expr("x_t")
        self.h = Expr("h_{t-1}")
        # Blocks whose pre-activation gets a name, since a tied gate adds an offset to it.
        self.named = {value.block for value in form.gates.values() if value.offset}

    def equations(self) -> list[Equation]:
        form = self.form
        before = [name for name in ("input", "forget", "reset") if name in form.blocks]
        tied = [k for k in ("input", "forget", "reset") if form.gates[k].block not in ("", k)]
        equations = self._input()
        equations += self._shared_product() if form.shared else []
        for name in before:
            equations += self._gate(name)
        equations += [self._shared(k) for k in before if form.gates[k].other]
        equations += [Equation(f"{LETTER[k]}_t", self._tied_value(form.gates[k])) for k in tied]
        equations.append(Equation(rf"\tilde{{{self.memory}}}_t", self._candidate()))
        equations += self._scaled_gates() if form.normalizer else []
        equations += self._input_scale() if form.input_scale else []
        equations.append(Equation(f"{self.memory}_t", self._memory()))
        if form.normalizer:
            equations.append(Equation("n_t", Expr(r"f'_t \odot n_{t-1} + i'_t", 2)))
        if form.memory == "cell":
            equations += self._gate("output") if "output" in form.blocks else self._tied_output()
            read = Expr("c_t / n_t", 1) if form.normalizer else Expr("c_t")
            activated = _activated(form.output_activation, read)
            output = _times(self._gate_symbol("output"), activated)
            output = _sum(output, self._skip()) if output or form.input_skip else Expr("0")
            equations.append(Equation("h_t", output))
        return equations

    def _input(self) -> list[Equation]:
        """What is done to the input before the blocks see it: window and projection."""
        equations, form = [], self.form
        if form.window > 1:
            past = [f"x_{{t-{lag}}}" for lag in range(1, form.window)]
            equations.append(Equation(r"\bar{x}_t", Expr(f"[{'; '.join(['x_t', *past])}]")))
            self.x = Expr(r"\bar{x}_t")
        if form.projection:
            bias = Expr("b_x") if form.projection.use_bias else None
            projected = _sum(Expr(f"W_x {self.x.latex}"), bias)
            activated = _activated(form.projection.activation, projected)
            equations.append(Equation(r"\hat{x}_t", activated))
            self.x = Expr(r"\hat{x}_t")
        return equations

    def _shared_product(self) -> list[Equation]:
        """The products that gates share with the candidate."""
        block = self.form.candidate
        of_x = self._kernel_term(block, "kernel", self.x)
        return [Equation("q_t", _sum(of_x, self._kernel_term(block, "recurrent_kernel", self.h)))]

    def _gate(self, name: str) -> list[Equation]:
        block, k = self.form.blocks[name], LETTER[name]
        a = self._pre_activation(block)
        equations = []
        if name in self.named:
            equations.append(Equation(f"a_{{{k},t}}", a))
            a = Expr(f"a_{{{k},t}}")
        return [*equations, Equation(f"{k}_t", _gate_value(block, a))]

    def _shared(self, name: str) -> Equation:
        """A gate divided by the sum of itself and another one."""
        one, other = LETTER[name], LETTER[self.form.gates[name].other]
        return Equation(f"{one}'_t", Expr(f"{one}_t / ({one}_t + {other}_t)", 2))

    def _pre_activation(self, block: Block) -> Expr:
        k = LETTER[block.name]
        memory = "c_t" if block.peephole == "current" else "c_{t-1}"
        gates = [LETTER[j] for j in RECURRENT_GATES] if block.gate_recurrence else []
        return _sum(
            Expr("q_t") if block.shares else None,
            self._kernel_term(block, "kernel", self.x),
            self._kernel_term(block, "recurrent_kernel", self.h),
            Expr(rf"p_{k} \odot {memory}", 1) if block.peephole else None,
            *(Expr(f"R_{{{j}{k}}} {j}_{{t-1}}") for j in gates),
            Expr(f"b_{k}") if block.use_bias else None,
            Expr(f"b'_{k}") if block.use_recurrent_bias else None,
        )

    @staticmethod
    def _kernel_term(block: Block, key: str, x: Expr) -> Expr | None:
        """The product of x with the kernel `key` of a block; None if it has no such kernel."""
        kernel, inputs = getattr(block, key), key == "kernel"
        if kernel is None:
            return None
        x = _activated(block.input_activation if inputs else block.recurrent_input_activation, x)
        letter, k = "W" if inputs else "U", LETTER[block.name]
        latex, ops = kernel.latex(letter, k, _as_factor(x), _in_brackets(x))
        return Expr(latex, x.ops + ops)

    def _candidate(self) -> Expr:
        block, form = self.form.candidate, self.form
        r = self._gate_symbol("reset")
        h = _times(r, self.h) if form.reset == "before" else self.h
        recurrent = self._kernel_term(block, "recurrent_kernel", h) if h else None
        if form.reset == "after":
            product = _sum(recurrent, Expr("b'_c") if block.use_recurrent_bias else None)
            recurrent = _times(r, product)
        bias = Expr("b_c") if block.use_bias else None
        products = (self._kernel_term(block, "kernel", self.x), recurrent)
        a = _sum(*((Expr("q_t"),) if form.shared else products), bias)
        if form.reset == "all":
            a = _times(r, a) or a
        return _activated(block.activation, a)

    def _memory(self) -> Expr:
        carried = _activated(self.form.carry_activation, Expr(f"{self.memory}_{{t-1}}"))
        scaled = self.form.normalizer
        old = _times(self._gate_symbol("forget", scaled), carried)
        new = _times(self._gate_symbol("input", scaled), Expr(rf"\tilde{{{self.memory}}}_t"))
        new = _times(Expr("s_t"), new) if new and self.form.input_scale else new
        memory = _sum(old, new) if old or new else Expr("0")
        return _activated(self.form.memory_activation, memory)

    def _skip(self) -> Expr | None:
        """What the output shows of the input."""
        if not self.form.input_skip:
            return None
        o = self._gate_symbol("output")
        return _times(self.complement(o) if isinstance(o, Expr) else 1.0 - o, self.x)

    def _input_scale(self) -> list[Equation]:
        """The scale of what is written."""
        f = self._gate_symbol("forget")
        squared = f"{f.latex}^2" if isinstance(f, Expr) else f"{f**2:.12g}"
        return [Equation("s_t", Expr(rf"\sqrt{{1 - {squared}}}", 3))]

    def _scaled_gates(self) -> list[Equation]:
        """The stabiliser m, and the gates times exp(-m)."""
        log_i, log_f = self._log("input"), self._log("forget")
        old = _sum(log_f, Expr("m_{t-1}"))
        new = log_i or Expr("0")
        largest = Expr(rf"\max({old.latex}, {new.latex})", old.ops + new.ops + 1)
        i = Expr(rf"\exp({new.latex} - m_t)", new.ops + 2)
        f = Expr(rf"\exp({old.latex} - m_t)", old.ops + 2)
        return [Equation("m_t", largest), Equation("i'_t", i), Equation("f'_t", f)]

    def _log(self, name: str) -> Expr | None:
        """The logarithm of a gate; None if the gate is 1."""
        value = self._gate_symbol(name)
        if isinstance(value, Expr):
            return Expr(rf"\log({value.latex})", value.ops + 1)
        return None if value == 1.0 else Expr(rf"\log({value:.12g})")

    def _gate_symbol(self, name: str, scaled: bool = False) -> Expr | float:
        value = self.form.gates[name]
        if scaled or (value.other and value.block == name):
            return Expr(f"{LETTER[name]}'_t")
        return Expr(f"{LETTER[name]}_t") if value.constant is None else value.constant

    def _tied_output(self) -> list[Equation]:
        value = self.form.gates["output"]
        return [Equation("o_t", self._tied_value(value))] if value.block else []

    def _tied_value(self, value: GateValue) -> Expr:
        """The value of a tied gate, in terms of the gate that it follows."""
        return evaluate(value, self)

    # The arithmetic of `evaluate`

    def constant(self, value: float) -> float:
        return value

    def activated(self, block: str, offset: float) -> Expr:
        k = LETTER[block]
        if not offset:
            return Expr(f"{k}_t")
        sign = "+" if offset > 0 else "-"
        a = Expr(f"a_{{{k},t}} {sign} {abs(offset):.12g}", 1, is_sum=True)
        return _gate_value(self.form.blocks[block], a)

    def share(self, block: str, other: str) -> Expr:
        return Expr(f"{LETTER[block]}'_t")

    def complement(self, v: Expr) -> Expr:
        return Expr(f"1 - {_in_brackets(v)}", v.ops + 1, is_sum=True)

    def scaled(self, v: Expr, gate: str) -> Expr:
        k = LETTER[gate]
        latex = rf"\sigma(\zeta_{k}) \, {_in_brackets(v)} + \sigma(\nu_{k})"
        return Expr(latex, v.ops + 2, is_sum=True)
