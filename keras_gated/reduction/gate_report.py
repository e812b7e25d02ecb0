"""`gate_report`: what each smaller gate of a trained model would cost and save. Nothing is trained.

One model is compiled. A smaller gate is a setting of its weights (`embedded`), so that each line
takes an evaluation and no compilation.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import keras

from keras_gated.layers import GatedRNN
from keras_gated.reduction.reduce_gates import Reducer
from keras_gated.reduction.reduced_model import LayerChange, build_reduced, embedded
from keras_gated.reduction.retracing import without_retracing_warnings
from keras_gated.reduction.steps import MEAN, Step, steps_of
from keras_gated.reduction.units import input_kernels
from keras_gated.spec.describe import count_flops, count_parameters
from keras_gated.spec.normal_form import resolve
from keras_gated.spec.onnx_operator import find_native_operator
from keras_gated.spec.parts import Gate, Tied

SHARES = (7 / 8, 3 / 4, 1 / 2)  # of the units of a layer, that are tried
LEAST = 1e-3  # a loss that rises by less than this share of it counts as this share


@dataclass(frozen=True)
class GateRow:
    """One way to make one layer smaller.

    Attributes:
        layer: name of the layer.
        part: name of the gate ("forget"), or "units".
        becomes: what the gate becomes, in words.
        loss: of the smaller model, without training.
        increase: by how much the loss is higher than that of the full model.
        weights: number of weights that go.
        flops: floating-point operations of a time step that go.
        explained: the share of the variance of the gate's values that the smaller gate still has,
            at least 0; None for units.
        operator: the ONNX operator that computes the smaller cell ("LSTM", "GRU", "RNN", "Scan").
        changes: what `reduce_gates` takes.
        fitted: whether the weights that stay are fitted (the alternative, copied, is not better).
    """

    layer: str
    part: str
    becomes: str
    loss: float
    increase: float
    weights: int
    flops: int
    explained: float | None
    operator: str
    changes: dict[str, dict[str, Any]]
    fitted: bool = True

    @property
    def bytes(self) -> int:
        """The bytes that go from a float32 ONNX file."""
        return 4 * self.weights


@dataclass(frozen=True)
class GateReport:
    """What each smaller gate of a model would cost and save. `gate_report` returns it.

    Attributes:
        loss: of the full model on the data.
        parameters: number of weights of the full model.
        rows: the ways to make it smaller. The first one saves most weights for what it costs.
    """

    loss: float
    parameters: int
    rows: tuple[GateRow, ...]

    @property
    def best(self) -> GateRow:
        """The first row."""
        return self.rows[0]

    def __str__(self) -> str:
        head = f"loss {self.loss:.4f}, {self.parameters:,} weights"
        names = ("layer", "part", "becomes", "loss", "change", "weights", "variance", "ONNX")
        lines = [names, *map(self._cells, self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
        left = (0, 1, 2, 7)
        aligned = [
            "  ".join(
                cell.ljust(width) if i in left else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        return "\n".join([head, *aligned])

    def _cells(self, row: GateRow) -> tuple[str, ...]:
        explained = "" if row.explained is None else f"{row.explained:.0%}"
        change = f"{row.increase / abs(self.loss):+.2%}" if self.loss else f"{row.increase:+.4f}"
        numbers = (f"{row.loss:.4f}", change, f"-{row.weights:,}", explained)
        return (row.layer, row.part, row.becomes, *numbers, row.operator)

    def plot(self) -> Any:
        """Returns a figure of matplotlib: the weights that go against the change of the loss.

        Raises:
            ImportError: if matplotlib is missing.
        """
        from keras_gated.reduction.figures import plot_report

        return plot_report(self)


def gate_report(
    model: Any, x: Any, y: Any = None, *, sample_weight: Any = None, seed: int = 0, verbose: int = 1
) -> GateReport:
    """Says what each gate of a trained model does: what the loss is without it, or with less of it.

    Nothing is trained, and the model is not changed. For each gate with weights: without its
    recurrent kernel, with a diagonal one, without its kernel, without its peephole, as a constant
    for each unit, as one constant, absent, and as a copy of another gate or its complement. For
    each layer: with fewer units.

    Args:
        model: a compiled Sequential or functional model with recurrent layers, Keras's LSTM, GRU
            and SimpleRNN included.
        x, y, sample_weight: data as `model.evaluate` takes them: arrays, or a `tf.data.Dataset` or
            `PyDataset` alone.
        seed: int, of the time steps (at most 4,096) on which gates are fitted.
        verbose: 0 or 1, whether to show the progress.

    Returns:
        A `GateReport`. It prints as a table, whose first line is what to do first, and each of its
        rows has the dictionary `changes` for `reduce_gates`.

    Raises:
        ValueError: if the model is not compiled with a loss, has no recurrent layer or no gate, or
            if the loss is not finite on the data.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x, y = rng.normal(size=(16, 10, 3)).astype("float32"), rng.normal(size=(16, 2))
        >>> model = keras.Sequential([keras.layers.LSTM(4, name="lstm"), keras.layers.Dense(2)])
        >>> model.compile("adam", "mse")
        >>> history = model.fit(x, y, verbose=0)
        >>> report = kg.gate_report(model, x, y, verbose=0)
        >>> smaller = kg.reduce_gates(model, report.best.changes, x)
    """
    with without_retracing_warnings():
        report = Surveyor(model, x, y, sample_weight, seed).report(verbose)
    if not report.rows:
        raise ValueError(
            "Argument `model` must have a gate with weights, or units that can go. "
            f"Received: {model!r}, with neither."
        )
    return report


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
        changes = self.reducer.layer_changes(row.changes)
        if not row.fitted:
            changes = {k: replace(c, copy_weights=frozenset(c.gates)) for k, c in changes.items()}
        return build_reduced(self.reducer.model, changes, self.reducer.fits)

    def is_native(self, name: str) -> bool:
        """Whether a native ONNX operator computes the cell of a layer."""
        return find_native_operator(self.reducer.layers[name].cell.form).operator is not None

    def _worth(self, row: GateRow) -> float:
        """Weights that go for what the loss rises."""
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
        together = cell.layer_norm or cell.batch_norm or cell.spec.gate_recurrence
        return [] if together else steps_of(cell.spec)

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
        full = (layer.cell.spec, layer.input_spec.axes[-1], layer.units)
        smaller = (spec, layer.input_spec.axes[-1], change.size)
        behind = sum(
            len(change.gone) * kernel.shape[1]
            for reader in change.readers
            for kernel in input_kernels(reader.layer)
        )
        weights = count_parameters(*full) - count_parameters(*smaller) + behind
        return weights, count_flops(*full) - count_flops(*smaller) + 2 * behind

    def _best_loss(self, changes: dict[GatedRNN, LayerChange]) -> tuple[float, bool]:
        """The loss with weights fitted or copied, whichever is better, and whether fitted."""
        fitted = self._loss_of(changes)
        if not any(isinstance(v, Gate) for c in changes.values() for v in c.gates.values()):
            return fitted, True
        copies = {k: replace(c, copy_weights=frozenset(c.gates)) for k, c in changes.items()}
        copied = self._loss_of(copies)
        return min(fitted, copied), not copied < fitted

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
