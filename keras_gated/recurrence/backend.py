"""What differs between TensorFlow, JAX and torch, behind the same names."""

from importlib import import_module

import keras

backend = import_module(f"keras_gated.recurrence.on_{keras.backend.backend()}")
