r"""The equations of a cell, written from its normal form, as LaTeX and as plain text.

Every line is built by a few combinators that also count the elementwise operations it stands for.
Letters: i, f, r, o the gates, c the memory; W and U kernels, w and u diagonal ones, p peepholes,
R kernels of gate recurrence (`R_{jk}` from gate j to gate k), b biases, b' those inside the reset.
"""

import re
from typing import NamedTuple

from keras_gated.spec.activations import lookup
from keras_gated.spec.normal_form import RECURRENT_SOURCES, Block, NormalForm, Value

LETTER = {"input": "i", "forget": "f", "reset": "r", "candidate": "c", "output": "o"}


class Expr(NamedTuple):
    """An expression in LaTeX, and the elementwise operations that it takes per unit."""

    latex: str
    ops: int = 0
    is_sum: bool = False


class Line(NamedTuple):
    """One equation: what is defined, and as what."""

    left: str
    right: Expr

    @property
    def latex(self) -> str:
        """The equation in LaTeX."""
        return f"{self.left} &= {self.right.latex}"

    @property
    def text(self) -> str:
        """The equation in plain text."""
        return f"{plain(self.left)} = {plain(self.right.latex)}"


def lines(form: NormalForm) -> list[Line]:
    """Returns the equations of a cell, in the order in which they are computed."""
    return _Writer(form).lines()


def plain(latex: str) -> str:
    """Returns LaTeX of the kind written here as plain text."""
    for pattern, text in _PLAIN:
        latex = re.sub(pattern, text, latex)
    return latex


