r"""Which ONNX operator computes a cell, and what each block of the operator takes from the cell.

| operator | blocks | one step |
|---|---|---|
| RNN | c | h = g(a_c) |
| GRU | z, r, c | h = z h + (1 - z) g(a_c), with r h in a_c or r around its recurrent term |
| LSTM | i, o, f, c | c = f c + i g(a_c), h = o φ(c) |

`find_native_operator` reads a normal form and returns a `NativeOperator`. It fits
more cells than these three:

- A gate that the cell does not have becomes a block without weights, with a bias that saturates the
  activation (sigmoid(100) = 1).
- A gate tied to another takes a copy of the weights of the other gate. Its complement takes the
  negated weights: 1 - sigmoid(a) = sigmoid(-a).
- A gate or candidate that sees only the input is computed outside the operator, for all time steps
  at once. The candidate then becomes one more input of the operator (`NativeOperator.outside`).

If no operator fits, the reason is in `NativeOperator.reason`.
"""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from math import atanh, log
from typing import Any

from keras_gated.spec.activations import lookup
from keras_gated.spec.config import Config
from keras_gated.spec.gate_values import GateValue, evaluate
from keras_gated.spec.normal_form import Block, NormalForm

LINEAR = (None, "linear")
SATURATED = 100.0  # sigmoid is exactly 1 in float32 from about 18 on
Function = tuple[str, Any, Any]  # name, alpha, beta of an ONNX activation; None: no such one
SIGMOID, TANH, AFFINE = ("Sigmoid", None, None), ("Tanh", None, None), ("Affine", 1.0, 0.0)

# The activations of the operators, here and in other libraries, unless others are given.
DEFAULT_FUNCTIONS = {"RNN": (TANH,), "GRU": (SIGMOID, TANH), "LSTM": (SIGMOID, TANH, TANH)}

# Sets of blocks that are computed outside the operator, tried in this order until one fits.
OUTSIDE = (
    frozenset[str](),
    frozenset({"output"}),
    frozenset({"candidate"}),
    frozenset({"candidate", "output"}),
    frozenset({"candidate", "input"}),
    frozenset({"candidate", "input", "output"}),
)


class NoOperator(Exception):
    """Raised if an ONNX operator cannot compute a cell. The message says which field and why."""


@dataclass(frozen=True)
class OperatorBlock:
    """What one block of an operator takes: the weights of a block of the cell, scaled and shifted.

    Attributes:
        block: the block of the cell; None for a constant gate, which has no weights.
        scale: multiplies all weights of the block. It is -1 for a complement.
        shift: is added to the bias.
        recurrent: multiplies the recurrent kernel and the recurrent bias once more.
        computed_outside: whether this is a candidate that reaches the operator as an input.
    """

    block: Block | None = None
    scale: float = 1.0
    shift: float = 0.0
    recurrent: float = 1.0
    computed_outside: bool = False


@dataclass(frozen=True)
class NativeOperator:
    """A cell as one ONNX operator, or the reason why no operator computes it.

    Attributes:
        operator: "RNN", "GRU", "LSTM", or None.
        reason: why this operator was chosen, or which field of the specification none of them has.
        blocks: what each block of the operator takes, by its letter, in the operator's order.
        functions: (name, alpha, beta) of the operator's activations, in its order.
        linear_before_reset: attribute of a GRU; 1 if it resets after the recurrent product.
        peepholes: whether any block has a peephole.
        single_state: whether the cell computed by an LSTM has one state, so that c_0 is h_0.
        input_functions: what the operator's input holds side by side: for None the input itself,
            for an activation that function of the input.
        outside: names of the blocks computed outside the operator: "candidate" (one more input),
            "input" (multiplies that input) and "output" (multiplies the operator's output).
    """

    operator: str | None
    reason: str
    blocks: dict[str, OperatorBlock]
    functions: tuple[Function, ...] = ()
    linear_before_reset: int = 0
    peepholes: bool = False
    single_state: bool = False
    input_functions: tuple[Hashable, ...] = ()
    outside: frozenset[str] = frozenset()

    @property
    def attributes(self) -> dict:
        """The attributes of the ONNX node that differ from their defaults, except hidden_size."""
        attributes: dict = {}
        if self.operator and self.functions != DEFAULT_FUNCTIONS[self.operator]:
            attributes |= activation_attributes(self.functions)
        if self.linear_before_reset:
            attributes["linear_before_reset"] = 1
        return attributes


