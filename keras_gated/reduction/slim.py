"""`slim`: takes away what a trained model does not need, step by step, and trains in between."""

import os
import time
from numbers import Real
from typing import Any

from rich.console import Console

from keras_gated.convert.keras_models import from_keras
from keras_gated.reduction.data import Data
from keras_gated.reduction.retracing import without_retracing_warnings
from keras_gated.reduction.search import Goal, Search, value_of
from keras_gated.reduction.search_log import SearchLog, fingerprint
from keras_gated.reduction.slim_result import Point, SlimResult
from keras_gated.reduction.survey import check_compiled, check_finite
from keras_gated.spec.parts import check_positive

# Parts of the names of values of which less is better, and of those of which more is.
LESS = ("error", "mse", "mae", "mape", "msle", "entropy", "perplexity", "poisson", "divergence")
GREATER = ("acc", "auc", "precision", "recall", "similarity", "score", "iou", "correlation")
TARGETS = ("weights", "bytes")


def slim(
    model: Any,
    train: Any,
    validation: Any,
    *,
    monitor: str = "val_loss",
    mode: str = "auto",
    tolerance: float = 0.01,
    epochs: int = 10,
    seeds: int = 1,
    target: str = "weights",
    folder: str | os.PathLike | None = None,
    verbose: int = 1,
) -> SlimResult:
    """Takes away the gates and units that a trained model does not need.

    Each round asks `gate_report` what the steps would cost, and tries them, best first: the model
    is made smaller, trained for some epochs, and accepted if its monitored value is within the
    tolerance. A step that is rejected is not tried again, and one that costs much more than the
    tolerance before training is not tried at all. The search ends when no step is left.

    Args:
        model: a compiled and trained Sequential or functional model with recurrent layers, Keras's
            LSTM, GRU and SimpleRNN included. It is not changed.
        train, validation: (x, y), (x, y, sample_weight), or datasets of batches: a
            `tf.data.Dataset`, a `PyDataset`. Gates are fitted and the model is trained on the
            first; steps are judged on the second. Keep a third set for the final test.
        monitor: name of a validation value among the logs of `model.fit`.
        mode: "min", "max", or "auto": by the name of the monitored value.
        tolerance: float >= 0, by how much the monitored value may become worse, relative to its
            value for the model given.
        epochs: int > 0, of the training behind each step, with a fresh optimizer. The weights of
            the best epoch stay.
        seeds: int > 0. With several, each smaller model is trained with each seed, and the median
            decides.
        target: "weights", or "bytes": of the ONNX file. Then no step is taken that would need a
            Scan in place of a native operator.
        folder: where the search is recorded, or None. With the same folder and arguments it goes on
            where it was stopped.
        verbose: 0 or 1, whether to print a line for each step.

    Returns:
        A `SlimResult`: `.model`, the path with all models on it, and a control, the model given,
        trained as long. If nothing smaller is as good, the path is the model given alone.

    Raises:
        ValueError: if the model is not compiled or has no recurrent layer, an argument has a wrong
            value, or the monitored value is not finite.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(32, 10, 3)).astype("float32")
        >>> y = x.sum(axis=1)
        >>> model = keras.Sequential([keras.layers.LSTM(2, name="lstm"), keras.layers.Dense(3)])
        >>> model.compile("adam", "mse")
        >>> history = model.fit(x, y, verbose=0)
        >>> result = kg.slim(model, (x, y), (x, y), tolerance=0.1, epochs=1, verbose=0)
        >>> result.model.count_params() < model.count_params()
        True
    """
    check_compiled(model)
    _check_choices(mode=(mode, ("auto", "min", "max")), target=(target, TARGETS))
    _check_tolerance(tolerance)
    counts = {"epochs": check_positive(epochs, "epochs"), "seeds": check_positive(seeds, "seeds")}
    learned, judged = Data.of(train, "train"), Data.of(validation, "validation")
    start = from_keras(model)
    value = value_of(start, monitor, judged)
    check_finite(value)
    goal = Goal(monitor, direction_of(monitor, mode), float(tolerance), value)
    settings = {"monitor": monitor, "mode": mode, "tolerance": float(tolerance), "target": target}
    settings |= counts | _fingerprints(start, train, validation) | _compiled_with(start)
    log = SearchLog(folder, settings, start)
    search = Search(goal, learned, judged, **counts, native=target == "bytes", log=log)
    first = Point("the model given", {}, start.count_params(), (value,), True, start)
    with without_retracing_warnings():
        return _run(search, first, verbose)


def _run(search: Search, first: Point, verbose: int) -> SlimResult:
    """Runs a search to its end, and prints its steps."""
    console, began = Console(quiet=not verbose), time.monotonic()
    console.print(f"{first.weights:,} weights, {search.goal.monitor} {first.value:.4f}")
    accepted, rejected, control = [first], [], first
    for number, (row, point, left) in enumerate(search.run(first), start=1):
        if row is None:
            control = point
        else:
            (accepted if point.accepted else rejected).append(point)
        minutes = left * (time.monotonic() - began) / number / 60
        rest = f", at most {minutes:.0f} min to the end of this round" if left else ""
        verdict = "accepted" if point.accepted else f"rejected (limit {search.goal.limit:.4f})"
        numbers = f"{point.weights:,} weights, {search.goal.monitor} {point.value:.4f}"
        line = f"{point.title}: {numbers}, {verdict if row else 'control'}{rest}"
        console.print(line, soft_wrap=True, highlight=False)
    return SlimResult(
        tuple(accepted),
        tuple(rejected),
        control,
        search.goal.monitor,
        search.goal.limit,
        search.goal.sign,
        search.untried,
    )


def _fingerprints(model: Any, train: Any, validation: Any) -> dict[str, str | None]:
    """Digests of the model and the data. Of datasets there is none: they may be large."""
    data = {"train": train, "validation": validation}
    found = {k: fingerprint(v) if isinstance(v, tuple) else None for k, v in data.items()}
    return {"model": fingerprint(model.get_weights()), **found}


def _compiled_with(model: Any) -> dict[str, str]:
    """The optimizer, its settings and the loss, as text."""
    loss = model.loss if isinstance(model.loss, str) else getattr(model.loss, "__name__", None)
    loss = loss or type(model.loss).__name__
    return {"optimizer": str(model.optimizer.get_config()), "loss": loss}


def direction_of(monitor: str, mode: str) -> float:
    """Returns 1 if less of a monitored value is better, -1 if more is.

    Raises:
        ValueError: if the mode is "auto" and the name does not say it.
    """
    if mode != "auto":
        return 1.0 if mode == "min" else -1.0
    name = monitor.lower()
    if name.endswith("loss") or any(part in name for part in LESS):
        return 1.0
    if any(part in name for part in GREATER):
        return -1.0
    raise ValueError(
        "Argument `mode` must be 'min' or 'max' for a value whose name does not say which is "
        f"better. Received: mode='auto' with monitor={monitor!r}."
    )


def _check_choices(**choices: tuple) -> None:
    for name, (value, known) in choices.items():
        if value not in known:
            raise ValueError(
                f"Argument `{name}` must be one of {', '.join(map(repr, known))}. "
                f"Received: {name}={value!r}."
            )


def _check_tolerance(tolerance: Any) -> None:
    number = isinstance(tolerance, Real) and not isinstance(tolerance, bool)
    if not number or not 0 <= float(tolerance) < float("inf"):
        raise ValueError(
            "Argument `tolerance` must be a number >= 0: the share by which the monitored value "
            f"may become worse. Received: tolerance={tolerance!r}."
        )
