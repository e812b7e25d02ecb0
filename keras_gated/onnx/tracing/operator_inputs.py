"""What an ONNX recurrent operator is given: its input and its weights, made from those of a cell.

`spec.onnx_operator` says what each block of the operator takes of the cell, and
`spec.operator_weights` makes it.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gated.cell import GatedCell
from keras_gated.engine.call import RecurrentCall
from keras_gated.onnx.errors import require
from keras_gated.spec.activations import lookup
from keras_gated.spec.onnx_operator import NativeOperator
from keras_gated.spec.operator_weights import pack_block

Arrays = dict[str, np.ndarray]
Blocks = dict[str, dict[str, Any]]


def compute_operator_input(call: RecurrentCall, native: NativeOperator) -> tuple:
    """Returns the operator's input, and the output gate if it is computed outside the operator.

    What reads only the input can be computed for all time steps at once, outside the recurrence.
    So a cell may be exported as a native operator although the operator lacks, say, the activation
    of its candidate.

    Args:
        call: the call of the cell.
        native: how the cell fills the operator.

    Returns:
        The input, a tensor (B, T, I): the projected input or functions of it, then the candidate
        if that is computed outside. And the output gate (B, T, U), or None.
    """
    cell, outside = call.cell, native.outside
    formula, weights = cell.formula, call.weights
    x = formula.projected(weights, call.sequences)
    parts = [lookup(phi).function(x) for phi in native.input_functions]
    terms = formula.biased(weights, cell.input_terms(weights, call.sequences)) if outside else {}
    value = formula.gate_values(terms)

    def with_batch_and_time(y):  # a block without a kernel is (U,)
        return y + ops.zeros_like(x[..., :1])

    if "candidate" in outside:
        content = formula.activation["candidate"](terms["candidate"])
        if "input" in outside:
            content = content * value("input")
        parts.append(with_batch_and_time(content))
    gate = None
    if "output" in outside:
        gate = with_batch_and_time(value("output"))
    return (parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)), gate


def is_known_zero(tensor) -> bool:
    """Whether a tensor is zero for every input of the model, as default initial states are."""
    (tf,) = require("tensorflow")
    known = tf.get_static_value(tensor)
    operation = getattr(tensor, "op", None) if known is None else None
    # Default states are filled with zeros, but their batch, and so their shape, is not known.
    if operation is not None and operation.type == "Fill":
        known = tf.get_static_value(operation.inputs[1])
    return known is not None and not known.any()


def read_block_weights(cell: GatedCell) -> Blocks:
    """Returns the cell's weights by block, as arrays, in the structure of `block_weights`.

    Options that are linear at inference are multiplied into the weights: batch_norm and
    projection_units.
    """
    (tf,) = require("tensorflow")
    # Outside of the trace: a variable read within it would be a symbolic tensor without a value.
    # The large weights are such tensors during a trace; a new scope has none of them.
    with tf.init_scope(), keras.StatelessScope():
        blocks: Blocks = {
            block: {key: ops.convert_to_numpy(weight) for key, weight in weights.items()}
            for block, weights in cell.block_weights().items()
        }
        if cell.batch_norm:
            norm = cell.normalizer
            statistics = norm.gamma, norm.moving_mean, norm.moving_variance
            gain, mean, variance = map(ops.convert_to_numpy, statistics)
            names = cell.formula.names["kernel"]
            blocks = _merge_batch_norm(blocks, names, gain, mean, variance, norm.epsilon)
    return _merge_projection(cell, blocks) if cell.projection_units else blocks


def _merge_batch_norm(
    blocks: Blocks, names: tuple[str, ...], gain, mean, variance, epsilon
) -> Blocks:
    """Returns weights that include the batch normalisation of the input terms.

    gain (W x - mean) / sqrt(variance + epsilon) is W' x + b' with a scaled kernel and a new bias.

    Args:
        blocks: arrays in the structure of `GatedCell.block_weights`.
        names: the blocks whose terms are normalised, in the order of the statistics.
        gain, mean, variance: arrays (k U,) for k blocks.
        epsilon: float, added to the variance.
    """
    scale = gain / np.sqrt(variance + epsilon)
    rows = zip(names, np.split(scale, len(names)), np.split(-mean * scale, len(names)), strict=True)
    merged = dict(blocks)
    for name, factor, shift in rows:
        block = merged[name]
        kernel, bias = block["kernel"] * factor, block.get("bias", 0.0) + shift
        merged[name] = {**block, "kernel": kernel, "bias": bias}
    return merged


def _merge_projection(cell: GatedCell, blocks: Blocks) -> Blocks:
    """Returns recurrent kernels that read the output before its projection: R' = W_p R.

    The operator then has no projection inside; one product behind it projects the outputs.
    """
    projection = blocks["output_projection"]["kernel"]
    merged = {name: dict(block) for name, block in blocks.items()}
    for name, block in cell.form.blocks.items():
        if kernel := block.recurrent_kernel:
            matrix = kernel.to_matrix(np, blocks[name]["recurrent_kernel"], projection.shape[1])
            merged[name]["recurrent_kernel"] = projection @ matrix
    return merged


def pack(native: NativeOperator, blocks: Blocks, input_dim: int, units: int) -> Arrays:
    """Returns the weights of the operator, in its order and layout.

    Args:
        native: the result of `find_native_operator(form)`; its operator is not None.
        blocks: arrays in the structure of `GatedCell.block_weights`.
        input_dim: number of features I that the cell's kernels read, after window and projection.
        units: size U of the state.

    Returns:
        float32 arrays "W" (1, k U, width), "R" (1, k U, U), "B" (1, 2 k U) and, with peepholes,
        "P" (1, 3 U), for k blocks and `width = input_width(native, input_dim, units)`.
    """
    blocks = {
        name: {key: np.asarray(array, np.float64) for key, array in parts.items()}
        for name, parts in blocks.items()
    }
    letters = native.blocks
    rows = [pack_block(np, letter, native, blocks, input_dim, units) for letter in letters]
    packed = {
        "W": np.concatenate([row["W"] for row in rows]),
        "R": np.concatenate([row["R"] for row in rows]),
        "B": np.concatenate([row["Wb"] for row in rows] + [row["Rb"] for row in rows]),
    }
    if native.peepholes:
        packed["P"] = np.concatenate([row["P"] for row in rows[:3]])  # i, o, f; c has none
    return {name: array[None].astype(np.float32) for name, array in packed.items()}
