"""Chooses the module of Keras's backend: the engine imports `backend` from here."""

from importlib import import_module

import keras

NAMES = ("tensorflow", "jax", "torch")


class UnsupportedBackend:
    """Stands for a backend without training, such as NumPy.

    Specifications work there: they can be listed, printed and counted. Running a layer raises.
    """

    def __getattr__(self, name: str):
        raise RuntimeError(
            f"The layers of keras_gated run on Keras's backends {', '.join(NAMES)}. Received: "
            f"{keras.backend.backend()!r}. Set the variable KERAS_BACKEND before keras is imported."
        )


_name = keras.backend.backend()
backend = (
    import_module(f"keras_gated.engine.backends.{_name}")
    if _name in NAMES
    else UnsupportedBackend()
)
