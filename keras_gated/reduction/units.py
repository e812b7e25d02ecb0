"""Fewer units: which of a layer can go, and the weights of all that read them.

What a unit adds to the layers behind it is replaced by its mean: the mean goes into their biases.
All weights here are NumPy arrays in the structure of `GatedCell.block_weights`.
"""

from typing import Any

import numpy as np
from keras import ops

from keras_gated.layers import GatedRNN
from keras_gated.reduction.model_graph import NotRemovable, Reader
from keras_gated.reduction.recording import Recording

Blocks = dict[str, dict[str, np.ndarray]]


def check_units(layer: GatedRNN) -> None:
    """Raises `NotRemovable` if a cell needs all its units."""
    cell, form = layer.cell, layer.cell.form
    reasons = {
        "has a diagonal or identity kernel over its input": bool(form.square),
        "has kernels of blocks": any(w.kernel and w.kernel.is_stack for w in form.weights),
        "has an input projection": form.projection is not None,
        "has gate_recurrence": form.gate_recurrence,
        "has a trained tie": any(value.trained for value in form.gates.values()),
        "has projection_units: make these fewer": bool(cell.projection_units),
        "has layer_norm": cell.layer_norm,
        "has batch_norm": cell.batch_norm,
    }
    for reason, holds in reasons.items():
        if holds:
            raise NotRemovable(f"the cell of {layer.name!r} {reason}")


def importance(blocks: Blocks, readers: list[Reader], recording: Recording) -> np.ndarray:
    """Returns how much each unit moves what reads it (U,): its spread times its weights."""
    units = recording.memory_before.shape[-1]
    kernels = [w for b in blocks.values() if (w := b.get("recurrent_kernel")) is not None]
    squares = sum((np.square(w).sum(axis=1) if w.ndim == 2 else w**2 for w in kernels), 0.0)
    of_readers = 0.0
    for reader in readers:
        for kernel in input_kernels(reader.layer):
            rows = kernel[reader.first : reader.first + units]
            of_readers = of_readers + np.square(rows).sum(axis=1)
    return recording.values["h"].std(axis=0) * np.sqrt(squares + of_readers)


def input_kernels(layer: Any) -> list[np.ndarray]:
    """Returns the matrices (inputs, ...) with which a layer reads its input."""
    if isinstance(layer, GatedRNN):
        blocks, window = layer.block_weights(), layer.cell.form.window
        kernels = [blocks[k]["kernel"] for k in blocks_of_input(layer, blocks)]
        arrays = [np.asarray(ops.convert_to_numpy(w), float) for w in kernels]
        return [part for array in arrays for part in np.split(array, window)]
    kernel = np.asarray(ops.convert_to_numpy(layer.kernel), float)
    return [kernel] if kernel.ndim == 2 else list(kernel)  # a Conv1D has one for each offset


def silence_units(
    layer: GatedRNN, blocks: Blocks, gone: np.ndarray, recording: Recording, reset: float | None
) -> Blocks:
    """Returns the weights of a layer that no longer sees its own units `gone` (indices).

    Args:
        layer: the layer.
        blocks: its weights.
        gone: indices of units.
        recording: what the layer saw.
        reset: the reset gate of the new cell, if it is constant.
    """
    silenced: Blocks = {}
    for name, block in blocks.items():
        new = dict(block)
        if (kernel := block.get("recurrent_kernel")) is not None and kernel.ndim == 2:
            new["recurrent_kernel"] = _with_zeros(kernel, gone)
            # A reset gate multiplies the second bias of a candidate, as it does this mean.
            inside = name == "candidate" and "recurrent_bias" in new
            seen = _mean_seen(layer, name, recording, None if inside else reset)
            _add(new, "recurrent_bias" if inside else "bias", seen[gone] @ kernel[gone])
        silenced[name] = new
    return silenced


