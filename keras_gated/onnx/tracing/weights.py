"""The weights of an ONNX recurrent operator from the weights of a cell."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from keras_gated.cell import GatedCell
from keras_gated.onnx.errors import require
from keras_gated.spec.onnx_operator import Lowering, Row

Arrays = dict[str, np.ndarray]
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


def pack(lowering: Lowering, blocks: Mapping[str, Mapping], input_dim: int, units: int) -> Arrays:
    """Returns the weights of the operator, in its order and layout.

    Args:
        lowering: what `lower(form)` returned; its operator is not None.
        blocks: arrays in the structure of `GatedCell.block_weights`.
        input_dim: number of features I that the cell's kernels see, window and projection included.
        units: size U of the state.

    Returns:
        float32 arrays "W" (1, k U, width), "R" (1, k U, U), "B" (1, 2 k U) and, with peepholes,
        "P" (1, 3 U), for k blocks and `width(lowering, input_dim, units)` features.
    """
    rows = [_row(row, lowering, blocks, input_dim, units) for row in lowering.rows.values()]
    packed = {
        "W": np.concatenate([row["W"] for row in rows]),
        "R": np.concatenate([row["R"] for row in rows]),
        "B": np.concatenate([row["Wb"] for row in rows] + [row["Rb"] for row in rows]),
    }
    if lowering.peepholes:
        packed["P"] = np.concatenate([row["P"] for row in rows[:3]])  # i, o, f
    return {name: array[None].astype(np.float32) for name, array in packed.items()}


def width(lowering: Lowering, input_dim: int, units: int) -> int:
    """Number of features of the operator's input: the feeds, and the candidate if it is fed."""
    return len(lowering.feeds) * input_dim + ("candidate" in lowering.outside) * units


def _row(row: Row, lowering: Lowering, blocks: Mapping, inputs: int, units: int) -> Arrays:
    """W (U, width), R (U, U), Wb, Rb, P (U,) of one block of the operator."""
    zeros = {
        "W": np.zeros((units, width(lowering, inputs, units))),
        "R": np.zeros((units, units)),
        **{name: np.zeros(units) for name in ("Wb", "Rb", "P")},
    }
    if row.fed:
        zeros["W"][:, len(lowering.feeds) * inputs :] = np.eye(units)
        return zeros
    packed = zeros | {"Wb": zeros["Wb"] + row.shift}
    if row.block is None:
        return packed
    about, block = row.block, blocks.get(row.block.name, {})
    if about.kernel is not None:
        first = lowering.feeds.index(about.input_activation) * inputs
        kernel = _dense(about.kernel, block.get("kernel"), inputs)
        packed["W"][:, first : first + inputs] = row.scale * kernel.T
    if about.recurrent_kernel is not None:
        kernel = _dense(about.recurrent_kernel, block.get("recurrent_kernel"), units)
        packed["R"] = row.scale * row.recurrent * kernel.T
    packed["Wb"] = packed["Wb"] + row.scale * _vector(block, "bias", units)
    packed["Rb"] = row.scale * row.recurrent * _vector(block, "recurrent_bias", units)
    packed["P"] = row.scale * _vector(block, "peephole", units)
    return packed


def _dense(kind: str, kernel: Any, size: int) -> np.ndarray:
    """A kernel of any kind as a matrix (in, out)."""
    if kind == "identity":
        return np.eye(size)
    kernel = np.asarray(kernel, np.float64)
    return np.diag(kernel) if kind == "diagonal" else kernel


def _vector(block: Mapping[str, Any], key: str, units: int) -> np.ndarray:
    return np.asarray(block[key], np.float64) if key in block else np.zeros(units)
