"""The search of `slim`: survey the model, take a step, train, keep it or put it back.

A step that was rejected is not tried again, and neither is one that takes away more. The search is
written to a folder after each step, so that it goes on where it was stopped.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_gated.convert.keras_models import from_keras
from keras_gated.convert.layer_copies import compile_afresh
from keras_gated.reduction.data import Data
from keras_gated.reduction.gate_rows import GateRow
from keras_gated.reduction.model_graph import reset_states
from keras_gated.reduction.search_log import SearchLog
from keras_gated.reduction.slim_result import Point
from keras_gated.reduction.steps import is_part_of
from keras_gated.reduction.survey import Surveyor
from keras_gated.spec.parts import Gate

# A step is not tried if it costs more, before training, than this share of the loss, and more than
# this share of what the worst step costs: at a loss near 0 the first alone would leave none.
HOPELESS, HARMLESS = 0.25, 0.02
TINY = 0.002  # and neither is one that saves less than this share of the weights


@dataclass(frozen=True)
class Goal:
    """What is compared, and how much worse it may become.

    Attributes:
        monitor: name of a value among the logs of `fit` ("val_loss").
        sign: 1 if less is better, -1 if more is.
        tolerance: relative to the value of the model given.
        start: that value.
    """

    monitor: str
    sign: float
    tolerance: float
    start: float

    @property
    def limit(self) -> float:
        """The worst value that is accepted."""
        return self.start + self.sign * self.tolerance * abs(self.start)

    def better(self, value: float, than: float) -> bool:
        """Whether a value is better than another one, which may be NaN."""
        return self.sign * value < self.sign * than or (np.isnan(than) and not np.isnan(value))

    def within(self, value: float) -> bool:
        """Whether a value is accepted."""
        return bool(np.isfinite(value)) and self.sign * (value - self.limit) <= 0


def value_of(model: Any, monitor: str, validation: Data) -> float:
    """Returns the monitored value of a model on the validation data.

    Raises:
        ValueError: if the model has no such value.
    """
    reset_states(model)
    logs = model.evaluate(**validation.fit, verbose=0, return_dict=True)
    values = {f"val_{name}": value for name, value in logs.items()}
    if monitor not in values:
        raise ValueError(
            f"Argument `monitor` must be one of {', '.join(values)}. Received: "
            f"monitor={monitor!r}. Compile the model with that metric."
        )
    return float(values[monitor])


class _KeepBest(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the best monitored value, or those of the start."""

    def __init__(self, goal: Goal, value: float, weights: list):
        super().__init__()
        self.goal, self.value, self.weights = goal, value, weights

    def on_epoch_end(self, epoch, logs=None):
        value = float((logs or {})[self.goal.monitor])
        if self.goal.better(value, self.value):
            self.value, self.weights = value, self.model.get_weights()