def activation_attributes(functions: tuple[Function, ...]) -> dict:
    """Returns the attributes of an ONNX node that set its activations.

    Args:
        functions: (name, alpha, beta) of each activation, for all directions of the node.
    """
    alpha = [a for _, a, _ in functions if a is not None]
    beta = [b for _, _, b in functions if b is not None]
    attributes: dict = {"activations": [name for name, _, _ in functions]}
    attributes |= {"activation_alpha": alpha} if alpha else {}
    return attributes | ({"activation_beta": beta} if beta else {})


def find_native_operator(form: NormalForm) -> NativeOperator:
    """Returns the ONNX operator that computes a cell, or the reason why none does."""
    reasons = []
    for outside in OUTSIDE:
        try:
            _check_outside(form, outside)
            return _fit(form, outside)
        except NoOperator as error:
            reasons.append(str(error))
    return NativeOperator(None, reasons[0], {})  # reasons[0]: with nothing computed outside


def _fit(form: NormalForm, outside: frozenset[str]) -> NativeOperator:
    """Returns the operator with the blocks in `outside` computed outside it."""
    _check_step(form)
    absent = {name: GateValue(constant=1.0) for name in outside if name != "candidate"}
    gates = form.gates | absent
    reset = gates["reset"]
    hidden = form.memory == "hidden"
    candidate = OperatorBlock(form.candidate, computed_outside="candidate" in outside)
    if reset.constant is not None:
        candidate = replace(candidate, recurrent=reset.constant)
    if hidden and reset.constant is not None and _have_constants(gates, forget=0.0, input=1.0):
        native = _rnn(form, candidate)
    elif hidden and _coupled(gates):
        native = _gru(form, gates, candidate)
    elif reset.constant is not None:
        native = _lstm(form, gates, candidate)
    else:
        kind = "memory='cell'" if not hidden else "input and forget gates that do not add up to 1"
        raise NoOperator(f"reset_gate with {kind}: only the operator GRU has a reset gate")
    taken = [b.block for b in native.blocks.values() if b.block and not b.computed_outside]
    functions = tuple(dict.fromkeys(b.input_activation for b in taken if b.kernel is not None))
    only_candidate = candidate.computed_outside and not functions
    return replace(
        native,
        # An operator needs an input, even if no block reads it.
        input_functions=functions if functions or only_candidate else (None,),
        peepholes=any(block.peephole for block in taken),
        outside=outside,
    )


def _rnn(form: NormalForm, candidate: OperatorBlock) -> NativeOperator:
    return NativeOperator(
        "RNN", "no gate", {"c": candidate}, (_candidate_function(form, candidate),)
    )


