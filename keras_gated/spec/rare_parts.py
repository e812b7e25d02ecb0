"""Checks of the rare parts of a specification: what each needs, and what it excludes.

Each check takes a `CellSpec` and raises a ValueError that names the argument.
"""

from collections.abc import Hashable
from typing import Any

from keras_gated.spec.parts import Gate, Tied

GATES = ("input", "forget", "reset", "output")
HAVE_LOG = ("exp", "sigmoid")  # activations of gates whose logarithm `activations` has


def check_rare_parts(spec: Any) -> None:
    """Raises a ValueError if a rare part of a `CellSpec` has no meaning in it."""
    for check in (
        _check_shared,
        _check_trained_ties,
        _check_decay,
        _check_input_skip,
        _check_input_scale,
        _check_normalizer,
        _check_normalized,
    ):
        check(spec)


def _activation(spec: Any, gate: Gate) -> Hashable:
    return spec.recurrent_activation if gate.activation is None else gate.activation


def _check_shared(spec: Any) -> None:
    shares = any(getattr(spec.gate(name), "shares", None) for name in GATES)
    candidate = spec.candidate
    product = candidate.kernel or candidate.recurrent_kernel
    if shares and not (product and spec.reset_gate == 1.0):
        raise ValueError(
            "Argument `shares` of a gate needs a candidate with a kernel, and no reset gate: gate "
            "and candidate then have the same products. Received: shares='candidate' with "
            f"reset_gate={spec.reset_gate!r}, candidate={candidate!r}. Leave out the reset gate, "
            "or give the gate kernels of its own."
        )


def _check_trained_ties(spec: Any) -> None:
    for name in GATES:
        tie = spec.gate(name)
        if not isinstance(tie, Tied):
            continue
        if tie.trained and (name == "reset" or spec.source(name).constant is not None):
            raise ValueError(
                "Argument `trained` of Tied must be False for a reset gate and for a gate that "
                f"follows a constant. Received: {name}_gate={tie!r}. Use trained=False."
            )
        if getattr(spec.gate(tie.to), "trained", False):
            raise ValueError(
                "Argument `to` of Tied must be no gate with a trained tie: its scale is its own. "
                f"Received: {name}_gate={tie!r}, {tie.to}_gate={spec.gate(tie.to)!r}. Tie both to "
                "the gate that has weights."
            )


def _is_trained(spec: Any, name: str) -> bool:
    return getattr(spec.gate(name), "trained", False)


def _check_decay(spec: Any) -> None:
    for name in GATES:
        gate = spec.gate(name)
        if getattr(gate, "decay", None) and _activation(spec, gate) != "sigmoid":
            raise ValueError(
                f"Argument `activation` of `{name}_gate` must be 'sigmoid' with a decay, so that "
                f"the gate is between 0 and 1. Received: activation={_activation(spec, gate)!r} "
                f"with decay={gate.decay}. Leave out the activation, or the decay."
            )


def _check_input_skip(spec: Any) -> None:
    if not spec.input_skip:
        return
    if spec.memory != "cell":
        raise ValueError(
            "Argument `input_skip` needs memory='cell': with memory='hidden' the output is the "
            "memory itself. Received: input_skip=True with memory='hidden'. Use memory='cell'."
        )
    if spec.source("output").constant == 1.0:
        raise ValueError(
            "Argument `input_skip` needs an output gate that is not 1: the input is multiplied by "
            f"1 - o. Received: input_skip=True with output_gate={spec.output_gate!r}. "
            "Use output_gate=True."
        )