_PLAIN = (
    (r"\\tilde\{(\w)\}", "\\1\u0303"),
    (r"\\hat\{(\w)\}", "\\1\u0302"),
    (r"\\bar\{(\w)\}", "\\1\u0304"),
    (r"\\operatorname\{(\w+)\}", r"\1"),
    (r"\\frac\{1\}\{2\} ", "½ "),
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
    there = [term for term in terms if term is not None]
    if len(there) == 1:
        return there[0]
    ops = sum(term.ops for term in there) + len(there) - 1
    return Expr(" + ".join(term.latex for term in there), ops, is_sum=True)


def _grouped(x: Expr) -> str:
    return f"({x.latex})" if x.is_sum else x.latex


def _times(gate: Expr | float, x: Expr) -> Expr | None:
    """`gate ⊙ x`; x where the gate is 1, nothing where it is 0."""
    if isinstance(gate, Expr):
        return Expr(rf"{gate.latex} \odot {_grouped(x)}", gate.ops + x.ops + 1)
    if gate == 1.0:
        return x
    return Expr(rf"{gate:.12g} \, {_grouped(x)}", x.ops + 1) if gate else None


def _applied(activation, x: Expr) -> Expr:
    latex = lookup(activation).latex
    if latex == "{}":
        return x
    return Expr(latex.format(x.latex, g=_grouped(x)), x.ops + 1, is_sum="+" in latex)


class _Writer:
    """Writes the equations of one normal form."""

    def __init__(self, form: NormalForm):
        self.form = form
        self.memory = "c" if form.memory == "cell" else "h"
        self.x = Expr("x_t")
        self.h = Expr("h_{t-1}")
        values = form.gates.values()
        self.shifted = {value.block for value in values if value.offset}

    def lines(self) -> list[Line]:
        form = self.form
        before = [name for name in ("input", "forget", "reset") if name in form.blocks]
        tied = [k for k in ("input", "forget", "reset") if form.gates[k].block not in (None, k)]
        found = self._front()
        for name in before:
            found += self._gate(name)
        found += [Line(f"{LETTER[k]}_t", self._value(form.gates[k])) for k in tied]
        found.append(Line(rf"\tilde{{{self.memory}}}_t", self._candidate()))
        found.append(Line(f"{self.memory}_t", self._memory()))
        if form.memory == "cell":
            found += self._gate("output") if "output" in form.blocks else self._tied_output()
            shown = _applied(form.output_activation, Expr("c_t"))
            found.append(Line("h_t", _times(self._gate_symbol("output"), shown) or Expr("0")))
        return found

    def _front(self) -> list[Line]:
        """What is done to the input before the cell sees it."""
        found, form = [], self.form
        if form.window > 1:
            past = [f"x_{{t-{lag}}}" for lag in range(1, form.window)]
            found.append(Line(r"\bar{x}_t", Expr(f"[{'; '.join(['x_t', *past])}]")))
            self.x = Expr(r"\bar{x}_t")
        if form.projection:
            bias = Expr("b_x") if form.projection.use_bias else None
            projected = _sum(Expr(f"W_x {self.x.latex}"), bias)
            found.append(Line(r"\hat{x}_t", _applied(form.projection.activation, projected)))
            self.x = Expr(r"\hat{x}_t")
        return found

    def _gate(self, name: str) -> list[Line]:
        block, k = self.form.blocks[name], LETTER[name]
        a = self._pre_activation(block)
        found = []
        if name in self.shifted:
            found.append(Line(f"a_{{{k},t}}", a))
            a = Expr(f"a_{{{k},t}}")
        return [*found, Line(f"{k}_t", _applied(block.activation, a))]

    def _pre_activation(self, block: Block) -> Expr:
        k = LETTER[block.name]
        peep = "c_t" if block.name == "output" else "c_{t-1}"
        gates = [LETTER[j] for j in RECURRENT_SOURCES] if block.gate_recurrence else []
        return _sum(
            self._seen(block, "kernel", self.x),
            self._seen(block, "recurrent_kernel", self.h),
            Expr(rf"p_{k} \odot {peep}", 1) if block.peephole else None,
            *(Expr(f"R_{{{j}{k}}} {j}_{{t-1}}") for j in gates),
            Expr(f"b_{k}") if block.use_bias else None,
            Expr(f"b'_{k}") if block.use_recurrent_bias else None,
        )

    @staticmethod
    def _seen(block: Block, key: str, x: Expr) -> Expr | None:
        """The term of a kernel of `block` on x."""
        k, inputs = LETTER[block.name], key == "kernel"
        x = _applied(block.input_activation if inputs else block.recurrent_input_activation, x)
        letter = "W" if inputs else "U"
        return {
            "dense": Expr(f"{letter}_{k} {_bracketed(x)}", x.ops),
            "diagonal": Expr(rf"{letter.lower()}_{k} \odot {_grouped(x)}", x.ops + 1),
            "identity": x,
            None: None,
        }[getattr(block, key)]

    def _candidate(self) -> Expr:
        block, form = self.form.candidate, self.form
        r = self._gate_symbol("reset")
        h = _times(r, self.h) if form.reset == "before" else self.h
        recurrent = self._seen(block, "recurrent_kernel", h) if h else None
        if form.reset == "after":
            inner = _sum(recurrent, Expr("b'_c") if block.use_recurrent_bias else None)
            recurrent = _times(r, inner)
        bias = Expr("b_c") if block.use_bias else None
        a = _sum(self._seen(block, "kernel", self.x), recurrent, bias)
        return _applied(block.activation, a)

    def _memory(self) -> Expr:
        carried = _applied(self.form.carry_activation, Expr(f"{self.memory}_{{t-1}}"))
        new = Expr(rf"\tilde{{{self.memory}}}_t")
        kept = _times(self._gate_symbol("forget"), carried)
        written = _times(self._gate_symbol("input"), new)
        mixed = _sum(kept, written) if kept or written else Expr("0")
        return _applied(self.form.memory_activation, mixed)

    def _gate_symbol(self, name: str) -> Expr | float:
        constant = self.form.gates[name].constant
        return Expr(f"{LETTER[name]}_t") if constant is None else constant

    def _value(self, value: Value) -> Expr:
        """The value of a tied gate, by the gate that it follows."""
        k = LETTER[value.block or ""]
        v = Expr(f"{k}_t")
        if value.offset:
            sign = "+" if value.offset > 0 else "-"
            a = Expr(f"a_{{{k},t}} {sign} {abs(value.offset):.12g}", 1, is_sum=True)
            v = _applied(self.form.blocks[value.block or ""].activation, a)
        return Expr(f"1 - {_grouped(v)}", v.ops + 1, is_sum=True) if value.complement else v

    def _tied_output(self) -> list[Line]:
        value = self.form.gates["output"]
        return [] if value.constant is not None else [Line("o_t", self._value(value))]


def _bracketed(x: Expr) -> str:
    """x as a factor of a matrix product."""
    return x.latex if re.fullmatch(r"[\\\w{}-]+", x.latex) else f"({x.latex})"
