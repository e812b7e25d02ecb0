"""The weights that a recurrent operator takes, made from those of a cell.

An operator, ONNX's or one that a backend has, has one block of weights for each gate, in an order
of its own: W (input), R (recurrent), Wb and Rb (their biases) and P (peephole).
`onnx_operator` says what each block takes of the cell.
"""

from collections.abc import Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

from keras_gated.spec.onnx_operator import NativeOperator


def input_width(native: NativeOperator, input_dim: int, units: int) -> int:
    """Returns the number of features of the operator's input.

    Side by side, it holds the input or functions of it, and the candidate if that is computed
    outside of the operator.
    """
    return len(native.input_functions) * input_dim + ("candidate" in native.outside) * units


def functions_of(library: Any, **made: Any) -> SimpleNamespace:
    """Returns the functions that `pack_block` takes, from a library with NumPy's names.

    Args:
        library: a module, such as torch.
        **made: arguments of what makes tensors: their dtype and their device.
    """
    makers = {name: partial(getattr(library, name), **made) for name in ("zeros", "eye")}
    others = {name: getattr(library, name) for name in ("concatenate", "diag", "reshape")}
    return SimpleNamespace(**makers, **others)


def pack_block(
    ops: Any, letter: str, native: NativeOperator, blocks: Mapping, input_dim: int, units: int
) -> dict[str, Any]:
    """Returns the weights of one block of the operator.

    Args:
        ops: NumPy, or `functions_of` another library: then the result has a gradient.
        letter: of the block.
        native: the result of `find_native_operator(form)`.
        blocks: tensors in the structure of `GatedCell.block_weights`.
        input_dim: number of features I that the cell's kernels read, after window and projection.
        units: size U of the state.

    Returns:
        W (U, width), R (U, U), Wb, Rb and P (U,).
    """
    row, width = native.blocks[letter], input_width(native, input_dim, units)
    zeros = ops.zeros(units)
    packed = {"W": ops.zeros((units, width)), "R": ops.zeros((units, units))}
    packed |= {"Wb": zeros + row.shift, "Rb": zeros, "P": zeros}
    if row.computed_outside:  # the candidate is the last part of the input: copy it
        inputs = ops.zeros((units, width - units))
        return packed | {"W": ops.concatenate([inputs, ops.eye(units)], -1), "Wb": zeros}
    if row.block is None:
        return packed
    form, given, scale = row.block, blocks.get(row.block.name, {}), row.scale
    if form.kernel is not None:
        kernel = form.kernel.to_matrix(ops, given.get("kernel"), input_dim)
        packed["W"] = scale * _among_functions(ops, kernel.T, form.input_activation, native, width)
    if form.recurrent_kernel is not None:
        kernel = form.recurrent_kernel.to_matrix(ops, given.get("recurrent_kernel"), units)
        packed["R"] = scale * row.recurrent * kernel.T
    packed["Wb"] = packed["Wb"] + scale * given.get("bias", zeros)
    packed["Rb"] = scale * row.recurrent * given.get("recurrent_bias", zeros)
    packed["P"] = scale * given.get("peephole", zeros)
    return packed


def _among_functions(ops: Any, kernel, activation, native: NativeOperator, width: int):
    """A kernel (U, I) with zeros around it, for the other functions of the input."""
    units, inputs = kernel.shape
    if inputs == width:
        return kernel
    first = native.input_functions.index(activation) * inputs
    before, behind = ops.zeros((units, first)), ops.zeros((units, width - first - inputs))
    return ops.concatenate([before, kernel, behind], -1)
