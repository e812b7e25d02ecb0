"""The device that Keras's backend computes on, and in which precision it multiplies there."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import keras

BACKEND = keras.backend.backend()
# By name, Keras's dtype policy; TF32 rounds what is multiplied to 11 bits and adds up in float32.
PRECISIONS = {"TF32": "float32", "bfloat16": "mixed_bfloat16", "float32": "float32"}


def gpu() -> str | None:
    """Returns the name of the GPU that the backend computes on, None if it sees none."""
    if BACKEND == "jax":
        import jax

        return jax.devices()[0].device_kind if jax.default_backend() == "gpu" else None
    if BACKEND == "tensorflow":
        import tensorflow as tf

        found = tf.config.list_physical_devices("GPU")
        details = tf.config.experimental.get_device_details(found[0]) if found else {}
        return details.get("device_name", "GPU") if found else None
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def runtime() -> str:
    """Returns the versions of CUDA and cuDNN, as far as the backend tells them."""
    if BACKEND == "jax":
        from jax.extend.backend import get_backend

        return ", ".join(get_backend().platform_version.split("\n"))
    if BACKEND == "tensorflow":
        import tensorflow as tf

        build = tf.sysconfig.get_build_info()
        return ", ".join(f"{k} {build[k]}" for k in ("cuda_version", "cudnn_version") if k in build)
    import torch

    return f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Inside, what is made and run computes in a precision, one of `PRECISIONS`."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(PRECISIONS[name])
    try:
        with ExitStack() as within:
            within.enter_context(tf32(name != "float32"))
            if BACKEND == "torch" and name == "bfloat16":  # for torch's own layers
                within.enter_context(_autocast())
            yield
    finally:
        keras.config.set_dtype_policy(before)


@contextmanager
def tf32(on: bool) -> Iterator[None]:
    """Inside, products in float32 are taken in TF32 where the device has it, or never."""
    before, switch = _switch()
    switch(on)
    try:
        yield
    finally:
        switch(before)


def _autocast():
    import torch

    return torch.autocast("cuda" if torch.cuda.is_available() else "cpu", torch.bfloat16)


def _switch() -> tuple:
    """Whether TF32 is on, and what switches it."""
    if BACKEND == "tensorflow":
        from tensorflow import config

        return (
            config.experimental.tensor_float_32_execution_enabled(),
            config.experimental.enable_tensor_float_32_execution,
        )
    return _switch_of_jax() if BACKEND == "jax" else _switch_of_torch()


def _switch_of_jax() -> tuple:
    import jax

    # Of the process and not of a thread: what is measured is compiled in several.
    def switch(on):
        jax.config.update("jax_default_matmul_precision", "default" if on else "highest")

    return jax.config.jax_default_matmul_precision in (None, "default"), switch


def _switch_of_torch() -> tuple:
    import torch

    # By torch's older names: its compiler reads these, and refuses to where the newer are set.
    def switch(on):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = on

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.backends.cuda.matmul.allow_tf32, switch