def _gru(form: NormalForm, gates: dict[str, GateValue], candidate: OperatorBlock) -> NativeOperator:
    reset = gates["reset"]
    bistable = reset.block and form.blocks[reset.block].activation == "one_plus_tanh"
    function = _gate_function(form, gates, "forget" if bistable else ("forget", "reset"))
    blocks = {"z": _gate_block(form, "forget", gates["forget"], function)}
    if not reset.block:
        blocks["r"] = _gate_block(form, "reset", GateValue(constant=1.0), function)
    elif bistable:
        # 1 + tanh(a) = 2 σ(2 a): `scale` is the inner 2, the candidate takes the outer one.
        if reset.complement or function != SIGMOID:
            raise NoOperator(
                "reset_gate with activation 'one_plus_tanh': the other gate must be a sigmoid then"
            )
        blocks["r"] = OperatorBlock(form.blocks[reset.block], scale=2.0, shift=2.0 * reset.offset)
        candidate = replace(candidate, recurrent=2.0)
    else:
        blocks["r"] = _gate_block(form, "reset", reset, function)
    # If the recurrent kernel mixes no units, or nothing is reset, before and after are equal. Then
    # take "after", the only form that accelerators compute.
    kernel = form.candidate.recurrent_kernel
    before = form.reset == "before" and kernel and kernel.mixes_units and reset.block
    return NativeOperator(
        "GRU",
        "one state, input and forget gate add up to 1",
        {**blocks, "c": candidate},
        (function, _candidate_function(form, candidate)),
        linear_before_reset=0 if before else 1,
    )


def _lstm(
    form: NormalForm, gates: dict[str, GateValue], candidate: OperatorBlock
) -> NativeOperator:
    names = {"i": "input", "o": "output", "f": "forget"}
    function = _gate_function(form, gates, tuple(names.values()))
    blocks = {k: _gate_block(form, name, gates[name], function) for k, name in names.items()}
    followed = blocks["o"].block
    if followed and followed.name == "output" and followed.peephole == "previous":
        raise NoOperator(
            "peephole of the output gate: the operator's output gate sees c_t, this one c_(t-1)"
        )
    if followed and followed.name != "output" and followed.peephole:
        raise NoOperator(
            "output_gate tied to a gate with a peephole: the operator's output gate sees c_t, "
            "the other gate c_(t-1)"
        )
    hidden = form.memory == "hidden"
    output = AFFINE if hidden else _function("output_activation", form.output_activation)
    return NativeOperator(
        "LSTM",
        "one state, gates not coupled" if hidden else "two states",
        {**blocks, "c": candidate},
        (function, _candidate_function(form, candidate), output),
        single_state=hidden,
    )


# Blocks of the operator, and its activations


def _gate_block(form: NormalForm, name: str, value: GateValue, function: Function) -> OperatorBlock:
    """The operator's block for a gate with this value, if `function` is the gates' activation."""
    return evaluate(value, _OperatorArithmetic(form, name, function))


@dataclass(frozen=True)
class _OperatorArithmetic:
    """Computes with blocks of the operator, see `gate_values`: scales and shifts of weights."""

    form: NormalForm
    name: str
    function: Function

    def constant(self, value: float) -> OperatorBlock:
        bias = _bias_for(value, self.function)
        if bias is None:
            raise NoOperator(
                f"{self.name}_gate={value:g}, a value that {self.function[0]} cannot have"
            )
        return OperatorBlock(shift=bias)

    def activated(self, block: str, offset: float) -> OperatorBlock:
        return OperatorBlock(self.form.blocks[block], shift=offset)

    def share(self, block: str, other: str) -> OperatorBlock:
        raise NoOperator("normalize_gates: no operator divides gates by their sum")

    def complement(self, v: OperatorBlock) -> OperatorBlock:
        name, _, beta = self.function
        if self.function == AFFINE:
            return replace(v, scale=-1.0, shift=1.0 - v.shift)
        if self.function == SIGMOID or (name == "HardSigmoid" and beta == 0.5):
            return replace(v, scale=-1.0, shift=-v.shift)
        raise NoOperator(
            f"{self.name}_gate: it is the complement of a gate with activation {name}; only for a "
            "sigmoid or a linear function can the weights express it"
        )

    def scaled(self, v: OperatorBlock, gate: str) -> OperatorBlock:
        raise NoOperator(f"{gate}_gate: no operator has a trained scale of a gate's value")


def _bias_for(value: float, function: Function) -> float | None:
    """The bias b with function(b) = value, or None if there is no such bias."""
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


