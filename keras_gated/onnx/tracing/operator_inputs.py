"""Computes the input of a native operator, and the gates that are computed outside of it."""

from keras import ops

from keras_gated.onnx.errors import require
from keras_gated.spec.activations import lookup
from keras_gated.spec.onnx_operator import NativeOperator


def compute_operator_input(layer, native: NativeOperator, sequences) -> tuple:
    """Returns the operator's input, and the output gate if it is computed outside the operator.

    What reads only the input can be computed for all time steps at once, outside the recurrence.
    So a cell may be exported as a native operator although the operator lacks, say, the activation
    of its candidate.

    Args:
        layer: a `GatedRNN` or `CellInLayer`.
        native: how the cell fills the operator.
        sequences: tensor (B, T, k F), the layer's input with its window.

    Returns:
        The input, a tensor (B, T, I): the projected input or functions of it, then the candidate
        if that is computed outside. And the output gate (B, T, U), or None.
    """
    cell, outside = layer.cell, native.outside
    formula, weights = cell.formula, cell.tensors
    x = formula.projected(weights, sequences)
    parts = [lookup(phi).function(x) for phi in native.input_functions]
    terms = formula.biased(weights, cell.input_terms(weights, sequences)) if outside else {}

    def with_batch_and_time(value):  # a block without a kernel is (U,)
        return value + ops.zeros_like(x[..., :1])

    if "candidate" in outside:
        content = formula.activation["candidate"](terms["candidate"])
        if "input" in outside:
            content = content * _gate(cell, terms, "input")
        parts.append(with_batch_and_time(content))
    gate = None
    if "output" in outside:
        gate = with_batch_and_time(_gate(cell, terms, "output"))
    return (parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)), gate


def _gate(cell, terms: dict, name: str):
    """Returns the value of a gate that reads only the input, for all time steps."""
    value = cell.form.gates[name]
    v = cell.formula.activation[value.block](terms[value.block] + value.offset)
    return 1.0 - v if value.complement else v


def is_known_zero(tensor) -> bool:
    """Whether a tensor is zero for every input of the model, as default initial states are."""
    (tf,) = require("tensorflow")
    known = tf.get_static_value(tensor)
    operation = getattr(tensor, "op", None) if known is None else None
    # Default states are filled with zeros, but their batch, and so their shape, is not known.
    if operation is not None and operation.type == "Fill":
        known = tf.get_static_value(operation.inputs[1])
    return known is not None and not known.any()
