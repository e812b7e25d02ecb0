r"""Which ONNX operator is a cell, and what each of its blocks takes: a function of the normal form.

| operator | blocks | one step |
|---|---|---|
| RNN | c | h = g(a_c) |
| GRU | z, r, c | h = z h + (1 - z) g(a_c), with r h in a_c or r around its recurrent term |
| LSTM | i, o, f, c | c = f c + i g(a_c), h = o φ(c) |

A gate that a cell lacks is a block without weights and with a bias that saturates its activation,
a tied one a copy of another's rows, a complement a copy with the sign turned. What sees only the
input can be computed for all time steps outside the operator and fed to it (`outside`).
"""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from math import atanh, log
from typing import Any

from keras_gated.spec.activations import lookup
from keras_gated.spec.normal_form import Block, NormalForm, Value
from keras_gated.spec.parts import Config

LINEAR = (None, "linear")
SATURATED = 100.0  # σ of it is 1 in float32, in onnxruntime from 18 on
Function = tuple[str, Any, Any]  # name; alpha and beta, floats or None where it has none
SIGMOID, TANH, AFFINE = ("Sigmoid", None, None), ("Tanh", None, None), ("Affine", 1.0, 0.0)

# What is tried in this order until an operator fits: nothing outside it, then more and more.
OUTSIDE = (
    frozenset[str](),
    frozenset({"output"}),
    frozenset({"candidate"}),
    frozenset({"candidate", "output"}),
    frozenset({"candidate", "input"}),
    frozenset({"candidate", "input", "output"}),
)


class Refused(Exception):
    """No operator says this; the message is the reason and names the field."""


@dataclass(frozen=True)
class Row:
    """What one block of an operator takes: `scale` times a block of the cell, plus `shift`.

    `recurrent` multiplies the recurrent kernel and the recurrent bias once more. Without a block
    there are no weights, and `shift` is the bias. `fed` is the candidate computed outside.
    """

    block: Block | None = None
    scale: float = 1.0
    shift: float = 0.0
    recurrent: float = 1.0
    fed: bool = False


@dataclass(frozen=True)
class Lowering:
    """A cell as one ONNX operator, or why it is none.

    Attributes:
        operator: "RNN", "GRU", "LSTM", or None.
        reason: why this operator; or the field of the specification that forbids every one.
        rows: what each block takes, by its letter, in the operator's order.
        functions: (name, alpha, beta) of the operator's activations, in its order.
        linear_before_reset: 1 where a GRU resets after the recurrent product.
        peepholes: whether there are any.
        hidden: whether an LSTM's memory is the cell's only state, so that c_0 is h_0.
        feeds: what the operator's input holds side by side: the input (None) or a function of it.
        outside: names of the blocks computed outside: "candidate" (fed as one more input), "input"
            (multiplied into it) and "output" (multiplied onto what leaves the operator).
    """

    operator: str | None
    reason: str
    rows: dict[str, Row]
    functions: tuple[Function, ...] = ()
    linear_before_reset: int = 0
    peepholes: bool = False
    hidden: bool = False
    feeds: tuple[Hashable, ...] = ()
    outside: frozenset[str] = frozenset()

    @property
    def attributes(self) -> dict:
        """The operator's attributes, but hidden_size; those that equal the default left out."""
        defaults = {"RNN": (TANH,), "GRU": (SIGMOID, TANH), "LSTM": (SIGMOID, TANH, TANH)}
        attributes: dict = {}
        if self.operator and self.functions != defaults[self.operator]:
            attributes |= listed(self.functions)
        if self.linear_before_reset:
            attributes["linear_before_reset"] = 1
        return attributes


def listed(functions: tuple[Function, ...]) -> dict:
    """Returns the attributes that name an operator's activations, of all its directions."""
    alpha = [a for _, a, _ in functions if a is not None]
    beta = [b for _, _, b in functions if b is not None]
    attributes: dict = {"activations": [name for name, _, _ in functions]}
    attributes |= {"activation_alpha": alpha} if alpha else {}
    return attributes | ({"activation_beta": beta} if beta else {})


def lower(form: NormalForm) -> Lowering:
    """Returns the operator that a normal form is, or the reason why it is none."""
    reasons = []
    for outside in OUTSIDE:
        try:
            _check_outside(form, outside)
            return _lowered(form, outside)
        except Refused as refusal:
            reasons.append(str(refusal))
    return Lowering(None, reasons[0], {})


