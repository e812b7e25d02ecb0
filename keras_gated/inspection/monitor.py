"""What the gates do while a model is trained."""

from typing import Any

import keras
import numpy as np

from keras_gated.inspection.traces import GATES, half_life, saturation, trace_gates


class GateMonitor(keras.callbacks.Callback):
    """Logs after each epoch how saturated the gates are and how long the memory is kept.

    The logs are those of Keras: they are in `History`, in `CSVLogger`, and in `TensorBoard` where
    that callback stands behind this one.

    Args:
        x: what the model is called with, such as some sequences (B, T, F) of the validation set.
        margin: float. A gate is saturated below `margin` and above `1 - margin`.

    Logs:
        `{layer}/{gate}_closed` and `{layer}/{gate}_open`: shares of values below and above.
        `{layer}/half_life`: median over the units of the time steps in which half of the memory
        is forgotten; see `half_life`.

    Example:
        >>> model.fit(x, y, callbacks=[kg.GateMonitor(x[:32]), keras.callbacks.TensorBoard()])
    """

    def __init__(self, x: Any, margin: float = 0.1):
        super().__init__()
        if not 0.0 < margin < 0.5:
            raise ValueError(
                "Argument `margin` must be above 0 and below 0.5: the shares below it and above 1 "
                f"minus it are told. Received: margin={margin!r}."
            )
        self.x, self.margin = x, margin

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds to the epoch's logs."""
        if logs is not None:
            logs.update(self.measured())

    def measured(self) -> dict[str, float]:
        """Returns the logs of the model as it is now."""
        found = {}
        for layer, values in trace_gates(self.model, self.x).items():
            for gate in (name for name in GATES if name in values):
                shares = saturation(values[gate], self.margin)
                found |= dict(zip(_names(layer, gate), shares, strict=True))
            if "forget" in values:
                found[f"{layer}/half_life"] = float(np.median(half_life(values["forget"])))
        return found


def _names(layer: str, gate: str) -> tuple[str, str]:
    return f"{layer}/{gate}_closed", f"{layer}/{gate}_open"
