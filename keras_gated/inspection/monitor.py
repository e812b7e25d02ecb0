"""`GateMonitor`: a callback that logs saturation and half-life of the gates during training."""

from typing import Any

import keras
import numpy as np

from keras_gated.inspection.traces import GATES, half_life, saturation, trace_gates


class GateMonitor(keras.callbacks.Callback):
    """A Keras callback that logs after each epoch how saturated the gates are, and the half-life.

    The values are added to Keras's logs: they are in `History` and in `CSVLogger`, and in
    `TensorBoard` if that callback comes after this one.

    Args:
        x: what the model is called with, e.g. some sequences (B, T, F) of the validation set.
        margin: float. A gate is saturated if its value is below `margin` or above `1 - margin`.

    Logs:
        `{layer}/{gate}_closed` and `{layer}/{gate}_open`: shares of values below and above.
        `{layer}/half_life`: median over the units of the time steps in which half of the memory
        is forgotten; see `half_life`.

    Raises:
        ValueError: if `margin` is not between 0 and 0.5.

    Example:
        >>> x, y = np.ones((4, 5, 3), "float32"), np.ones((4, 2), "float32")
        >>> model = keras.Sequential([kg.GatedGRU(2, name="gru")])
        >>> model.compile("sgd", "mse")
        >>> history = model.fit(x, y, verbose=0, callbacks=[kg.GateMonitor(x)])
        >>> [name for name in history.history if "forget" in name]
        ['gru/forget_closed', 'gru/forget_open']
    """

    def __init__(self, x: Any, margin: float = 0.1):
        super().__init__()
        if not 0.0 < margin < 0.5:
            raise ValueError(
                "Argument `margin` must be above 0 and below 0.5: a gate counts as closed below it "
                f"and as open above 1 - margin. Received: margin={margin!r}."
            )
        self.x, self.margin = x, margin

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds the values of `measured` to the logs of the epoch."""
        if logs is not None:
            logs.update(self.measured())

    def measured(self) -> dict[str, float]:
        """Returns the logs of the model with its present weights."""
        logs = {}
        for layer, values in trace_gates(self.model, self.x).items():
            for gate in (name for name in GATES if name in values):
                closed, opened = saturation(values[gate], self.margin)
                logs |= {f"{layer}/{gate}_closed": closed, f"{layer}/{gate}_open": opened}
            if "forget" in values:
                logs[f"{layer}/half_life"] = float(np.median(half_life(values["forget"])))
        return logs