def _lowered(form: NormalForm, outside: frozenset[str]) -> Lowering:
    _check_step(form)
    absent = {name: Value(constant=1.0) for name in outside if name != "candidate"}
    gates = form.gates | absent
    reset = gates["reset"]
    hidden = form.memory == "hidden"
    candidate = Row(form.candidate, fed="candidate" in outside)
    if reset.constant is not None:
        candidate = replace(candidate, recurrent=reset.constant)
    if hidden and reset.constant is not None and _are(gates, forget=0.0, input=1.0):
        found = _rnn(form, candidate)
    elif hidden and _coupled(gates):
        found = _gru(form, gates, candidate)
    elif reset.constant is not None:
        found = _lstm(form, gates, candidate)
    else:
        kind = "memory='cell'" if not hidden else "input and forget gates that do not add up to 1"
        raise Refused(f"reset_gate with {kind}: only a GRU resets")
    blocks = [row.block for row in found.rows.values() if row.block and not row.fed]
    feeds = tuple(dict.fromkeys(b.input_activation for b in blocks if b.kernel is not None))
    fed_alone = candidate.fed and not feeds
    return replace(
        found,
        feeds=feeds if feeds or fed_alone else (None,),
        peepholes=any(block.peephole for block in blocks),
        outside=outside,
    )


def _rnn(form: NormalForm, candidate: Row) -> Lowering:
    return Lowering("RNN", "no gate", {"c": candidate}, (_content(form, candidate),))


def _gru(form: NormalForm, gates: dict[str, Value], candidate: Row) -> Lowering:
    reset = gates["reset"]
    bistable = reset.block and form.blocks[reset.block].activation == "one_plus_tanh"
    function = _gate_function(form, gates, "forget" if bistable else ("forget", "reset"))
    rows = {"z": _gate_row(form, "forget", gates["forget"], function)}
    if reset.block is None:
        rows["r"] = _gate_row(form, "reset", Value(constant=1.0), function)
    elif bistable:
        # 1 + tanh(a) = 2 σ(2 a): the other 2 goes to what the gate multiplies.
        if reset.complement or function != SIGMOID:
            raise Refused("reset_gate with 'one_plus_tanh' beside gates that are not sigmoid")
        rows["r"] = Row(form.blocks[reset.block], scale=2.0, shift=2.0 * reset.offset)
        candidate = replace(candidate, recurrent=2.0)
    else:
        rows["r"] = _gate_row(form, "reset", reset, function)
    # Where each unit feeds itself alone, or nothing is reset, before and after are the same: take
    # the form that accelerators have.
    before = form.reset == "before" and form.candidate.recurrent_kernel == "dense"
    before = before and reset.block is not None
    return Lowering(
        "GRU",
        "one state, input and forget gate add up to 1",
        {**rows, "c": candidate},
        (function, _content(form, candidate)),
        linear_before_reset=0 if before else 1,
    )


def _lstm(form: NormalForm, gates: dict[str, Value], candidate: Row) -> Lowering:
    names = {"i": "input", "o": "output", "f": "forget"}
    function = _gate_function(form, gates, tuple(names.values()))
    rows = {letter: _gate_row(form, name, gates[name], function) for letter, name in names.items()}
    shows = rows["o"].block
    if shows and shows.name != "output" and shows.peephole:
        raise Refused("output_gate tied to a gate with a peephole: the operator's looks at c_t")
    hidden = form.memory == "hidden"
    shown = AFFINE if hidden else _function("output_activation", form.output_activation)
    return Lowering(
        "LSTM",
        "one state, gates not coupled" if hidden else "two states",
        {**rows, "c": candidate},
        (function, _content(form, candidate), shown),
        hidden=hidden,
    )


# Rows and activations


def _gate_row(form: NormalForm, name: str, value: Value, function: Function) -> Row:
    """The row that gives a gate its value under the operator's `function`."""
    if value.constant is not None:
        bias = _bias_for(value.constant, function)
        if bias is None:
            raise Refused(f"{name}_gate={value.constant:g}, which {function[0]} gates do not reach")
        return Row(shift=bias)
    block = form.blocks[value.block or ""]
    if not value.complement:
        return Row(block, shift=value.offset)
    if function == SIGMOID or (function[0] == "HardSigmoid" and function[2] == 0.5):
        return Row(block, scale=-1.0, shift=-value.offset)
    if function == AFFINE:
        return Row(block, scale=-1.0, shift=1.0 - value.offset)
    raise Refused(f"{name}_gate, the complement of a gate that is not sigmoid but {function[0]}")