def _check_input_scale(spec: Any) -> None:
    if spec.input_scale not in (None, "root"):
        raise ValueError(
            "Argument `input_scale` must be None or 'root', which is √(1 - f²). "
            f"Received: input_scale={spec.input_scale!r}. Write input_scale='root'."
        )
    if spec.input_scale is None:
        return
    if spec.normalizer:
        raise ValueError(
            "Arguments `input_scale` and `normalizer` exclude each other: both scale what is "
            f"written. Received: input_scale={spec.input_scale!r}, normalizer=True. Use one."
        )
    source = spec.source("forget")
    if source.constant is None:
        plain = not (source.complement or _is_trained(spec, "forget"))
        fits = _activation(spec, source.gate) == "sigmoid" and plain
    else:
        fits = 0.0 <= source.constant <= 1.0
    if not fits:
        raise ValueError(
            "Argument `forget_gate` must have the activation 'sigmoid' and be no complement, or be "
            "a constant between 0 and 1, with input_scale='root': the scale is the root of "
            f"1 - f². Received: forget_gate={spec.forget_gate!r} with "
            f"recurrent_activation={spec.recurrent_activation!r}. Use a Gate() with 'sigmoid'."
        )


def _check_normalizer(spec: Any) -> None:
    """Refuses a normaliser with parts that would depend on the scale in which c is stored."""
    if not spec.normalizer:
        return
    linear = spec.memory_activation == spec.carry_activation == "linear"
    gates = [spec.gate(name) for name in GATES]
    if spec.memory != "cell" or spec.gate_recurrence or not linear:
        raise ValueError(
            "Argument `normalizer` needs memory='cell', linear memory and carry activations, and "
            "no gate_recurrence: c is stored in a scale of its own. "
            f"Received: normalizer=True with {spec!r}. Leave these at their defaults."
        )
    if any(getattr(gate, "peephole", False) for gate in gates):
        raise ValueError(
            "Argument `peephole` must be False in all gates with normalizer=True: c is stored in a "
            f"scale of its own, which a gate must not see. Received: peephole=True with {spec!r}. "
            "Remove the peepholes."
        )
    for name in ("input", "forget"):
        _check_log(spec, name, "normalizer=True")


def _check_log(spec: Any, name: str, because: str) -> None:
    """Raises a ValueError unless the logarithm of a gate can be computed without overflow.

    Args:
        spec: the specification.
        name: of the gate.
        because: the setting that needs the logarithm, for the error message.
    """
    source = spec.source(name)
    activation = _activation(spec, source.gate) if isinstance(source.gate, Gate) else None
    constant, floor = source.constant is not None, getattr(source.gate, "floor", None)
    plain = not (source.complement or _is_trained(spec, name))
    fits = source.constant > 0.0 if constant else activation in HAVE_LOG and plain
    if floor and activation == "exp":
        raise ValueError(
            f"Argument `floor` of `{name}_gate` must be None with activation='exp' and {because}: "
            f"the logarithm of such a gate could overflow. Received: floor={floor}. Leave it out."
        )
    if not fits:
        raise ValueError(
            f"Argument `{name}_gate` must have the activation 'exp' or 'sigmoid', or be a constant "
            f"> 0, and be no complement, with {because}: the cell computes with its logarithm. "
            f"Received: {name}_gate={spec.gate(name)!r}, whose activation is {activation!r}. "
            "Write Gate(activation='exp')."
        )


def _check_normalized(spec: Any) -> None:
    if not spec.normalize_gates:
        return
    if spec.normalizer or spec.input_scale:
        raise ValueError(
            "Argument `normalize_gates` excludes `normalizer` and `input_scale`: they scale what "
            f"the gates let through in another way. Received: normalize_gates=True, "
            f"normalizer={spec.normalizer}, input_scale={spec.input_scale!r}. Use one of them."
        )
    for name in ("input", "forget"):
        if not isinstance(gate := spec.gate(name), Gate):
            raise ValueError(
                f"Argument `{name}_gate` must have weights of its own with normalize_gates=True: "
                f"it is divided by the sum of two gates. Received: {name}_gate={gate!r}. Set "
                f"{name}_gate=keras_gated.Gate()."
            )
        _check_log(spec, name, "normalize_gates=True")
    for name in GATES:
        if spec.source(name).offset and spec.source(name).name in ("input", "forget"):
            raise ValueError(
                f"Argument `offset` of `{name}_gate` must be 0 with normalize_gates=True: it "
                "follows a gate that is divided by a sum, which has no pre-activation. Received: "
                f"offset={spec.source(name).offset!r}. Leave out the offset."
            )