class Search:
    """One search.

    Args:
        goal: which models are accepted.
        train, validation: the data.
        epochs, seeds: of each training.
        native: whether a cell that has a native ONNX operator must keep one.
        log: where the search is recorded.
    """

    def __init__(
        self,
        goal: Goal,
        train: Data,
        validation: Data,
        epochs: int,
        seeds: int,
        native: bool,
        log: SearchLog,
    ):
        self.goal, self.train, self.validation = goal, train, validation
        self.epochs, self.seeds, self.native, self.log = epochs, seeds, native, log
        self.untried = 0  # steps of the last survey that seemed to cost too much

    def run(self, start: Point) -> Iterator[tuple[GateRow | None, Point, int]]:
        """Yields (step, the smaller model, how many steps may follow) for each step that is tried.

        At the end follows the control with None as its step: the model given, trained for as many
        epochs as all steps on the path.
        """
        rejected: list[GateRow] = []
        path = [start]
        while True:
            survey = Surveyor(path[-1].model, fit_on=self.train.inputs, **self.validation.fit)
            rows = self._rows(survey, rejected)
            for i, row in enumerate(rows):
                point = self._try(row, survey, len(path))
                yield row, point, len(rows) - 1 - i
                if point.accepted:
                    path.append(point)
                    break
                rejected.append(row)
            else:
                break
        yield None, self._control(start, len(path) - 1), 0

    def _rows(self, survey: Surveyor, rejected: list[GateRow]) -> list[GateRow]:
        """The steps to try, best first."""
        report = survey.report()
        native = {name for name in survey.reducer.layers if self.native and survey.is_native(name)}
        costs = [row.increase for row in report.rows if np.isfinite(row.increase)]
        most = max(HOPELESS, self.goal.tolerance) * abs(report.loss)
        most = max(most, HARMLESS * max(costs, default=0.0))
        self.untried = sum(not row.increase <= most for row in report.rows)
        return [
            row
            for row in report.rows
            if row.increase <= most
            and row.weights >= TINY * report.parameters
            and not (row.operator == "Scan" and row.layer in native)
            and not any(_takes_more(row, other) for other in rejected)
        ]

    def _try(self, row: GateRow, survey: Surveyor, depth: int) -> Point:
        """The point behind a step: the smaller model, trained with each seed."""
        key = [depth, row.layer, row.part, row.becomes]
        if (known := self.log.find(key)) is not None:
            return known
        values, model = self._train(survey.reduced(row), depth)
        what = row.becomes if row.part == "units" else f"{row.part} gate: {row.becomes}"
        title = f"{row.layer}, {what}"
        accepted = len(values) == self.seeds and self.goal.within(float(np.median(values)))
        point = Point(title, row.changes, model.count_params(), tuple(values), accepted, model)
        self.log.add(key, point)
        return point

    def _train(self, model: Any, depth: int, epochs: int | None = None) -> tuple[list[float], Any]:
        """Monitored values for each seed, up to the first that is rejected, and the first model."""
        start, values = model.get_weights(), []
        best = start
        for seed in range(self.seeds):
            model.set_weights(start)
            values.append(self._train_once(model, 1000 * depth + seed, epochs or self.epochs))
            best = model.get_weights() if seed == 0 else best
            if not self.goal.within(values[-1]) and epochs is None:
                break
        model.set_weights(best)
        return values, model

    def _train_once(self, model: Any, seed: int, epochs: int) -> float:
        keras.utils.set_random_seed(seed)
        compile_afresh(model, model)
        first = value_of(model, self.goal.monitor, self.validation)
        best = _KeepBest(self.goal, first, model.get_weights())
        data = self.train.fit | {"validation_data": self.validation.given}
        shuffle = self.train.shuffled_by_keras
        model.fit(**data, epochs=epochs, callbacks=[best], shuffle=shuffle, verbose=0)
        model.set_weights(best.weights)
        return best.value

    def _control(self, start: Point, steps: int) -> Point:
        key = ["control"]
        if (known := self.log.find(key)) is not None:
            return known
        model = from_keras(start.model)
        values, model = self._train(model, 0, max(1, steps) * self.epochs)
        title = "the model given, trained as long"
        point = Point(title, {}, model.count_params(), tuple(values), True, model)
        self.log.add(key, point)
        return point


def _takes_more(row: GateRow, rejected: GateRow) -> bool:
    """Whether a step takes away at least what a rejected one does."""
    if (row.layer, row.part) != (rejected.layer, rejected.part):
        return False
    old, new = (next(iter(r.changes[r.layer].values())) for r in (rejected, row))
    if row.part == "units":
        return new <= old
    if isinstance(old, Gate):
        alone = old.kernel is old.recurrent_kernel is None and not old.peephole
        return is_part_of(new, old) if isinstance(new, Gate) else alone and _is_constant(new)
    return new == old


def _is_constant(value: Any) -> bool:
    return isinstance(value, float) or value == "mean"
