"""Evaluates the ways to make a model smaller. Nothing is trained.

One model is compiled. A smaller gate is a setting of its weights (`embedded`), so that each way
takes an evaluation and no compilation.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from keras_gated.layers import GatedRNN
from keras_gated.reduction.gate_rows import GateReport, GateRow
from keras_gated.reduction.model_graph import reset_states
from keras_gated.reduction.reduce_gates import Reducer, joint_option
from keras_gated.reduction.reduced_model import LayerChange, build_reduced, copying, embedded
from keras_gated.reduction.steps import MEAN, Step, is_diagonal, steps_of
from keras_gated.reduction.units import input_kernels
from keras_gated.spec.describe import count_flops, count_parameters
from keras_gated.spec.normal_form import resolve
from keras_gated.spec.onnx_operator import find_native_operator
from keras_gated.spec.parts import Gate, Tied

SHARES = (7 / 8, 3 / 4, 1 / 2)  # of the units of a layer, that are tried
LEAST = 1e-3  # a loss that rises by less than this share of it counts as this share


class Surveyor:
    """Evaluates ways to make a model smaller on data.

    Args:
        model, x, y, sample_weight, seed: as in `gate_report`.
        fit_on: inputs on which gates are fitted, x by default.
    """

    def __init__(
        self,
        model: Any,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        seed: int = 0,
        fit_on: Any = None,
    ):
        check_compiled(model)
        self.reducer = Reducer(model, x if fit_on is None else fit_on, seed)
        self._data = {"x": x, "y": y, "sample_weight": sample_weight, "verbose": 0}
        self.loss = self._evaluate(self.reducer.model)
        check_finite(self.loss)

    def report(self, verbose: int = 0) -> GateReport:
        """Returns the report. It has no rows if nothing can become smaller."""
        ways = list(self._ways())
        bar = keras.utils.Progbar(len(ways), verbose=verbose, unit_name="way")
        rows = []
        for way in ways:
            rows.append(self._row(*way))
            bar.add(1)
        rows.sort(key=self._worth, reverse=True)
        return GateReport(self.loss, self.reducer.model.count_params(), tuple(rows))

    def reduced(self, row: GateRow) -> Any:
        """Returns the smaller model of a row."""
        return self.reducer.reduce(row.changes, row.fitted)

    def is_native(self, name: str) -> bool:
        """Whether a native ONNX operator computes the cell of a layer."""
        return find_native_operator(self.reducer.layers[name].cell.form).operator is not None

    def _worth(self, row: GateRow) -> float:
        """Weights that go for what the loss rises."""
        if math.isnan(row.loss):
            return 0.0
        return row.weights / max(row.increase, LEAST * abs(self.loss), 1e-12)

    def _ways(self) -> Iterator[tuple[str, str, str, dict]]:
        """(layer, part, title, changes) of each way to try."""
        for name, layer in self.reducer.layers.items():
            for step in self._steps(layer):
                value = "mean" if step.becomes is MEAN else step.becomes
                yield name, step.gate, step.title, {name: {f"{step.gate}_gate": value}}
            for units in sorted({int(share * layer.units) for share in SHARES}, reverse=True):
                changes = self.reducer.units_changes(name, units)
                if changes is not None:
                    yield name, "units", f"{units} unit{'s' * (units > 1)}", changes

    def _steps(self, layer: GatedRNN) -> list[Step]:
        cell = layer.cell
        steps = [] if joint_option(cell) else steps_of(cell.spec)
        # With a projected output h has fewer entries than there are units.
        return [s for s in steps if not (cell.projection_units and is_diagonal(s.becomes))]

    def _row(self, name: str, part: str, title: str, values: dict[str, Any]) -> GateRow:
        changes = self.reducer.layer_changes(values)
        loss, fitted = self._best_loss(changes)
        counts = [self._counts(change) for change in changes.values()]
        change = changes[self.reducer.layers[name]]
        form = resolve(self.reducer.fits.spec(change))
        return GateRow(
            layer=name,
            part=part,
            becomes=title,
            loss=loss,
            increase=loss - self.loss,
            weights=sum(weights for weights, _ in counts),
            flops=sum(flops for _, flops in counts),
            explained=None if part == "units" else self._explained(change, part),
            operator=find_native_operator(form).operator or "Scan",
            changes=values,
            fitted=fitted,
        )

    def _counts(self, change: LayerChange) -> tuple[int, int]:
        """The weights and the operations of a time step that go: of the cell, and behind it."""
        layer, spec = change.layer, self.reducer.fits.spec(change)
        inputs, projected = layer.input_spec.axes[-1], layer.cell.projection_units
        full, smaller = (layer.cell.spec, inputs, layer.units), (spec, inputs, change.size)
        behind = sum(
            len(change.gone) * kernel.shape[1]
            for reader in change.readers
            for kernel in input_kernels(reader.layer)
        )
        if projected:  # counts of a specification know nothing of it
            sizes = [resolve(s).shapes(f, u, projected).values() for s, f, u in (full, smaller)]
            weights = sum(map(math.prod, sizes[0])) - sum(map(math.prod, sizes[1]))
            return weights, 2 * weights
        weights = count_parameters(*full) - count_parameters(*smaller) + behind
        return weights, count_flops(*full) - count_flops(*smaller) + 2 * behind

    def _best_loss(self, changes: dict[GatedRNN, LayerChange]) -> tuple[float, bool]:
        """The loss with weights fitted or copied, whichever is better, and whether fitted."""
        fitted = self._loss_of(changes)
        if not any(isinstance(v, Gate) for c in changes.values() for v in c.gates.values()):
            return fitted, True
        copied = self._loss_of(copying(changes))
        better = copied < fitted or math.isnan(fitted)
        return (copied, False) if better else (fitted, True)

    def _loss_of(self, changes: dict[GatedRNN, LayerChange]) -> float:
        model, fits = self.reducer.model, self.reducer.fits
        weights = embedded(changes.values(), fits)
        if weights is None:
            return self._evaluate(build_reduced(model, changes, fits))
        with other_weights(weights):
            return self._evaluate(model)

    def _explained(self, change: LayerChange, gate: str) -> float:
        """The share of the variance of a gate that the smaller one has."""
        fits, value = self.reducer.fits, change.gates[gate]
        fit = fits.of(change.layer, gate)
        if isinstance(value, Gate):
            new = fit.activation(fit.pre_activation(fits.theta(change, gate)))
        elif isinstance(value, Tied):
            other = fits.of(change.layer, change.form.gates[gate].block).value
            new = 1.0 - other if change.form.gates[gate].complement else other
        else:
            new = fits.mean(change.layer, gate) if value is MEAN else value
        spread = fit.value.var()
        return (
            max(0.0, 1.0 - float(((fit.value - new) ** 2).mean() / spread))
            if spread > 1e-12
            else 1.0
        )

    def _evaluate(self, model: Any) -> float:
        reset_states(model)
        return float(model.evaluate(**self._data, return_dict=True)["loss"])


@contextmanager
def other_weights(weights: dict[Any, Any]) -> Iterator[None]:
    """Inside this context, layers have other weights."""
    before = {layer: layer.get_weights() for layer in weights}
    try:
        for layer, new in weights.items():
            (layer.set_block_weights if isinstance(layer, GatedRNN) else layer.set_weights)(new)
        yield
    finally:
        for layer, old in before.items():
            layer.set_weights(old)


def check_compiled(model: Any) -> None:
    """Raises a ValueError if a model has no loss."""
    if not getattr(model, "compiled", False) or getattr(model, "loss", None) is None:
        raise ValueError(
            "Argument `model` must be compiled with a loss, by which gates are judged. "
            f"Received: {model!r}. Call model.compile(optimizer, loss)."
        )


def check_finite(loss: float) -> None:
    """Raises a ValueError if a loss is infinite or NaN."""
    if not abs(loss) < float("inf"):
        raise ValueError(
            "The model must have a finite loss on the data. "
            f"Received: data with a loss of {loss}. Check the data and the weights."
        )
