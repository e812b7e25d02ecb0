"""What differs between TensorFlow, JAX and torch, behind the same names."""

from importlib import import_module

import keras

backend = import_module(f"keras_gated.recurrence.on_{keras.backend.backend()}")


def accelerated() -> bool:
    """Whether the backend computes on an accelerator, such as a GPU."""
    return any(not name.startswith("cpu") for name in keras.distribution.list_devices())
