"""What goes into a native operator: its input, computed before it."""

from keras import ops

from keras_gated.onnx.errors import require
from keras_gated.spec.activations import lookup
from keras_gated.spec.onnx_operator import Lowering


def operator_input(layer, lowering: Lowering, sequences):
    """Returns the operator's input (B, T, I) and the output gate (B, T, U), or None, before it."""
    cell, outside = layer.cell, lowering.outside
    formula, weights = cell.formula, cell.tensors
    x = formula.projected(weights, sequences)
    parts = [lookup(phi).function(x) for phi in lowering.feeds]
    terms = formula.biased(weights, cell.input_terms(weights, sequences)) if outside else {}
    if "candidate" in outside:
        content = formula.activation["candidate"](terms["candidate"])
        if "input" in outside:
            content = content * _gate(cell, terms, "input")
        parts.append(content + ops.zeros_like(x[..., :1]))  # (B, T, U) also without a kernel
    gate = None
    if "output" in outside:
        gate = _gate(cell, terms, "output") + ops.zeros_like(x[..., :1])
    return (parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)), gate


def _gate(cell, terms: dict, name: str):
    """The value of a gate that sees only the input, for all time steps."""
    value = cell.form.gates[name]
    v = cell.formula.activation[value.block](terms[value.block] + value.offset)
    return 1.0 - v if value.complement else v


def is_zeros(tensor) -> bool:
    """Whether a tensor is known to be zero whatever goes into the model, as default states are."""
    (tf,) = require("tensorflow")
    known = tf.get_static_value(tensor)
    operation = getattr(tensor, "op", None) if known is None else None
    if operation is not None and operation.type == "Fill":
        known = tf.get_static_value(operation.inputs[1])
    return known is not None and not known.any()
