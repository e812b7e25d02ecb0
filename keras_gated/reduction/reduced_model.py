"""The smaller model: layers made anew with fewer parts, their weights from those of the full ones.

A `LayerChange` says what becomes of one layer. `build_reduced` makes a model with all changes;
`embedded` gives the weights with which the full model computes the same, where it can.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from keras import ops

from keras_gated.convert.conversion import Conversion, inner_layers
from keras_gated.convert.keras_layers import gated_copy, to_gated_layer
from keras_gated.layers import GatedRNN
from keras_gated.reduction.fit import GateFit
from keras_gated.reduction.model_graph import Reader, reset_states
from keras_gated.reduction.recording import Recording
from keras_gated.reduction.steps import MEAN, after
from keras_gated.reduction.units import (
    Blocks,
    delete_inputs,
    keep_units,
    silence_dense,
    silence_inputs,
    silence_units,
)
from keras_gated.spec.cell_spec import CellSpec
from keras_gated.spec.normal_form import NormalForm, resolve
from keras_gated.spec.parts import Gate


@dataclass
class LayerChange:
    """What becomes of one gated layer.

    Attributes:
        layer: the layer.
        gates: new values of gates, by name: `Gate`, `Tied`, a number or `MEAN`.
        stay: indices of the units that stay, or None for all.
        readers: the layers that read the units.
        copy_weights: names of gates whose weights are copied, not fitted.
    """

    layer: GatedRNN
    gates: dict[str, Any] = field(default_factory=dict)
    stay: np.ndarray | None = None
    readers: list[Reader] = field(default_factory=list)
    copy_weights: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        """The number of units that stay."""
        return self.layer.units if self.stay is None else len(self.stay)

    @property
    def gone(self) -> np.ndarray:
        """Indices of the units that go."""
        units = np.arange(self.layer.units)
        return units[:0] if self.stay is None else np.setdiff1d(units, self.stay)

    @property
    def form(self) -> NormalForm:
        """The normal form of the smaller cell."""
        return resolve(after(self.layer.cell.spec, self.gates))


def copying(changes: dict[GatedRNN, LayerChange]) -> dict[GatedRNN, LayerChange]:
    """Returns changes in which all weights that stay are copied, not fitted."""
    return {
        layer: replace(change, copy_weights=frozenset(change.gates))
        for layer, change in changes.items()
    }


class Fits:
    """The fits of the gates of a model, each made when it is asked for.

    Args:
        recordings: what each layer saw, by layer.
    """

    def __init__(self, recordings: dict[GatedRNN, Recording]):
        self.recordings = recordings
        self._fits: dict[tuple, GateFit] = {}

    def of(self, layer: GatedRNN, gate: str) -> GateFit:
        """Returns the fit of one gate."""
        if (layer, gate) not in self._fits:
            for other in self._fits.values():
                other.forget_sums()
            weights = layer.block_weights()[gate]
            made = GateFit(layer.cell.formula, gate, weights, self.recordings[layer])
            self._fits[layer, gate] = made
        return self._fits[layer, gate]

    def theta(self, change: LayerChange, gate: str) -> np.ndarray:
        """Returns θ of a gate that a change leaves with weights."""
        fit, smaller = self.of(change.layer, gate), change.form.blocks[gate]
        return (fit.copied if gate in change.copy_weights else fit.fitted)(smaller)

    def mean(self, layer: GatedRNN, gate: str) -> float:
        """Returns the mean of a gate."""
        return float(self.of(layer, gate).value.mean())

    def reset(self, change: LayerChange) -> float | None:
        """Returns the reset gate of the smaller cell, if it is constant."""
        return resolve(self.spec(change)).gates["reset"].constant

    def spec(self, change: LayerChange) -> CellSpec:
        """Returns the specification of the smaller cell, with the means that it names."""
        gates = {k: self.mean(change.layer, k) if v is MEAN else v for k, v in change.gates.items()}
        return after(change.layer.cell.spec, gates)


# The weights of a changed layer


def numpy_blocks(layer: GatedRNN) -> Blocks:
    """Returns `layer.block_weights()` as NumPy arrays."""
    blocks = layer.block_weights()
    return {
        name: {k: np.asarray(ops.convert_to_numpy(w), float) for k, w in block.items()}
        for name, block in blocks.items()
    }


def changed_blocks(change: LayerChange, fits: Fits) -> Blocks:
    """Returns the weights of the smaller cell that has all its units."""
    old, form = numpy_blocks(change.layer), change.form
    blocks = change.layer.cell.form.blocks  # others are of projections
    new = {name: block for name, block in old.items() if name in form.blocks or name not in blocks}
    for gate in change.gates.keys() & form.blocks.keys():
        theta = fits.theta(change, gate)
        new[gate] = fits.of(change.layer, gate).weights_of(theta, form.blocks[gate])
    reset = fits.reset(change)
    for name, block in new.items():
        second = block.get("recurrent_bias")
        if second is not None and not form.blocks[name].use_recurrent_bias:
            factor = reset if name == "candidate" else 1.0  # a reset gate multiplies it
            rest = {k: w for k, w in block.items() if k != "recurrent_bias"}
            new[name] = rest | {"bias": block["bias"] + factor * second}
    return new


def embedded(changes: Iterable[LayerChange], fits: Fits) -> dict[Any, Any] | None:
    """Returns weights, by layer, with which the full model computes what the smaller one does.

    A gate that is constant has the bias for it, a gate that follows another one has its weights,
    and units that go are not read. The result is None if that cannot be.
    """
    weights: dict[Any, Any] = {}
    changes = list(changes)
    for change in changes:
        blocks = numpy_blocks(change.layer)
        for gate in change.gates:
            if (found := _embedded_gate(change, gate, fits)) is None:
                return None
            blocks[gate] = found
        if change.stay is not None:
            recording, reset = fits.recordings[change.layer], fits.reset(change)
            blocks = silence_units(change.layer, blocks, change.gone, recording, reset)
        weights[change.layer] = blocks
    for layer in dict.fromkeys(r.layer for change in changes for r in change.readers):
        gone, mean = inputs_gone(layer, changes, fits)
        if isinstance(layer, GatedRNN):
            weights[layer] = silence_inputs(
                layer, weights.get(layer, numpy_blocks(layer)), gone, mean
            )
        else:
            weights[layer] = silence_dense(layer.get_weights(), gone, mean)
    return weights


def _embedded_gate(change: LayerChange, gate: str, fits: Fits) -> dict | None:
    fit, value = fits.of(change.layer, gate), change.gates[gate]
    if isinstance(value, Gate):
        theta = fits.theta(change, gate)
        fits_in = fit.block.use_bias or not change.form.blocks[gate].use_bias
        return fit.weights_of(theta, fit.block) if fits_in else None
    theta = np.zeros_like(fit.theta)
    if value is MEAN or isinstance(value, float):
        mean = fits.mean(change.layer, gate) if value is MEAN else value
        theta[:, -1] = fit.inverse(mean)
    else:
        theta = _tied_theta(change, gate, fits)
    only_bias = all(term.trained for term in fit.terms)  # an identity kernel cannot be zero
    if theta is None or not np.isfinite(theta).all() or not (fit.block.use_bias and only_bias):
        return None
    return fit.weights_of(theta, fit.block)


def _tied_theta(change: LayerChange, gate: str, fits: Fits) -> np.ndarray | None:
    """θ with which a gate follows another one; None if its block cannot express that."""
    source = change.form.gates[gate]
    fit, other = fits.of(change.layer, gate), fits.of(change.layer, source.block)
    same = ("kernel", "recurrent_kernel", "activation", "input_activation")
    same += ("recurrent_input_activation", "peephole", "decay", "shares")
    if any(getattr(fit.block, k) != getattr(other.block, k) for k in same) or source.offset:
        return None
    if fit.block.peephole and "output" in (gate, source.block):
        return None  # it sees another memory
    if not source.complement:
        return other.theta
    followers = change.layer.cell.form.gates.values()
    if any(value.block == gate and value.offset for value in followers):
        return None  # an offset is added before the complement is taken, not after it
    mirrored = np.allclose(other.activation(-other.a) + other.value, 1.0, atol=1e-6)
    return -other.theta if mirrored else None


# The model


class _Reduction(Conversion):
    """A conversion to the smaller model.

    Args:
        changes: of its layers, by layer.
        fits: of the gates that change.
    """

    def __init__(self, changes: dict[GatedRNN, LayerChange], fits: Fits):
        super().__init__(self._convert_layer)
        self._changes, self._fits = changes, fits
        self._fewer_inputs = {r.layer for change in changes.values() for r in change.readers}

    def _convert_layer(self, layer: Any) -> Any:
        if layer not in self._changes:
            return to_gated_layer(layer)
        change = self._changes[layer]
        return gated_copy(layer, spec=self._fits.spec(change), units=change.size)

    def copy(self, layer: Any) -> Any:
        if layer in self._fewer_inputs:  # it is built anew, with fewer inputs
            return type(layer).from_config(layer.get_config())
        return super().copy(layer)

    def carry_weights(self, layer: Any, converted: Any) -> None:
        for old, new in self.pairs():
            if isinstance(old, GatedRNN) and (old in self._changes or old in self._fewer_inputs):
                new.set_block_weights(self._blocks(old))
            elif old in self._fewer_inputs:
                new.set_weights(self._dense_weights(old))
            elif not inner_layers(old):
                new.set_weights(old.get_weights())

    def _blocks(self, layer: GatedRNN) -> Blocks:
        """The weights of a gated layer in the smaller model."""
        change = self._changes.get(layer, LayerChange(layer))
        blocks = changed_blocks(change, self._fits)
        if change.stay is not None:
            recording, reset = self._fits.recordings[layer], self._fits.reset(change)
            blocks = silence_units(layer, blocks, change.gone, recording, reset)
            blocks = keep_units(blocks, change.stay)
        gone, mean = inputs_gone(layer, self._changes.values(), self._fits)
        if len(gone):
            blocks = silence_inputs(layer, blocks, gone, mean)
            blocks = delete_inputs(layer, blocks, gone)
        return blocks

    def _dense_weights(self, layer: Any) -> list[np.ndarray]:
        gone, mean = inputs_gone(layer, self._changes.values(), self._fits)
        kernel, *bias = silence_dense(layer.get_weights(), gone, mean)
        return [np.delete(kernel, gone, axis=-2), *bias]


def inputs_gone(layer: Any, changes: Iterable[LayerChange], fits: Fits) -> tuple:
    """Returns the inputs of a layer that are units that go, and their means."""
    gone, means = [np.empty(0, int)], [np.empty(0)]
    for change in changes:
        for reader in change.readers:
            if reader.layer is layer:
                gone.append(reader.first + change.gone)
                means.append(fits.recordings[change.layer].output_mean[change.gone])
    return np.concatenate(gone), np.concatenate(means)


def build_reduced(model: Any, changes: dict[GatedRNN, LayerChange], fits: Fits) -> Any:
    """Returns a model with smaller layers, compiled like the original if that is compiled.

    Stateful layers begin with zeros.

    Args:
        model: with gated layers. It is not changed.
        changes: of its layers, by layer.
        fits: of the gates that change.
    """
    reduction = _Reduction(changes, fits)
    reduced = reduction.convert(model)
    if not reduced.built:
        reduced.build_from_config(model.get_build_config())
    reduction.carry_state(model, reduced)
    reduction.compile_models()
    reset_states(reduced)
    return reduced