def keep_units(blocks: Blocks, stay: np.ndarray) -> Blocks:
    """Returns the weights of the units `stay` (indices), and of no others."""
    return {
        name: {
            key: w[np.ix_(stay, stay)]
            if key == "recurrent_kernel" and w.ndim == 2
            else w[..., stay]
            for key, w in block.items()
        }
        for name, block in blocks.items()
    }


def _mean_seen(layer: GatedRNN, name: str, recording: Recording, reset: float | None) -> np.ndarray:
    """The mean (U,) of what the recurrent kernel of a block sees, after a constant reset gate."""
    seen = _apply(layer.cell.formula.phi_h[name], recording.before["h"])
    if name == "candidate" and layer.cell.form.reset == "all":
        pass  # the bias, which takes the mean up, is multiplied by the reset gate too
    elif name == "candidate" and reset is not None:
        seen = reset * seen
    elif name == "candidate" and layer.cell.form.reset == "before":
        seen = seen * recording.values["reset"]
    return seen.mean(axis=0)


def silence_inputs(layer: GatedRNN, blocks: Blocks, gone: np.ndarray, mean: np.ndarray) -> Blocks:
    """Returns the weights of a gated layer that no longer sees the inputs `gone` (indices).

    Args:
        layer: the layer.
        blocks: its weights.
        gone: indices of inputs.
        mean: of these inputs.
    """
    form, silenced = layer.cell.form, {name: dict(block) for name, block in blocks.items()}
    for name in blocks_of_input(layer, blocks):
        kernel = silenced[name]["kernel"]
        places = in_window(gone, kernel, form.window)
        seen = mean if form.projection else _apply(layer.cell.formula.phi_x[name], mean)
        silenced[name]["kernel"] = _with_zeros(kernel, places)
        _add(silenced[name], "bias", np.tile(seen, form.window) @ kernel[places])
    return silenced


def delete_inputs(layer: GatedRNN, blocks: Blocks, gone: np.ndarray) -> Blocks:
    """Returns the weights without the rows of the inputs `gone` (indices)."""
    new = {name: dict(block) for name, block in blocks.items()}
    for name in blocks_of_input(layer, blocks):
        kernel = new[name]["kernel"]
        places = in_window(gone, kernel, layer.cell.form.window)
        new[name]["kernel"] = np.delete(kernel, places, axis=0)
    return new


def blocks_of_input(layer: GatedRNN, blocks: Blocks) -> list[str]:
    """Returns the names of the blocks with a matrix that the input goes through."""
    names = ["projection"] if "projection" in blocks else list(layer.cell.form.blocks)
    return [k for k in names if np.ndim(blocks.get(k, {}).get("kernel", 0.0)) == 2]


def in_window(gone: np.ndarray, kernel: np.ndarray, window: int) -> np.ndarray:
    """Returns the rows of a kernel over `window` inputs that belong to features `gone`."""
    inputs = len(kernel) // window
    return np.concatenate([gone + i * inputs for i in range(window)])


def silence_dense(weights: list[np.ndarray], gone: np.ndarray, mean: np.ndarray) -> list:
    """Returns the weights of a Dense or a Conv1D that no longer sees the inputs `gone`."""
    kernel, *bias = weights
    folded = mean @ np.take(kernel, gone, axis=-2)  # for each offset of a Conv1D
    folded = folded if folded.ndim == 1 else folded.sum(axis=0)
    rest = kernel.copy()
    rest[..., gone, :] = 0.0
    return [rest, *(b + folded for b in bias)]


def _with_zeros(kernel: np.ndarray, rows: np.ndarray) -> np.ndarray:
    kernel = kernel.copy()
    kernel[rows] = 0.0
    return kernel


def _add(block: dict, key: str, value: np.ndarray) -> None:
    """Adds to a bias, where there is one."""
    if key in block:
        block[key] = block[key] + value


def _apply(function, x: np.ndarray) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(function(ops.convert_to_tensor(x))), float)
