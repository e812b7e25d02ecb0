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
        "has an input projection": form.projection is not None,
        "has gate_recurrence": form.gate_recurrence,
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
    """Returns the kernels (inputs, ...) with which a layer reads its input, each on two axes."""
    if isinstance(layer, GatedRNN):
        blocks, window = layer.block_weights(), layer.cell.form.window
        names = ["projection"] if "projection" in blocks else list(layer.cell.form.blocks)
        found = [blocks[k]["kernel"] for k in names if "kernel" in blocks[k]]
        kernels = [np.asarray(ops.convert_to_numpy(w), float) for w in found]
        parts = [part for kernel in kernels for part in np.split(kernel, window)]
        return [part for part in parts if part.ndim == 2]
    kernel = np.asarray(ops.convert_to_numpy(layer.kernel), float)
    return [kernel] if kernel.ndim == 2 else list(kernel)  # a Conv1D has one for each offset


def without_units(
    layer: GatedRNN, blocks: Blocks, stay: np.ndarray, recording: Recording
) -> Blocks:
    """Returns the weights of a layer of which only the units `stay` (indices) are left."""
    form, units = layer.cell.form, recording.memory_before.shape[-1]
    gone = np.setdiff1d(np.arange(units), stay)
    smaller: Blocks = {}
    for name, block in blocks.items():
        new = {key: w[..., stay] for key, w in block.items()}
        if (kernel := block.get("recurrent_kernel")) is not None and kernel.ndim == 2:
            new["recurrent_kernel"] = kernel[np.ix_(stay, stay)]
            mean = _mean_seen(layer, name, recording)[gone] @ kernel[np.ix_(gone, stay)]
            # A reset after the product multiplies this mean, too.
            inside = name == "candidate" and form.reset == "after" and "recurrent_bias" in new
            key = "recurrent_bias" if inside else "bias"
            if key in new:
                new[key] = new[key] + mean
        smaller[name] = new
    return smaller


def _mean_seen(layer: GatedRNN, name: str, recording: Recording) -> np.ndarray:
    """The mean (U,) of what the recurrent kernel of a block sees."""
    seen = recording.before["h"]
    if name == "candidate" and layer.cell.form.reset == "before":
        seen = seen * recording.values["reset"] if "reset" in recording.values else seen
    phi = layer.cell.formula.phi_h[name]
    return np.asarray(ops.convert_to_numpy(phi(seen)), float).mean(axis=0)


def without_inputs(layer: GatedRNN, blocks: Blocks, gone: np.ndarray, mean: np.ndarray) -> Blocks:
    """Returns the weights of a gated layer that no longer sees the inputs `gone` (indices).

    Args:
        layer: the layer.
        blocks: its weights.
        gone: indices of inputs.
        mean: of these inputs.
    """
    form = layer.cell.form
    projected = "projection" in blocks
    new = {name: dict(block) for name, block in blocks.items()}
    for name in ["projection"] if projected else list(form.blocks):
        if (kernel := new.get(name, {}).get("kernel")) is None:
            continue
        phi = (lambda x: x) if projected else layer.cell.formula.phi_x[name]
        seen = np.asarray(ops.convert_to_numpy(phi(mean)), float)
        inputs = len(kernel) // form.window
        places = np.concatenate([gone + i * inputs for i in range(form.window)])
        new[name]["kernel"] = np.delete(kernel, places, axis=0)
        if "bias" in new[name]:
            new[name]["bias"] = new[name]["bias"] + np.tile(seen, form.window) @ kernel[places]
    return new


def without_dense_inputs(layer: Any, gone: np.ndarray, mean: np.ndarray) -> list[np.ndarray]:
    """Returns the weights of a Dense or a Conv1D that no longer sees the inputs `gone`."""
    kernel, *bias = [np.asarray(w, float) for w in layer.get_weights()]
    rest = np.delete(kernel, gone, axis=-2)
    folded = mean @ np.take(kernel, gone, axis=-2)  # of each offset of a Conv1D
    folded = folded if folded.ndim == 1 else folded.sum(axis=0)
    return [rest, *(b + folded for b in bias)]
