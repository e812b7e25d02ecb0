"""What differs between TensorFlow, JAX and torch, behind the same names."""

from importlib import import_module

import keras

NAMES = ("tensorflow", "jax", "torch")


class UnsupportedBackend:
    """Stands where Keras runs on what trains nothing, such as NumPy: cells can be told of there."""

    def __getattr__(self, name: str):
        raise RuntimeError(
            f"The layers of keras_gated run on Keras's backends {', '.join(NAMES)}. Received: "
            f"{keras.backend.backend()!r}. Set KERAS_BACKEND before keras is imported."
        )


_name = keras.backend.backend()
backend = (
    import_module(f"keras_gated.engine.backends.{_name}")
    if _name in NAMES
    else UnsupportedBackend()
)