def _bias_for(value: float, function: Function) -> float | None:
    """The bias b with function(b) = value, or None if there is none."""
    name, alpha, beta = function
    if name == "Sigmoid":
        return _logit(value)
    if name == "HardSigmoid":
        edge = {0.0: -SATURATED, 1.0: SATURATED}
        return edge.get(value, (value - beta) / alpha) if 0 <= value <= 1 else None
    if name == "Tanh":
        return {-1.0: -SATURATED, 1.0: SATURATED}.get(value) if abs(value) >= 1 else atanh(value)
    if name == "Affine":
        return (value - beta) / alpha
    if name == "Relu":
        return value if value >= 0 else None
    return None


def _logit(value: float) -> float | None:
    edge = {0.0: -SATURATED, 1.0: SATURATED}
    return log(value / (1 - value)) if 0 < value < 1 else edge.get(value)


def _gate_function(form: NormalForm, gates: dict[str, Value], names) -> Function:
    """The one activation of the gates called `names`; a free choice where all are constant."""
    names = (names,) if isinstance(names, str) else names
    blocks = {n: block for n in names if (block := gates[n].block) is not None}
    live = {n: form.blocks[block].activation for n, block in blocks.items()}
    if len(set(live.values())) > 1:
        listed = ", ".join(f"{name}: {activation}" for name, activation in live.items())
        raise Refused(f"activation of the gates differs ({listed}); an operator has one for all")
    if live:
        name, activation = next(iter(live.items()))
        return _function(f"activation of the {name} gate", activation)
    constants = [gates[name].constant for name in names]
    return SIGMOID if all(0.0 <= c <= 1.0 for c in constants if c is not None) else AFFINE


def _content(form: NormalForm, candidate: Row) -> Function:
    if candidate.fed:
        return AFFINE
    return _function("activation of the candidate", form.candidate.activation)


def _function(field: str, activation: Hashable) -> Function:
    found = lookup(activation).onnx
    if found is None:
        raise Refused(f"{field}: ONNX's recurrent operators have no {_activation_text(activation)}")
    return found


def _activation_text(activation: Hashable) -> str:
    if isinstance(activation, Config):
        return str(Config.thaw(activation).get("class_name", activation))
    return repr(activation) if isinstance(activation, str) else str(activation)


# What no operator says


def _check_step(form: NormalForm) -> None:
    if form.gate_recurrence:
        raise Refused("gate_recurrence: the gates of the step before are states of no operator")
    for field in ("memory_activation", "carry_activation"):
        if getattr(form, field) not in LINEAR:
            raise Refused(f"{field}={getattr(form, field)!r}: operators carry the memory as it is")
    for block in form.blocks.values():
        if block.recurrent_input_activation not in LINEAR:
            raise Refused(
                f"recurrent_input_activation of the {block.name} gate: operators read h as it is"
            )


def _check_outside(form: NormalForm, outside: frozenset[str]) -> None:
    """Whether the blocks called `outside` see nothing but the input."""
    for name in outside:
        value = form.gates.get(name, Value(block=name))
        block = form.blocks.get(value.block or "")
        if block is None or not block.input_only:
            raise Refused(f"{name} does not see the input alone")
    if "output" in outside and any(b.recurrent_kernel for b in form.blocks.values()):
        raise Refused("output_gate: h_(t-1) is read, so it acts inside the recurrence")


def _are(gates: dict[str, Value], **constants: float) -> bool:
    return all(gates[name].constant == value for name, value in constants.items())


def _coupled(gates: dict[str, Value]) -> bool:
    """Whether the input gate is one minus the forget gate."""
    i, f = gates["input"], gates["forget"]
    if i.constant is not None and f.constant is not None:
        return abs(i.constant + f.constant - 1.0) < 1e-12
    same = (i.block, i.offset) == (f.block, f.offset)
    return i.block is not None and same and i.complement != f.complement
