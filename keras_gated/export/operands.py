"""What goes into a native operator: its input, computed before it, and the cell's weights."""

from typing import Any

import numpy as np
from keras import ops

from keras_gated.activations import lookup
from keras_gated.cell import GatedCell
from keras_gated.export.errors import require
from keras_gated.export.lowering import Lowering

Blocks = dict[str, dict[str, Any]]


def block_arrays(cell: GatedCell) -> Blocks:
    """Returns the cell's weights by meaning, as they are now and not as the trace sees them.

    What at inference is linear beside the formula is taken into them.
    """
    (tf,) = require("tensorflow")
    with tf.init_scope():
        blocks: Blocks = {
            block: {key: ops.convert_to_numpy(weight) for key, weight in weights.items()}
            for block, weights in cell.block_weights().items()
        }
        if cell.batch_norm:
            one = cell.normalizer
            statistics = one.gamma, one.moving_mean, one.moving_variance
            gain, mean, variance = map(ops.convert_to_numpy, statistics)
            names = cell.formula.names["kernel"]
            blocks = _with_statistics(blocks, names, gain, mean, variance, one.epsilon)
    return _unprojected(blocks) if cell.projection_units else blocks


def _with_statistics(
    blocks: Blocks, names: tuple[str, ...], gain, mean, variance, epsilon
) -> Blocks:
    """Returns weights that do what they did with batch normalisation behind the kernels.

    Args:
        blocks: arrays in the structure of `GatedCell.block_weights`.
        names: blocks whose products lie side by side in the statistics.
        gain, mean, variance: arrays (k U,), of the normalisation.
        epsilon: float, added to the variance.
    """
    scale = gain / np.sqrt(variance + epsilon)
    rows = zip(names, np.split(scale, len(names)), np.split(-mean * scale, len(names)), strict=True)
    found = dict(blocks)
    for name, factor, shift in rows:
        block = found[name]
        kernel, bias = block["kernel"] * factor, block.get("bias", 0.0) + shift
        found[name] = {**block, "kernel": kernel, "bias": bias}
    return found


def _unprojected(blocks: Blocks) -> Blocks:
    """Returns weights that see the output as it is before its projection: R' = W_p R."""
    projection = blocks["output_projection"]["kernel"]
    return {
        name: {
            key: projection @ array if key == "recurrent_kernel" else array
            for key, array in block.items()
        }
        for name, block in blocks.items()
    }


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