def _gate_function(form: NormalForm, gates: dict[str, GateValue], names) -> Function:
    """The activation of the gates `names`, of which an operator has only one for all.

    If all these gates are constant, any activation that reaches the constants will do.
    """
    names = (names,) if isinstance(names, str) else names
    blocks = {n: block for n in names if (block := gates[n].block)}
    live = {n: form.blocks[block].activation for n, block in blocks.items()}
    if len(set(live.values())) > 1:
        pairs = ", ".join(f"{name}: {activation}" for name, activation in live.items())
        raise NoOperator(f"activation of the gates differs ({pairs}); an operator has one for all")
    if live:
        name, activation = next(iter(live.items()))
        return _function(f"activation of the {name} gate", activation)
    constants = [gates[name].constant for name in names]
    return SIGMOID if all(0.0 <= c <= 1.0 for c in constants if c is not None) else AFFINE


def _candidate_function(form: NormalForm, candidate: OperatorBlock) -> Function:
    if candidate.computed_outside:
        return AFFINE
    return _function("activation of the candidate", form.candidate.activation)


def _function(field: str, activation: Hashable) -> Function:
    function = lookup(activation).onnx
    if function is None:
        raise NoOperator(
            f"{field}: ONNX's recurrent operators have no {_activation_text(activation)}"
        )
    return function


def _activation_text(activation: Hashable) -> str:
    if isinstance(activation, Config):
        return str(Config.thaw(activation).get("class_name", activation))
    return repr(activation) if isinstance(activation, str) else str(activation)


# What no operator computes


def _check_step(form: NormalForm) -> None:
    if form.reset == "all":
        raise NoOperator("reset_all: no operator resets the whole pre-activation of the candidate")
    if form.gate_recurrence:
        raise NoOperator("gate_recurrence: in no operator are gates states of the next time step")
    if form.normalizer:
        raise NoOperator("normalizer: no operator divides the memory by a normaliser")
    for name in form.shared:
        raise NoOperator(f"shares of the {name} gate: in an operator each block has its products")
    if form.input_skip:
        raise NoOperator("input_skip: no operator adds its input to its output")
    if form.input_scale:
        raise NoOperator("input_scale: no operator scales what is written by the forget gate")
    for name, block in form.blocks.items():
        if block.decay:
            raise NoOperator(f"decay of the {name} gate: no operator has a trained exponent")
    for field in ("memory_activation", "carry_activation"):
        if getattr(form, field) not in LINEAR:
            raise NoOperator(
                f"{field}={getattr(form, field)!r}: no operator applies it to the memory"
            )
    for block in form.blocks.values():
        if block.recurrent_input_activation not in LINEAR:
            raise NoOperator(
                f"recurrent_input_activation of the {block.name} gate: no operator applies it to h"
            )


def _check_outside(form: NormalForm, outside: frozenset[str]) -> None:
    """Raises NoOperator if a block in `outside` cannot be computed outside the operator."""
    for name in outside:
        value = form.gates.get(name, GateValue(block=name))
        block = form.blocks.get(value.block)
        if block is None or not block.input_only:
            raise NoOperator(f"{name}: it sees more than the input")
    if "output" in outside and any(b.recurrent_kernel for b in form.blocks.values()):
        raise NoOperator("output_gate: h_(t-1) is read, so the gate acts inside the recurrence")


def _have_constants(gates: dict[str, GateValue], **constants: float) -> bool:
    return all(gates[name].constant == value for name, value in constants.items())


def _coupled(gates: dict[str, GateValue]) -> bool:
    """Whether the input gate is 1 minus the forget gate."""
    i, f = gates["input"], gates["forget"]
    if i.constant is not None and f.constant is not None:
        return abs(i.constant + f.constant - 1.0) < 1e-12
    same = (i.block, i.offset) == (f.block, f.offset)
    return bool(i.block) and same and i.complement != f.complement
