"""`gate_report`: what each smaller gate of a trained model would cost and save."""

from typing import Any

from keras_gated.reduction.gate_rows import GateReport
from keras_gated.reduction.retracing import without_retracing_warnings
from keras_gated.reduction.survey import Surveyor


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
